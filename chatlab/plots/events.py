"""From a journal to the story that a picture tells: the fate of every flight. Pure.

The fates:

- ``at once``: seen, and the receiver was there all the time;
- ``waited``: seen, but the receiver was absent at some moment between send and sight;
- ``waiting``: not seen, the receiver is absent at the journal's end, the backend keeps it;
- ``under way``: not seen, but the journal ends too soon after the send to say more;
- ``unknown``: not seen, and the sender was told that nobody knows;
- ``lost``: not seen, although it was meant for this receiver, and nothing keeps it.

A group's message is meant for those subscribed at the send (the sender's own copy is left
out), a private one for the user it names, an insult for one member. A refused message
(``Failed``) has no flights; the persistence picture makes it one, of the fate ``refused``,
because it counts what was sent. The order is the journal's; times are seconds since the epoch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from chatlab import journal as j
from chatlab.backends import forgets_the_absent
from chatlab.errors import InvalidInput
from chatlab.journal import Journal
from chatlab.messages import INSULTS, Message, title
from chatlab.plots.story import (
    Absence,
    Fate,
    Fault,
    Flight,
    Moment,
    Outcome,
    Send,
    Story,
    Why,
)

#: A message not seen this long before the journal ends counts as lost, in seconds.
UNDER_WAY_SECONDS = 1.0
#: The conversation under which a user's attachment to its mailbox is recorded.
MAILBOX = "mailbox"


def keeps(chat: str, backend: str) -> bool:
    """Does this backend hold a message for a receiver that is absent?"""
    if chat == INSULTS:
        return True
    if chat.startswith("private:"):
        return not backend.startswith("direct")
    return bool(backend) and not forgets_the_absent(backend)


def journal_of(source: object) -> Journal:
    """The journal itself, or that of a scene or run.

    Raises:
        InvalidInput: neither.
    """
    found = getattr(source, "journal", source)
    if not isinstance(found, Journal):
        raise InvalidInput(
            f"A picture is made of a scene, run or journal, not of {type(source).__name__}.",
            todo="Pass for instance lab.scene('…'), or Journal.load(path).",
        )
    return found


def sources(given: tuple[object, ...]) -> tuple[object, ...]:
    """What a picture is called with, checked.

    Raises:
        InvalidInput: nothing was given, or something that has no journal.
    """
    for source in given or (None,):
        journal_of(source)
    return given


def read(source: object, chat: str | None = None) -> Story:
    """Read a scene, run or journal; with ``chat`` (``"sd"``, ``"ana + bob"``,
    ``"group:sd"``, ``"insults"``) only that conversation.

    Raises:
        InvalidInput: no journal, or it has no such conversation.
    """
    journal = journal_of(source)
    name = str(getattr(source, "name", "") or journal.header.get("scene") or "")
    reader = _Reader(chat)
    for step, fact in enumerate(journal):
        reader.take(Moment(step, fact.at), fact)
    if chat is not None and not reader.matched:
        raise InvalidInput(
            f"Nothing in this journal is about the conversation {chat!r}.",
            todo=f"It has: {', '.join(sorted(map(title, reader.seen_chats))) or 'none'}.",
        )
    return reader.story(name, journal.header)


@dataclass
class _Reader:
    """Takes facts one by one, then tells the story."""

    chat: str | None
    matched: bool = False
    seen_chats: set[str] = field(default_factory=set)
    users: dict[str, None] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    messages: dict[str, tuple[Moment, str, Message]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    #: id -> receiver -> when, and whether marked redelivered.
    sights: dict[str, dict[str, list[tuple[Moment, bool]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    #: group -> member -> stretches of membership.
    members: dict[str, dict[str, list[list[int | None]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    open: dict[tuple[str, str], tuple[Moment, Why]] = field(default_factory=dict)
    absences: list[Absence] = field(default_factory=list)
    open_faults: dict[tuple[str, str], Moment] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    attachments: list[tuple[Moment, j.Connected]] = field(default_factory=list)
    connected: set[tuple[str, str]] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    #: Insult -> who works on it; and those whose member crashed before it was done.
    in_hand: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    #: Whether this journal says when an insult is done; when the last one was taken or done.
    tells_done: bool = False
    worked: float = 0.0
    last_message: int = -1
    drained: int = -1
    end: Moment = field(default_factory=lambda: Moment(0, 0.0))

    def shows(self, chat: str) -> bool:
        if chat and chat != MAILBOX:
            self.seen_chats.add(chat)
        if self.chat is None:
            return True
        if chat and self.chat in (chat, title(chat), chat.partition(":")[2]):
            self.matched = True
            return True
        return False

    def take(self, when: Moment, fact: j.Fact) -> None:
        self.end = when
        concerned = self.shows(fact.chat)
        about_user = not fact.chat or fact.chat == MAILBOX
        if not (concerned or about_user):
            return
        if fact.user and (concerned or self.chat is None):
            self.users.setdefault(fact.user)
        match fact:
            case j.Sent(message=message):
                self.messages.setdefault(message.id, (when, fact.chat, message))
                self.last_message = when.step
            case j.Delivered(message=message):
                self.users.setdefault(message.sender)
                self.messages.setdefault(message.id, (when, fact.chat, message))
                self.sights[message.id][fact.user].append((when, fact.redelivered))
                self.last_message = when.step
                if fact.chat == INSULTS:
                    self._hand(message.id, when, fact.user)
            case j.Confirmed():
                self.outcomes[fact.id] = "confirmed"
            case j.Returned():
                self.outcomes[fact.id] = "returned"
            case j.Failed():
                self.outcomes[fact.id] = "refused"
            case j.Uncertain():
                self.outcomes[fact.id] = "uncertain"
            case j.Handled():
                self.tells_done = True
                self._hand(fact.id, when)
            case j.Rejected(dead=dead):
                self.dead |= {fact.id} if dead else set()
                self._hand(fact.id, when)
            case j.FaultBegan():
                self.open_faults[fact.fault, fact.target] = when
            case j.FaultEnded():
                self._end_fault((fact.fault, fact.target), when)
            case j.Drained(waiting=0):
                self.drained = when.step
            case _:
                self._presence(when, fact)

    def _presence(self, when: Moment, fact: j.Fact) -> None:
        key = (fact.user, fact.chat)
        match fact:
            case j.Connected():
                self.connected.add(key)
                self._back(key, when)
                if fact.chat and fact.backend:
                    self.backends.setdefault(fact.chat, fact.backend)
                if fact.chat == INSULTS:
                    self.attachments.append((when, fact))
                elif fact.chat.startswith("group:"):
                    self._enter(fact, when)
            case j.Disconnected():
                self.connected.discard(key)
                self.open.setdefault(key, (when, "not connected" if fact.chat else "offline"))
            case j.Subscribed():
                self.backends.setdefault(fact.chat, fact.backend)
                self._enter(fact, when)
                if key not in self.connected:
                    self.open.setdefault(key, (when, "not connected"))
            case j.Left():
                self.connected.discard(key)
                self._back(key, when)
                stretches = self.members[fact.chat][fact.user]
                if stretches and stretches[-1][1] is None:
                    stretches[-1][1] = when.step
            case j.Crashed():
                self.connected -= {held for held in self.connected if held[0] == fact.user}
                self.open.setdefault((fact.user, ""), (when, "crashed"))
                self.dropped |= {id for id, user in self.in_hand.items() if user == fact.user}
            case j.Frozen():
                self.open.setdefault((fact.user, ""), (when, "frozen"))
            case j.Thawed():
                self._back((fact.user, ""), when)

    def _hand(self, id: str, when: Moment, user: str = "") -> None:
        """Somebody works on this insult from now on, or nobody any more."""
        self.dropped.discard(id)
        self.in_hand.pop(id, None)
        if user:
            self.in_hand[id] = user
        self.worked = when.at

    def _enter(self, fact: j.Fact, when: Moment) -> None:
        stretches = self.members[fact.chat][fact.user]
        if not stretches or stretches[-1][1] is not None:
            stretches.append([when.step, None])

    def _back(self, key: tuple[str, str], when: Moment) -> None:
        if key in self.open:
            began, why = self.open.pop(key)
            self.absences.append(Absence(*key, began, when, why))

    def _end_fault(self, key: tuple[str, str], when: Moment) -> None:
        if key in self.open_faults:
            self.faults.append(Fault(*key, self.open_faults.pop(key), when))

    # -- the end of the journal is known from here on -------------------------------------

    def story(self, name: str, header: dict[str, Any]) -> Story:
        for key, (began, why) in self.open.items():
            if not self._closing(began):
                self.absences.append(Absence(*key, began, None, why))
        for fault, began in self.open_faults.items():
            self.faults.append(Fault(*fault, began, None))
        sends = tuple(
            Send(number, id, message.sender, chat, when, self.outcomes.get(id, "sent"))
            for number, (id, (when, chat, message)) in enumerate(self.messages.items(), 1)
        )
        flights = tuple(flight for send in sends for flight in self._flights(send))
        for flight in flights:
            if flight.receiver:
                self.users.setdefault(flight.receiver)
        roster = tuple(dict.fromkeys([*header.get("users", ()), *self.users]))
        absences = tuple(self._shown_absences(sends))
        involved = {
            user for flight in flights for user in (flight.send.sender, flight.receiver)
        }
        involved |= {send.sender for send in sends} | {entry.user for entry in absences}
        involved = involved & self.users.keys() or set(self.users)
        chats = dict.fromkeys([*self.backends, *(send.chat for send in sends)])
        chats.pop(MAILBOX, None)
        return Story(
            name=name,
            header=header,
            users=tuple(user for user in roster if user in involved),
            roster=roster,
            backends={chat: self._backend(chat) for chat in chats},
            sends=sends,
            flights=flights,
            absences=absences,
            faults=tuple(sorted(self.faults, key=lambda fault: fault.began.step)),
            attachments=tuple(self.attachments),
            dead=frozenset(self.dead),
        )

    def _closing(self, began: Moment) -> bool:
        """Is this the end of the scene, when everybody leaves, and not an absence?"""
        gone = {user for user, chat in self.open if not chat}
        return began.step > self.last_message and gone >= set(self.users)

    def _flights(self, send: Send) -> Iterator[Flight]:
        sights = self.sights.get(send.id, {})
        for receiver, times in sights.items():
            if receiver != send.sender or send.chat == INSULTS:
                (seen, marked), *rest = times
                fate: Fate = "waited" if self._waited(send, receiver, seen) else "at once"
                again = tuple(when for when, _ in rest)
                yield Flight(send, receiver, fate, seen, marked, again)
        if send.outcome == "refused" or (send.outcome == "returned" and send.chat == INSULTS):
            return  # it never came into the channel
        for receiver in self._meant_for(send):
            if receiver not in sights:
                yield Flight(send, receiver, self._unseen(send, receiver))

    def _meant_for(self, send: Send) -> list[str]:
        if send.chat == INSULTS:
            done = send.id in self.sights and not (self.tells_done and send.id in self.dropped)
            return [] if done else [""]
        if send.chat.startswith("group:"):
            return [
                member
                for member, stretches in self.members[send.chat].items()
                if member != send.sender
                and any(_within(send.when.step, *stretch) for stretch in stretches)
            ]
        return [self.messages[send.id][2].to]

    @cached_property
    def _by_user(self) -> dict[str, list[Absence]]:
        found: dict[str, list[Absence]] = defaultdict(list)
        for absence in self.absences:
            found[absence.user].append(absence)
        return found

    def _away(self, send: Send, receiver: str, until: int) -> Absence | None:
        """The absence that stood between this message and its receiver, if one did."""
        store = MAILBOX if send.chat.startswith("private:") else send.chat
        for absence in self._by_user.get(receiver, ()):
            if absence.chat in ("", store) and absence.covers(send.when.step, until):
                return absence
        return None

    def _waited(self, send: Send, receiver: str, seen: Moment) -> bool:
        if send.chat == INSULTS:
            return not self._consumers(send.when.step)
        if self._away(send, receiver, seen.step) is not None:
            return True
        # Before it became a member it was not there either (a log read from its start).
        stretches = self.members.get(send.chat, {}).get(receiver, [])
        return bool(stretches) and (stretches[0][0] or 0) > send.when.step

    def _consumers(self, step: int) -> set[str]:
        last = {fact.user: fact.role for when, fact in self.attachments if when.step < step}
        return {
            user
            for user, role in last.items()
            if role != "producer"
            and not any(
                absence.chat in ("", INSULTS) and absence.covers(step - 1, step)
                for absence in self._by_user.get(user, ())
            )
        }

    def _unseen(self, send: Send, receiver: str) -> Fate:
        if send.outcome == "uncertain":
            return "unknown"
        if send.chat == INSULTS:
            return "lost" if self.drained > send.when.step or self._idle(send) else "waiting"
        if send.outcome == "returned":
            return "lost"
        kept = keeps(send.chat, self._backend(send.chat))
        away = self._away(send, receiver, self.end.step + 1)
        if kept and away is not None and away.ended is None:
            return "waiting"
        if not kept and away is not None and away.covers(send.when.step, send.when.step + 1):
            return "lost"
        recent = self.end.at - send.when.at < UNDER_WAY_SECONDS
        return "under way" if recent and self.drained < send.when.step else "lost"

    def _idle(self, send: Send) -> bool:
        """Members are there with nothing in hand, and it was quiet for long enough: an
        insult that they have not taken by now is in no queue."""
        busy = self.tells_done and self.in_hand.keys() - self.dropped
        quiet = self.end.at - max(self.worked, send.when.at) >= UNDER_WAY_SECONDS
        return quiet and not busy and bool(self._consumers(self.end.step + 1))

    def _backend(self, chat: str) -> str:
        fallback = self.backends.get(MAILBOX, "") if chat.startswith("private:") else ""
        return self.backends.get(chat, fallback)

    def _shown_absences(self, sends: tuple[Send, ...]) -> Iterator[Absence]:
        """Whole absences, and those from one conversation in which it missed something."""
        for absence in self.absences:
            if self.chat is not None and absence.user not in self.users:
                continue
            if not absence.chat or any(
                absence.chat == (MAILBOX if send.chat.startswith("private:") else send.chat)
                and send.sender != absence.user
                and self._only_in(absence, send.when.step)
                for send in sends
            ):
                yield absence

    def _only_in(self, absence: Absence, step: int) -> bool:
        """Is ``step`` in this absence, and in no absence of that user as a whole?"""
        return absence.covers(step, step + 1) and not any(
            not other.chat and other.covers(step, step + 1)
            for other in self._by_user[absence.user]
        )


def _within(step: int, begin: int | None, end: int | None) -> bool:
    return (begin or 0) < step and (end is None or step < end)
