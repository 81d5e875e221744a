"""Broken clients, each with one defect that real programs have, over a toy broker in memory.

:class:`Client` does everything right; each subclass is wrong in one thing and names the check
that must catch it. The runs write a journal as the lab's clients do. Nothing here waits: time
is a number that the runs move on.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from chatlab import messages as m
from chatlab.journal import Journal
from chatlab.lab.settle import Due
from chatlab.messages import Message

SD = m.group("sd")
#: The queue of the insult channel.
LINE = "line"


@dataclass
class Item:
    message: Message
    persistent: bool = True
    redelivered: bool = False


@dataclass
class Broker:
    """Queues, an exchange per group, and what consumers hold; can be killed and cut off."""

    journal: Journal
    at: float = 1_700_000_000.0
    queues: defaultdict[str, deque[Item]] = field(default_factory=lambda: defaultdict(deque))
    bindings: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    held: defaultdict[tuple[str, str], list[Item]] = field(
        default_factory=lambda: defaultdict(list)
    )
    reachable: bool = True
    #: The answers to so many of the next publishes are lost on their way.
    silent: int = 0

    def fact(self, kind: str, user: str, life: int, chat: str, *rest: Any) -> None:
        self.at += 0.001
        self.journal.append((kind, self.at, user, life, chat, *rest))

    def bind(self, group: str, queue: str) -> None:
        if queue not in self.bindings[group]:
            self.bindings[group].append(queue)

    def publish(self, target: str, message: Message, persistent: bool = True) -> str:
        """Into each queue bound to ``target``, or the queue of that name. The outcome."""
        if not self.reachable:
            return "uncertain"
        for queue in self.bindings.get(target, [target]):
            self.queues[queue].append(Item(message, persistent))
        self.silent = max(0, self.silent - 1)
        return "confirmed"

    def take(self, queue: str, consumer: str, auto: bool = False) -> Item | None:
        if not self.queues[queue]:
            return None
        item = self.queues[queue].popleft()
        if not auto:
            self.held[queue, consumer].append(item)
        return item

    def ack(self, queue: str, consumer: str, id: str) -> None:
        held = self.held[queue, consumer]
        held[:] = [item for item in held if item.message.id != id]

    def gone(self, consumer: str) -> None:
        """A consumer's connection has ended: what it held goes back, in order, marked."""
        for (queue, who), items in self.held.items():
            if who == consumer:
                for item in reversed(items):
                    self.queues[queue].appendleft(Item(item.message, item.persistent, True))
                items.clear()

    def killed(self) -> None:
        """SIGKILL and a start: what was not written is gone."""
        self.fact("FaultBegan", "", 0, "", "kill", "rabbitmq")
        for consumer in {who for _, who in self.held}:
            self.gone(consumer)
        for queue, items in self.queues.items():
            self.queues[queue] = deque(item for item in items if item.persistent)
        self.fact("FaultEnded", "", 0, "", "kill", "rabbitmq")

    def settle(self) -> None:
        self.at += 5
        due = Due()
        due.read(self.journal.rows)
        left = sum(due.deliverable().values()) + sum(due.waiting().values())
        self.fact("Drained", "", 0, "", left)


class Client:
    """One user's client, right in everything."""

    #: What is wrong, and the check that must say so.
    caught_by = ""
    #: The runs in which the defect shows.
    runs: tuple[str, ...] = ("group", "private", "insults")

    def __init__(self, broker: Broker, user: str) -> None:
        self.broker, self.user = broker, user
        self.life, self.numbers, self.clock = 0, 0, 0
        self.open: dict[str, str] = {}
        self.begin()

    # -- lives and attachments

    def begin(self) -> None:
        self.life += 1
        self.seen: set[str] = set()
        self.buffer: list[tuple[str, Item]] = []
        self.unanswered: list[tuple[str, str, Message]] = []
        self.fact("Connected", "", "", "")

    def fact(self, kind: str, chat: str, *rest: Any) -> None:
        self.broker.fact(kind, self.user, self.life, chat, *rest)

    def crash(self) -> None:
        self.fact("Crashed", "")
        self.broker.gone(self.user)
        self.buffer.clear()

    def revive(self) -> None:
        self.begin()
        for chat in self.open:
            self.attach(chat)

    def leave(self, chat: str) -> None:
        self.broker.gone(self.user)
        self.fact("Disconnected", chat, "")

    def subscribe(self) -> None:
        self.bind()
        self.fact("Subscribed", SD, "toy", False)

    def bind(self) -> None:
        self.broker.bind(SD, self.queue(SD))

    def attach(self, chat: str, role: str = "both") -> None:
        self.open[chat] = role
        self.fact("Connected", chat, "toy", role)

    def queue(self, chat: str) -> str:
        """Where what is meant for this user waits."""
        return LINE if chat == m.INSULTS else f"{chat}/{self.user}"

    # -- sending

    def send(self, chat: str, to: str, body: str) -> Message:
        self.numbers, self.clock = self.numbers + 1, self.clock + 1
        id = f"{self.user}:{self.life}:{self.numbers}"
        message = Message(
            id, self.user, self.life, to, body, self.numbers, self.broker.at, self.clock
        )
        target = {"insults": LINE}.get(chat, SD if chat == SD else f"mailbox/{to}")
        self.fact("Sent", chat, message)
        self.publish(chat, target, message)
        return message

    def publish(self, chat: str, target: str, message: Message) -> None:
        """What is not answered goes out again, from the oldest, before anything new."""
        silent = self.broker.silent > 0
        outcome = self.broker.publish(target, message, self.persistent)
        if outcome == "confirmed" and not silent:
            self.fact("Confirmed", chat, message.id, None, None)
        else:
            self.unanswered.append((chat, target, message))

    persistent = True

    def recover(self) -> None:
        """The connection is back."""
        waiting, self.unanswered = self.unanswered, []
        for chat, target, message in waiting:
            self.publish(chat, target, message)

    # -- receiving

    def take(self, chat: str, limit: int = 1_000, die: bool = False) -> None:
        """Show what waits, at most ``limit``; with ``die``, crash over the one after."""
        for _ in range(limit):
            if not self.one(chat):
                return
        if die:
            item = self.broker.take(self.queue(chat), self.user)
            if item is not None and chat == m.INSULTS:
                self.begin_work(chat, item)
            self.crash()

    def one(self, chat: str) -> bool:
        item = self.broker.take(self.queue(chat), self.user)
        if item is None:
            return False
        self.show(chat, item)
        self.done(chat, item)
        return True

    def show(self, chat: str, item: Item) -> None:
        message = item.message
        where = self.where(chat, message)
        if message.id in self.seen:
            self.fact("Discarded", where, message.id)
            return
        self.seen.add(message.id)
        self.clock = max(self.clock, message.clock) + 1
        self.fact("Delivered", where, message, item.redelivered)
        if chat == m.INSULTS:
            self.broker.at += 0.02
            self.fact("Handled", chat, message.id)

    def where(self, chat: str, message: Message) -> str:
        """The conversation that a message of the mailbox belongs to."""
        return m.private(message.sender, self.user) if chat == "mailbox" else chat

    def begin_work(self, chat: str, item: Item) -> None:
        self.fact("Delivered", chat, item.message, item.redelivered)

    def done(self, chat: str, item: Item) -> None:
        message = item.message
        self.fact("Acked", self.where(chat, message), message.id)
        self.broker.ack(self.queue(chat), self.user, message.id)


class AcknowledgesBeforeWorking(Client):
    caught_by, runs = "delivery", ("insults",)

    def begin_work(self, chat: str, item: Item) -> None:
        self.done(chat, item)
        super().begin_work(chat, item)


class SaysSubscribedBeforeItIs(Client):
    """Others publish before the broker has its queue."""

    caught_by, runs = "fan-out", ("group",)

    def bind(self) -> None:
        pass

    def one(self, chat: str) -> bool:
        Client.bind(self)
        return super().one(chat)


class SharesOneQueueForAGroup(Client):
    caught_by, runs = "fan-out", ("group",)

    def queue(self, chat: str) -> str:
        return "sd" if chat == SD else super().queue(chat)


class AcknowledgesAutomatically(Client):
    """Its buffer takes what the broker has, prefetch or not, and dies with it."""

    caught_by = "delivery"

    def one(self, chat: str) -> bool:
        while item := self.broker.take(self.queue(chat), self.user, auto=True):
            self.buffer.append((chat, item))
        if not self.buffer:
            return False
        _, item = self.buffer.pop(0)
        self.show(chat, item)
        self.fact("Acked", self.where(chat, item.message), item.message.id)
        return True


class ForgetsPersistence(Client):
    caught_by = "delivery"
    persistent = False


class ForgetsConfirms(Client):
    """What it handed to its socket is sent, it says."""

    caught_by = "delivery"

    def publish(self, chat: str, target: str, message: Message) -> None:
        self.broker.publish(target, message)
        self.fact("Confirmed", chat, message.id, None, None)


class PopsBeforeTheClientHasIt(Client):
    """Its server takes from the queue, then writes to the stream: what is in between dies."""

    caught_by, runs = "delivery", ("private",)

    def take(self, chat: str, limit: int = 1_000, die: bool = False) -> None:
        if die:
            super().take(chat, limit)
            self.broker.take(self.queue(chat), self.user, auto=True)
            self.crash()
        else:
            super().take(chat, limit)


class ComparesNamesByTheirBeginning(Client):
    """*ana* is shown what is meant for *anabel*."""

    caught_by, runs = "delivery", ("private",)

    def queue(self, chat: str) -> str:
        known = [q for q in self.broker.queues if q.startswith(f"{chat}/{self.user}")]
        return next((q for q in known if self.broker.queues[q]), super().queue(chat))


class ConnectsForEachMessage(Client):
    caught_by, runs = "limits", ("insults",)

    def send(self, chat: str, to: str, body: str) -> Message:
        self.fact("Connected", chat, "toy", "producer")
        message = super().send(chat, to, body)
        self.fact("Disconnected", chat, "")
        return message


class LosesOnReconnect(Client):
    """Its queue is declared anew, and what waited in the old one is gone."""

    caught_by, runs = "reconnect", ("group", "private")

    def attach(self, chat: str, role: str = "both") -> None:
        if self.life > 1:
            self.broker.queues[self.queue(chat)].clear()
        super().attach(chat, role)


class ResendsWithANewId(Client):
    caught_by, runs = "delivery", ("group", "private")

    def recover(self) -> None:
        waiting, self.unanswered = self.unanswered, []
        for chat, _, message in waiting:
            self.fact("Uncertain", chat, message.id, "no answer")
            self.send(chat, message.to, message.body)


class NeverAcknowledges(Client):
    caught_by = "limits"
    runs = ("group", "private")

    def done(self, chat: str, item: Item) -> None:
        """The broker keeps it in its memory for ever."""


class ShowsSecondCopies(Client):
    caught_by, runs = "delivery", ("group", "private")

    def show(self, chat: str, item: Item) -> None:
        self.seen.clear()
        super().show(chat, item)


class CallsATimeOutAFailure(Client):
    caught_by, runs = "delivery", ("group", "private")

    def recover(self) -> None:
        for chat, _, message in self.unanswered:
            self.fact("Failed", chat, message.id, "timed out")
        self.unanswered = []


class ResendsAfterWhatIsNew(Client):
    """What was not answered goes out again behind what came later."""

    caught_by, runs = "order", ("group", "private")

    def publish(self, chat: str, target: str, message: Message) -> None:
        if self.broker.reachable:
            super().publish(chat, target, message)
        else:
            self.unanswered.append((chat, target, message))

    def recover(self) -> None:
        self.send(*self.new) if self.new else None
        super().recover()

    @property
    def new(self) -> tuple[str, str, str] | None:
        if not self.unanswered:
            return None
        chat, _, message = self.unanswered[0]
        return chat, message.to, "newer"


class ForgetsTheMark(Client):
    """What comes again looks new."""

    caught_by, runs = "reconnect", ("group", "private")

    def show(self, chat: str, item: Item) -> None:
        super().show(chat, Item(item.message))


class GivesWorkToASecondMember(Client):
    """It acknowledges so late that the broker has given the work to the next."""

    caught_by, runs = "insults", ("insults",)

    def done(self, chat: str, item: Item) -> None:
        if not item.redelivered:
            self.broker.queues[LINE].appendleft(Item(item.message, True, True))
        super().done(chat, item)


class TakesAllThatWaits(Client):
    """No prefetch limit: a backlog goes to whoever asks first."""

    caught_by, runs = "fairness", ("insults",)

    def one(self, chat: str) -> bool:
        while super().one(chat):
            pass
        return False


class InventsMessages(Client):
    caught_by = "delivery"

    def show(self, chat: str, item: Item) -> None:
        super().show(chat, item)
        super().show(chat, Item(item.message._replace(id=f"{item.message.id}-welcome")))


BROKEN: tuple[type[Client], ...] = (
    AcknowledgesBeforeWorking,
    SaysSubscribedBeforeItIs,
    SharesOneQueueForAGroup,
    AcknowledgesAutomatically,
    ForgetsPersistence,
    ForgetsConfirms,
    PopsBeforeTheClientHasIt,
    ComparesNamesByTheirBeginning,
    ConnectsForEachMessage,
    LosesOnReconnect,
    ResendsWithANewId,
    NeverAcknowledges,
    ShowsSecondCopies,
    CallsATimeOutAFailure,
    ResendsAfterWhatIsNew,
    ForgetsTheMark,
    GivesWorkToASecondMember,
    TakesAllThatWaits,
    InventsMessages,
)


# -- the runs


def group(made: type[Client]) -> Journal:
    """Ana writes to a group in which bob crashes, eva is away, and the broker is killed."""
    broker = Broker(Journal(tier="stand-in"))
    ana, bob, eva = clients = [made(broker, user) for user in ("ana", "bob", "eva")]
    for client in clients:
        client.subscribe()
        client.attach(SD)
    _write(ana, SD, "sd", 5)
    for client in clients:
        client.take(SD, 2)
    _troubles(broker, ana, bob, eva, SD, "sd", SD)
    for client in clients:
        client.take(SD)
    broker.settle()
    return broker.journal


def private(made: type[Client]) -> Journal:
    """The same of ana's private messages to bob, and to anabel, who is not ana."""
    broker = Broker(Journal(tier="stand-in"))
    ana, bob, anabel = clients = [made(broker, user) for user in ("ana", "bob", "anabel")]
    for client in clients:
        client.attach("mailbox")
    _write(bob, m.private("anabel", "bob"), "anabel", 2)
    ana.take("mailbox")
    anabel.take("mailbox")
    chat = m.private("ana", "bob")
    _write(ana, chat, "bob", 3)
    bob.take("mailbox", 1)
    _troubles(broker, ana, bob, anabel, chat, "bob", "mailbox")
    for client in clients:
        client.take("mailbox")
    broker.settle()
    return broker.journal


def insults(made: type[Client]) -> Journal:
    """Bob and eva draw in turn; eva crashes over one; the broker is killed and cut off."""
    broker = Broker(Journal(tier="stand-in"))
    ana, bob, eva = (made(broker, user) for user in ("ana", "bob", "eva"))
    ana.attach(m.INSULTS, "producer")
    for client in (bob, eva):
        client.attach(m.INSULTS, "consumer")
    _write(ana, m.INSULTS, m.INSULTS, 24)
    broker.killed()
    for _ in range(6):
        bob.take(m.INSULTS, 1)
        eva.take(m.INSULTS, 1)
    bob.take(m.INSULTS, 1)
    eva.take(m.INSULTS, 0, die=True)
    bob.take(m.INSULTS, 1)
    eva.revive()
    broker.reachable = False
    _write(ana, m.INSULTS, m.INSULTS, 4)
    broker.reachable = True
    ana.recover()
    while broker.queues[LINE]:
        bob.take(m.INSULTS, 1)
        eva.take(m.INSULTS, 1)
    broker.settle()
    return broker.journal


def _write(client: Client, chat: str, to: str, count: int) -> None:
    for _ in range(count):
        client.send(chat, to, f"{client.user}'s number {client.numbers + 1}")


def _troubles(
    broker: Broker, ana: Client, bob: Client, other: Client, chat: str, to: str, store: str
) -> None:
    """Everything that may befall them, with messages in flight."""
    bob.take(store, 1, die=True)
    _write(ana, chat, to, 3)
    bob.revive()
    bob.take(store)
    # bob shows one, and crashes before the broker knows
    _write(ana, chat, to, 2)
    item = broker.take(bob.queue(store), bob.user)
    if item is not None:
        bob.show(store, item)
    bob.crash()
    bob.revive()
    bob.take(store)
    # the broker is killed while the two others are away
    other.leave(store)
    bob.leave(store)
    _write(ana, chat, to, 3)
    broker.killed()
    for client in (bob, other):
        client.attach(store)
        client.take(store)
    # answers are lost on their way, then nothing gets through
    broker.silent = 2
    _write(ana, chat, to, 2)
    broker.silent = 0
    broker.reachable = False
    _write(ana, chat, to, 2)
    broker.reachable = True
    ana.recover()
    bob.take(store)
    _write(ana, chat, to, 150)


RUNS = {"group": group, "private": private, "insults": insults}
