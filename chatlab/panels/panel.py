"""Panel: what all panels share.

A panel is a view and verbs. The *view* is a dictionary of plain values that the browser
draws; :meth:`Panel.look` makes it from the lab, and the pump sends it when it has changed. A
*verb* is a method ``do_send(text)``; the browser asks for it by a message
``{"do": "send", "text": "hola"}``, a test or a cell by :meth:`Panel.do` or by the label of a
button, :meth:`Panel.click`. Verbs that the browser asks for are done one after the other in a
thread of the panel's own, because some wait for a broker and the kernel must go on; an error
becomes the panel's *note*, three words long to read: what happened, whether it took effect,
what to do.

:class:`Card` is that much of it: a widget that needs no lab and does its verbs at once.

The browser sets text, never HTML, so whatever a user writes is shown as it was written.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from chatlab.errors import ChatlabError, InvalidInput
from chatlab.panels.pump import PUMP
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import Lab

#: A panel has at most so many clicks waiting to be done; more are refused.
WAITING_CLICKS = 100

_LOOK = Path(__file__).parent / "look"
#: What a panel stands for -> the one that is shown; running its cell again replaces it.
_shown: dict[Any, Card] = {}


@cache
def look_of(name: str) -> str:
    """The script (``column.js``) with what all share before it, or a style."""
    common = "common" + Path(name).suffix
    return "\n".join((_LOOK / file).read_text(encoding="utf-8") for file in (common, name))


class Card(anywidget.AnyWidget):
    """One widget: a view and verbs.

    Args:
        key: what it stands for; a card with the key of another one replaces it.
    """

    #: What the browser draws.
    view = traitlets.Dict().tag(sync=True)
    #: The verbs that the browser may ask for.
    VERBS: ClassVar[frozenset[str]] = frozenset()

    _key: tuple[Any, ...] = ()

    def __init__(self, *key: Any) -> None:
        self._key = (type(self).__name__, *key)
        #: What went wrong at the last click; empty: nothing.
        self._note = ""
        self._over = ""
        self._lock, self._looking = threading.Lock(), threading.Lock()
        super().__init__()
        self.on_msg(self._asked)

    def begin(self) -> None:
        """Be shown from now on, in place of the card of the same key."""
        if older := _shown.pop(self._key, None):
            older.close()
        _shown[self._key] = self
        self.refresh()

    # -- what a card adds

    def look(self) -> dict[str, Any]:
        """What the browser is to draw: plain values, bounded. A panel's is called on the
        lab's loop, so it waits for nothing."""
        raise NotImplementedError

    def table(self) -> Table:
        """The same facts as rows."""
        raise NotImplementedError

    # -- looking

    def refresh(self) -> None:
        """Look, and send what changed."""
        with self._looking:
            seen = self.look() | {"note": self._note, "over": self._over}
            if seen != self.view:
                self.view = seen

    # -- acting

    def do(self, verb: str, **args: Any) -> None:
        """What the browser's message ``{"do": verb, …}`` does; waits until it is done.

        Raises:
            InvalidInput: there is no such verb, or it takes other arguments.
            ChatlabError: as the verb does.
        """
        if verb not in self.VERBS:
            raise InvalidInput(
                f"This panel has no verb {verb!r}.", todo=f"It has: {', '.join(self.VERBS)}."
            )
        getattr(self, f"do_{verb}")(**args)

    def click(self, label: str) -> None:
        """Press the button of this label, as it is shown now; waits until it is done.

        Raises:
            InvalidInput: there is no such button now, or it cannot be pressed.
            ChatlabError: as its verb does.
        """
        self.refresh()
        buttons = {button["label"]: button for button in self.view.get("buttons", [])}
        if label not in buttons:
            raise InvalidInput(
                f"There is no button {label!r} now.", todo=f"There are: {', '.join(buttons)}."
            )
        if not buttons[label].get("on", True):
            raise InvalidInput(f"The button {label!r} cannot be pressed now.")
        self.do(buttons[label]["do"], **buttons[label].get("args", {}))

    def _asked(self, _: object, content: dict[str, Any], __: object) -> None:
        args = dict(content)
        self.ask(args.pop("do", ""), **args)

    def ask(self, verb: str, **args: Any) -> None:
        """:meth:`do` as the browser asks for it: an error is the card's note."""
        self._try(verb, args)
        self.refresh()

    def _try(self, verb: str, args: dict[str, Any]) -> None:
        try:
            self.do(verb, **args)
        except ChatlabError as error:
            self._note = " ".join(filter(None, (error.what, error.effect, error.todo)))
        except TypeError:
            self._note = f"The browser asked for {verb!r} in a way that this panel cannot do."
        else:
            self._note = ""

    def close(self) -> None:
        """Take it off the page. Idempotent."""
        if _shown.get(self._key) is self:
            del _shown[self._key]
        super().close()

    def __del__(self) -> None:
        if self._key:  # one that was refused while it was made has nothing to close
            super().__del__()


class Panel(Card):
    """A card on one lab, kept up to date by the pump.

    Args:
        lab: what is shown.
        key: what it stands for there.
    """

    def __init__(self, lab: Lab, key: Any) -> None:
        self.lab = lab
        self._hands = ThreadPoolExecutor(1, f"chatlab {type(self).__name__}")
        self._clicks: deque[Future[None]] = deque()
        super().__init__(lab.name, key)

    def begin(self) -> None:
        """Be kept up to date from now on, in place of the panel of the same key."""
        super().begin()
        PUMP.add(self)

    def end(self) -> None:
        """The lab has been closed: say so and change no more."""
        self._over = f"The lab {self.lab.name} has been closed."
        self.view = {**self.view, "over": self._over}
        self._hands.shutdown(wait=False, cancel_futures=True)

    def ask(self, verb: str, **args: Any) -> None:
        """:meth:`do`, in the panel's own thread: waits for nothing; an error is its note."""
        with self._lock:
            while self._clicks and self._clicks[0].done():
                self._clicks.popleft()
            if self._over:
                return
            if len(self._clicks) >= WAITING_CLICKS:
                self._note = "Too many clicks are waiting to be done; this one is not. Wait."
                return
            self._clicks.append(self._hands.submit(self._try, verb, args))

    def wait(self, timeout: float = 5.0) -> None:
        """Until all clicks so far have been done, at most ``timeout`` seconds."""
        for click in list(self._clicks):
            click.exception(timeout)

    def close(self) -> None:
        """Take the panel off the page. Idempotent; the lab goes on."""
        PUMP.remove(self)
        self._hands.shutdown(wait=False, cancel_futures=True)
        super().close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the lab {self.lab.name}>"
