"""Panel: what all panels share.

A panel is a view and verbs. The *view* is a dictionary of plain values that the browser
draws; :meth:`Panel.look` makes it from the lab, and the pump sends it when it has changed. A
*verb* is a method ``do_send(text)``; the browser asks for it by a message
``{"do": "send", "text": "hola"}``, a test or a cell by :meth:`Panel.do` or by the label of a
button, :meth:`Panel.click`. Verbs that the browser asks for are done one after the other in a
thread of the panel's own, because some wait for a broker and the kernel must go on; an error
becomes the panel's *note*: what happened, whether it took effect, what to do.

:class:`Card` is that much of it: a widget that needs no lab and does its verbs at once.

The browser sets text, never HTML, so whatever a user writes is shown as it was written.

A cell that is run again replaces its panels; two cells, or two calls in one, have each their
own. Outside of a notebook, where there are no cells, a panel replaces its like.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import anywidget
import traitlets

from chatlab.errors import ChatlabError, InvalidInput, LabClosed
from chatlab.panels.pump import PUMP
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import Lab

#: A panel has at most so many clicks waiting to be done; more are refused.
WAITING_CLICKS = 100

_LOOK = Path(__file__).parent / "look"
#: Those that are shown in this kernel.
_shown: list[Card] = []


@cache
def look_of(name: str) -> str:
    """The script (``column.js``) with what all share before it, or a style."""
    common = "common" + Path(name).suffix
    return "\n".join((_LOOK / file).read_text(encoding="utf-8") for file in (common, name))


class Place(NamedTuple):
    """Where a panel was made: in which cell, and at which run of it; both empty outside of a
    notebook, the cell also where the front end does not name it."""

    cell: str = ""
    run: str = ""


def place() -> Place:
    """Where this is called."""
    if "ipykernel" not in sys.modules:
        return Place()
    from IPython import get_ipython

    shell: Any = get_ipython()
    if getattr(shell, "kernel", None) is None:
        return Place()
    request = shell.get_parent()
    cell = request.get("metadata", {}).get("cellId") or ""
    return Place(str(cell), str(request.get("header", {}).get("msg_id", "")))


class Card(anywidget.AnyWidget):
    """One widget: a view and verbs.

    Args:
        key: what it stands for, where there are no cells; see :mod:`chatlab.panels.panel`.
    """

    #: What the browser draws.
    view = traitlets.Dict().tag(sync=True)
    #: The verbs that the browser may ask for; every panel also has ``hush``.
    VERBS: ClassVar[frozenset[str]] = frozenset()
    _key: tuple[Any, ...] = ()

    def __init__(self, *key: Any) -> None:
        self._key, self._place = (type(self).__name__, *key), place()
        #: What went wrong at the last click; empty: nothing.
        self._note = ""
        self._over = ""
        #: How many verbs have been done, well or not: the browser learns that one was.
        self._done = 0
        self._lock, self._looking = threading.Lock(), threading.RLock()
        super().__init__()
        # Where the browser sends its messages past a running cell (to a subshell), ipykernel
        # 7.4 would bring them back to where our last update came from, and that is the cell.
        self.comm._reply_subshell_for = lambda _data, default: default
        self.on_msg(self._asked)

    def begin(self) -> None:
        """Be shown from now on, in place of those that this one replaces."""
        self.refresh()
        for other in [card for card in _shown if card._replaced_by(self)]:
            other.close()
        _shown.append(self)

    def _replaced_by(self, new: Card) -> bool:
        if new._place.cell:
            return self._place.cell == new._place.cell and self._place.run != new._place.run
        return not new._place.run and self._key == new._key

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
            self._show(self.look())

    def _show(self, seen: dict[str, Any], note: str | None = None) -> None:
        told = {"note": self._note if note is None else note, "over": self._over}
        seen = {**seen, **told, "done": self._done}
        if seen != self.view:
            self.view = seen

    def broken(self, error: Exception) -> None:
        """It could not look: say so, and keep what was seen before."""
        what = f"This panel cannot show what is new ({type(error).__name__}: {error})."
        with self._looking:
            self._show(self.view, self._note or what)

    # -- acting

    def do(self, verb: str, /, **args: Any) -> None:
        """What the browser's message ``{"do": verb, …}`` does; waits until it is done.

        Raises:
            InvalidInput: there is no such verb, or it takes other arguments.
            ChatlabError: as the verb does.
        """
        if verb not in self.VERBS | {"hush"}:
            raise InvalidInput(
                f"This panel has no verb {verb!r}.",
                todo=f"It has: {', '.join(sorted(self.VERBS))}.",
            )
        act = getattr(self, f"do_{verb}")
        try:
            inspect.signature(act).bind(**args)
        except TypeError as error:
            raise InvalidInput(f"This panel cannot {verb} like that: {error}.") from None
        act(**args)

    def do_hush(self) -> None:
        """Take the note away: it has been read."""
        self._note = ""

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
        args = {str(name): value for name, value in content.items()}
        self._take(str(args.pop("do", "")), args)

    def ask(self, verb: str, /, **args: Any) -> None:
        """:meth:`do` as the browser asks for it: an error is the note."""
        self._take(verb, args)

    def _take(self, verb: str, args: dict[str, Any], quiet: bool = False) -> None:
        self._try(verb, args, quiet)
        self.refresh()

    def _try(self, verb: str, args: dict[str, Any], quiet: bool) -> None:
        note = ""
        try:
            self.do(verb, **args)
        except ChatlabError as error:
            note = " ".join(
                map(_sentence, filter(None, (error.what, error.effect, error.todo)))
            )
        except Exception as error:  # a mistake of ours: nobody else would see it here
            note = f"{verb} went wrong ({type(error).__name__}: {error})."
        if not quiet:
            with self._looking:
                self._note, self._done = note, self._done + 1

    # -- the end

    def close(self) -> None:
        """Take it off the page. Idempotent."""
        if not hasattr(self, "_looking"):
            return  # it was refused while it was made
        if self in _shown:
            _shown.remove(self)
        with self._looking:
            super().close()


class Panel(Card):
    """A card on one lab, kept up to date by the pump.

    Args:
        lab: what is shown.
        key: what it stands for there.
    """

    #: Verbs that wait for a broker and must not hold up others: each in a thread of its own.
    SLOW: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, lab: Lab, key: Any) -> None:
        self.lab = lab
        self._hands: Mapping[str, ThreadPoolExecutor] = defaultdict(
            lambda: ThreadPoolExecutor(1, f"chatlab {type(self).__name__}")
        )
        self._clicks: deque[Future[None]] = deque()
        super().__init__(lab.name, key)

    def begin(self) -> None:
        """Be kept up to date from now on, in place of those that this one replaces.

        Raises:
            LabClosed: its lab has been closed.
        """
        if self.lab.closed:
            raise LabClosed(f"The lab {self.lab.name} has been closed.")
        super().begin()
        PUMP.add(self)

    def end(self) -> None:
        """The lab has been closed: say so and change no more."""
        with self._looking:
            self._over = f"The lab {self.lab.name} has been closed."
            self._show(self.view)
        self._drop_clicks()

    def _take(self, verb: str, args: dict[str, Any], quiet: bool = False) -> None:
        """In a thread of the panel's own: waits for nothing."""
        with self._lock:
            while self._clicks and self._clicks[0].done():
                self._clicks.popleft()
            if self._over or self.comm is None:
                return
            if len(self._clicks) >= WAITING_CLICKS:
                self._note = "Too many clicks are waiting to be done; this one is not. Wait."
                return
            hands = self._hands[verb if verb in self.SLOW else ""]
            self._clicks.append(hands.submit(self._try, verb, args, quiet))

    def wait(self, timeout: float = 5.0) -> None:
        """Until all clicks so far have been done, at most ``timeout`` seconds."""
        for click in list(self._clicks):
            click.exception(timeout)

    def close(self) -> None:
        """Take the panel off the page. Idempotent; the lab goes on."""
        if not hasattr(self, "_looking"):
            return  # it was refused while it was made
        PUMP.remove(self)
        super().close()
        self._drop_clicks()

    def _drop_clicks(self) -> None:
        with self._lock:
            for hands in self._hands.values():
                hands.shutdown(wait=False, cancel_futures=True)

    # -- looks where there are no widgets

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the lab {self.lab.name}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget; for readers without widgets what it shows, as a table."""
        bundle = super()._repr_mimebundle_(**kwargs)
        with suppress(ChatlabError):
            if bundle is not None and len(table := self.table()):
                bundle[0]["text/html"] = table._repr_html_()
        return bundle


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
