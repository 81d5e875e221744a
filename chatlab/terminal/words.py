"""What the terminal says: errors in its own words, statuses of messages, spans of time."""

from __future__ import annotations

import time

from chatlab import errors
from chatlab.errors import ChatlabError
from chatlab.terminal.clean import harmless

#: Class of an error -> what to do about it here, where the error's own advice is for cells.
ADVICE: dict[str, str] = {
    "UnknownAccount": "Check the spelling; 4 in the menu says who is there.",
    "PeerAway": "Send it again when they are back; a chat by mailbox-redis would keep it.",
    "NameInUse": "Choose another name. The secret of this one is kept where it was made.",
    "BackendMismatch": "Connect to it as it is (2), or choose another name.",
    "Taken": "Go on in the newer window; `chatlab client` started here again takes over.",
    "ChatClosed": "Leave the conversation and open it again.",
    "NotAdmitted": "Start `chatlab client` again on the server's computer; elsewhere with "
    "--config and the invitation that it wrote.",
    "SendUncertain": "/again sends it once more under the same id: a second copy is dropped.",
}
#: What to do while there is no chat server.
START_SERVER = "start one: chatlab server"


def todo_of(name: str) -> str:
    """What to do about an error of the class of that name."""
    known = getattr(errors, name, None) if name else None
    return ADVICE.get(name) or (known.todo if known is not None else "")


def said(error: ChatlabError) -> list[str]:
    """An error in its lines: what happened, whether it took effect, what to do."""
    name = type(error).__name__
    own = error.todo if error.todo != type(error).todo else ""
    lines = (error.what, error.effect, own or todo_of(name))
    return [harmless(line) for line in lines if line]


def clock(at: float) -> str:
    """``12:03:04``, with the date when it is not of today."""
    try:
        then, today = time.localtime(at), time.localtime()
    except (ValueError, OverflowError, OSError):  # another's clock may say anything
        return "--:--:--"
    same = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same else "%b %d %H:%M:%S", then)


def span(seconds: float) -> str:
    """``3 s``, ``2 min``, ``5 h``."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5_400 else f"{round(seconds / 3_600)} h"


def count(number: int, one: str, many: str = "") -> str:
    """``1 message``, ``2 messages``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def names(some: list[str], most: int = 6) -> str:
    """``ana, bob, eva and 3 more``; ``nobody``."""
    shown = [harmless(name) for name in some[:most]]
    more = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(shown) + more if shown else "nobody"
