"""What can be chosen in the menu and typed in a conversation, as data."""

from __future__ import annotations

from dataclasses import dataclass

from chatlab.terminal.conversation import Kind


@dataclass(frozen=True)
class Choice:
    """One entry of the menu: chosen by its key or one of its words."""

    key: str
    text: str
    words: tuple[str, ...]
    #: What may follow it on the same line.
    takes: str = ""


MENU = (
    Choice("1", "private chat with a person", ("private", "chat"), "NAME [direct]"),
    Choice("2", "connect to a group", ("connect", "group"), "NAME"),
    Choice("3", "subscribe to a group", ("subscribe",), "NAME [transient|durable|BACKEND]"),
    Choice("4", "who is there", ("who", "discover"), "[WAY]"),
    Choice("5", "insult channel", ("insults", "insult"), "[both|listen]"),
    Choice("q", "quit", ("quit", "exit")),
)


@dataclass(frozen=True)
class Command:
    """One command of a conversation."""

    word: str
    text: str
    kinds: tuple[Kind, ...] = ("private", "group", "insults")


COMMANDS = (
    Command("/leave", "back to the menu (also Ctrl-C)"),
    Command("/again", "send once more what was not sent, or nobody knows of"),
    Command("/who", "who is there"),
    Command("/direct", "from now on straight to their client", ("private",)),
    Command("/mailbox", "from now on through the chat server, which keeps it", ("private",)),
    Command("/both", "send insults and draw them", ("insults",)),
    Command("/listen", "only draw insults", ("insults",)),
    Command("/help", "this"),
)
#: What /help says besides.
KEYS = (
    ("PageUp, PageDown", "older and newer lines"),
    ("Ctrl-C, Ctrl-D", "leave the conversation; twice: end the program"),
    ("//text", "a message that begins with /"),
)


def choice(text: str) -> tuple[Choice, list[str]] | None:
    """The entry of the menu that was typed, and the words after it; None: there is none."""
    first, *rest = text.split() or [""]
    word = first.lower().removeprefix("/")
    for entry in MENU:
        if word == entry.key or word in entry.words:
            return entry, rest
    return None


def commands_of(kind: Kind) -> list[Command]:
    """The commands of a conversation of that kind."""
    return [command for command in COMMANDS if kind in command.kinds]


def command(text: str, kind: Kind) -> Command | None:
    """The command that was typed; None: there is none of that name."""
    word = text.strip().lower()
    return next((one for one in commands_of(kind) if one.word == word), None)


def is_command(text: str) -> bool:
    """Whether it is meant as a command; ``//`` begins a message."""
    return text.startswith("/") and not text.startswith("//")


def message_of(text: str) -> str:
    """The message that was typed."""
    return text[1:] if text.startswith("//") else text
