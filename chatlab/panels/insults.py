"""Insult panel: who gets which insult, under which setting, live.

Left who takes part, how long each works on one, who sends, and how insults are handed out;
right the strips of :mod:`chatlab.panels.strips`, the newest at the bottom, so that before and
after a change stand together. A changed prefetch, ack or work means that the members take part
anew, one after the other, each when the insult in its hands is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from chatlab.backends import INSULTS, parse_backend
from chatlab.errors import ChatlabError, InvalidInput, SendFailed, SendUncertain
from chatlab.insults import DEAD, DEFAULT_BACKEND, QUEUE
from chatlab.lab import InsultChannel, User
from chatlab.messages import INSULTS as CHAT
from chatlab.panels.panel import Panel, look_of
from chatlab.panels.strips import (
    Channel,
    Insult,
    Strip,
    options_of,
    setting_words,
    strips_of,
    table_of,
)
from chatlab.plots.style import palette

if TYPE_CHECKING:
    from chatlab.lab import Lab
    from chatlab.tables import Table

#: Who takes part in a lab without users, and who sends unless another is named.
MEMBERS, SENDER = ("ana", "bob", "eva"), "dan"
#: What the buttons offer.
SENDS, PREFETCHES, ACKS = (1, 30), (0, 1, 10), ("manual", "auto")
#: Work on one insult at first, and the most the slider gives, in seconds. Without any work the
#: turn shows only while every member is idle, which in a burst none is.
WORK_SECONDS, MOST_WORK_SECONDS = 0.05, 1.0
#: So many of the newest strips are shown at first; "older" shows as many more.
SHOWN_STRIPS = 4
#: A strip draws so many of its newest insults; it counts all.
SHOWN_INSULTS = 2_000
#: Most rows of members in a strip; further members are counted together.
MOST_ROWS = 8
#: Nothing has happened for so long: what the broker counts is up to date (its counts are up
#: to a second old).
QUIET_SECONDS = 2.0

_LETTERS = {"waiting": "q", "in work": "w", "handled": "h", "failed": "f", "lost": "x"}
_GREY = "#57606a"


def insults(
    lab: Lab,
    *,
    members: Iterable[str | User] | None = None,
    sender: str | User = SENDER,
    backend: str = DEFAULT_BACKEND,
) -> InsultPanel:
    """A panel of the lab's insult channel.

    Args:
        members: who joins at once, unless somebody takes part in this scene already; default:
            all users of the lab but the sender (ana, bob and eva are made if there are none).
        sender: who sends; made if there is no such user. It only sends until it joins.
        backend: of a new channel, with options: ``rabbitmq``, ``rabbitmq:prefetch=10``,
            ``redis-list`` …; a channel that has one keeps it.

    Raises:
        InvalidInput: an unknown backend or option, or a name that cannot be.
        ServiceUnavailable: what the backend needs is not there.
    """
    return InsultPanel(lab, members, sender, backend)


class InsultPanel(Panel):
    """Made by :func:`insults`."""

    _esm = look_of("insults.js")
    _css = look_of("insults.css")
    VERBS = frozenset(
        {"send", "join", "leave", "everybody", "work", "prefetch", "ack", "sender", "older"}
        | {"look_for_lost"}
    )

    def __init__(
        self,
        lab: Lab,
        members: Iterable[str | User] | None,
        sender: str | User,
        backend: str,
    ) -> None:
        self.lab = lab
        _, options = parse_backend(backend, INSULTS)
        self._backend = backend.partition(":")[0]
        self._prefetch: int | None = options.get("prefetch")
        self._ack: str | None = options.get("ack")
        self._fails_on: str = options["fails_on"]
        self._usual_work = options["work"] if "work=" in backend else WORK_SECONDS
        #: Member -> seconds; who is not in it works as usual.
        self._work: dict[str, float] = {}
        self._sender = _name(sender)
        self._shown, self._sent = SHOWN_STRIPS, 0
        self._acting = False
        self._follow()
        self._seat_all(members)
        super().__init__(lab, CHAT)
        self.begin()

    def _follow(self) -> None:
        """Begin to read the journal of this scene."""
        self._scene = self.lab.current
        self._channel = Channel()
        self._drawn: dict[int, tuple[int, dict[str, Any]]] = {}
        self._quiet_since, self._facts = time.monotonic(), 0
        #: The length of the journal at which the broker said that it has nothing.
        self._empty_at = -1

    def _seat_all(self, members: Iterable[str | User] | None) -> None:
        there = [name for name in self._names() if name != self._sender] or list(MEMBERS)
        chosen = there if members is None else [_name(member) for member in members]
        self.lab.users(*chosen, self._sender)
        self._channel.read(self.lab.journal.rows)
        if not self._channel.backend:
            for name in chosen:
                self.do_join(name)

    def _names(self) -> list[str]:
        return list(self.lab.journal.header["users"])

    # -- what is shown

    def look(self) -> dict[str, Any]:
        if self.lab.current is not self._scene:
            self._follow()
        self._read()
        names = self._names()
        if not self._acting:
            self._adopt()
        colours = palette(names)
        strips = [self._strip(strip, colours) for strip in self._newest()]
        if (upcoming := self._upcoming()) is not None:
            strips.append(self._strip(upcoming, colours))
        return {
            "backend": self._channel.backend.partition(":")[0] or self._backend,
            "users": [self._user(name, colours[name]) for name in names],
            "senders": names,
            "sender": self._sender,
            "buttons": self._buttons(names),
            "waiting": self._channel.waiting,
            "strips": strips[-self._shown :],
            "older": max(0, len(self._channel.strips) + bool(upcoming) - self._shown),
        }

    def _read(self) -> None:
        rows, channel = self.lab.journal.rows, self._channel
        channel.read(rows)
        if len(rows) != self._facts:
            self._facts, self._quiet_since = len(rows), time.monotonic()
        if channel.hole and channel.waiting and not channel.busy:
            if self._empty_at == len(rows):
                channel.lose_waiting()
            elif time.monotonic() - self._quiet_since > QUIET_SECONDS:
                self._quiet_since = time.monotonic()  # and not again before as long
                self.ask("look_for_lost")

    def _adopt(self) -> None:
        """What the members do is the setting, whoever asked them to."""
        options = {user: options_of(text) for user, text in self._channel.now.items()}
        if not options:
            return
        self._work |= {user: o["work"] for user, o in options.items()}
        prefetch = {o.get("prefetch") for o in options.values()}
        acks = {o.get("ack") for o in options.values()}
        self._prefetch = prefetch.pop() if len(prefetch) == 1 else None
        self._ack = acks.pop() if len(acks) == 1 else None

    def _newest(self) -> list[Strip]:
        strips = list(self._channel.strips)[-self._shown :]
        shown = {strip.number for strip in strips}
        self._drawn = {n: drawn for n, drawn in self._drawn.items() if n in shown}
        return strips

    def _upcoming(self) -> Strip | None:
        """The strip that the next insult begins, if it begins one."""
        channel = self._channel
        newest = channel.strips[-1] if channel.strips else None
        if newest is not None and (not newest.begun or newest.setting == channel.now):
            return None
        return Strip(newest.number + 1 if newest else 1, dict(channel.now))

    def _user(self, name: str, colour: str) -> dict[str, Any]:
        return {
            "key": name,
            "name": name,
            "colour": colour,
            "joined": name in self._channel.now,
            "where": self._where(name),
            "work": self._work_of(name),
        }

    def _where(self, name: str) -> str:
        try:
            return User(self.lab, name).where
        except KeyError:  # its first coming online failed, so it is no user
            return "offline"

    def _work_of(self, name: str) -> float:
        return self._work.get(name, self._usual_work)

    def _strip(self, strip: Strip, colours: dict[str, str]) -> dict[str, Any]:
        known = self._drawn.get(strip.number)
        if known is None or known[0] != strip.version or not strip.insults:
            known = self._drawn[strip.number] = strip.version, _drawn(strip, colours)
        return known[1]

    def _buttons(self, names: list[str]) -> list[dict[str, Any]]:
        now = self._channel.now
        others = [name for name in names if name != self._sender]
        return [
            *(_button(f"send {n}", "send", count=n) for n in SENDS),
            *(_part("leave" if name in now else "join", name) for name in names),
            _button("all join", "everybody", joins=True, on=not set(others) <= set(now)),
            _button("all leave", "everybody", joins=False, on=bool(now)),
            *(self._option("prefetch", n, self._prefetch) for n in PREFETCHES),
            *(self._option("ack", how, self._ack) for how in ACKS),
        ]

    def _option(self, option: str, value: Any, now: Any) -> dict[str, Any]:
        backend = self._channel.backend.partition(":")[0] or self._backend
        on = option in INSULTS[backend]
        title = "" if on else f"{backend} has no option {option}"
        if on and option == "prefetch" and self._ack == "auto":
            title = "ignored while acks are auto"
        made = _button(f"{option} {value}", option, value=value, on=on)
        return made | {"pressed": on and value == now, "title": title}

    def table(self) -> Table:
        """Per strip and member: setting, insults, redelivered, fairness."""
        if self.lab.current is not self._scene:
            return strips_of(self.lab.journal)
        with self._looking:
            self._read()
            return table_of(self._channel)

    # -- what can be done

    def do_send(self, count: int) -> None:
        """Have the sender send so many insults."""
        if count not in SENDS:
            raise InvalidInput(f"{count!r} insults cannot be sent at once here.")
        channel = self._handle(self._sender)
        if channel.role in ("", "consumer"):
            self._take_part(self._sender, "both" if channel.role else "producer")
        first = self._sent + 1
        self._sent += count
        receipts = channel.send_many(f"insult {n}" for n in range(first, first + count))
        bad = [r for r in receipts if r.outcome not in ("confirmed", "sent")]
        if bad:
            kinds = {receipt.outcome for receipt in bad}
            error = SendUncertain if "uncertain" in kinds else SendFailed
            raise error(f"{len(bad)} of {count} insults were not accepted: {bad[0].reason}.")

    def do_join(self, name: str) -> None:
        """Have a user take part."""
        role = self._handle(name).role
        self._take_part(name, role if role == "consumer" else "both")

    def do_leave(self, name: str) -> None:
        """Have a member take part no more; what it holds goes back."""
        self._handle(name).leave()

    def do_everybody(self, joins: bool) -> None:
        """Have all join, one after the other, but the sender if it only sends; or all leave."""
        if joins:
            there = [x for x in self._names() if self._where(x) == "online"]
            self._each([x for x in there if x != self._sender], self.do_join)
        else:
            self._each(self._now(), self.do_leave)

    def do_work(self, name: str, seconds: float) -> None:
        """Have a user work so long on each insult."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InvalidInput(f"Work is a number of seconds, not {seconds!r}.")
        if not 0 <= seconds <= MOST_WORK_SECONDS:
            raise InvalidInput(f"Work is 0 to {MOST_WORK_SECONDS:g} seconds, not {seconds!r}.")
        self._known(name)
        self._change([name], lambda: self._work.update({name: float(seconds)}))

    def do_prefetch(self, value: int) -> None:
        """Have all members hold so many insults at most; 0: no limit."""
        if value not in PREFETCHES or isinstance(value, bool):
            raise InvalidInput(f"prefetch cannot be {value!r} here.")
        self._change(None, lambda: setattr(self, "_prefetch", value))

    def do_ack(self, value: str) -> None:
        """Have all members acknowledge after the work (manual) or on arrival (auto)."""
        if value not in ACKS:
            raise InvalidInput(f"ack cannot be {value!r}.")
        self._change(None, lambda: setattr(self, "_ack", value))

    def do_sender(self, name: str) -> None:
        """Have another user send from now on."""
        self._sender = self._known(name)

    def do_older(self) -> None:
        """Show more of the strips before."""
        self._shown += SHOWN_STRIPS

    def do_look_for_lost(self) -> None:
        """Ask RabbitMQ whether what nobody works on waits there at all."""
        if self._channel.backend.startswith("redis"):
            return
        facts = len(self.lab.journal.rows)
        with suppress(ChatlabError):  # it is asked again later
            queues = [r for r in self.lab.state() if r["thing"] == "messages in queue"]
            there = (r for r in queues if r["name"].startswith(QUEUE) and r["name"] != DEAD)
            if not sum(row["value"] for row in there):
                self._empty_at = facts

    def _change(self, names: list[str] | None, set_it: Callable[[], None]) -> None:
        """Set an option; those of ``names`` (``None``: all) who take part do so anew. What
        they did until then is not taken for the setting meanwhile."""
        with self._looking:
            self._acting = True
            set_it()
        try:
            self._each([x for x in self._now() if names is None or x in names], self.do_join)
        finally:
            self._now()
            self._acting = False

    def _now(self) -> list[str]:
        """Who takes part."""
        with self._looking:
            self._read()
            return list(self._channel.now)

    def _each(self, names: list[str], act: Callable[[str], None]) -> None:
        """Do it for each, whatever becomes of the others; then say what went wrong first."""
        errors = []
        for name in names:
            try:
                act(name)
            except ChatlabError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _take_part(self, name: str, role: str) -> None:
        now = self._channel.now.get(name, "")
        backend = self._channel.backend.partition(":")[0]
        known = INSULTS[backend or self._backend]
        self.lab.user(name).insults(
            cast(Any, role),
            backend=None if backend else self._backend,
            prefetch=self._prefetch if "prefetch" in known else None,
            ack=cast(Any, self._ack if "ack" in known else None),
            work=self._work_of(name),
            fails_on=(options_of(now)["fails_on"] if now else self._fails_on) or None,
        )

    def _handle(self, name: str) -> InsultChannel:
        user = self.lab.user(self._known(name))
        return InsultChannel(user, CHAT, CHAT, self._channel.backend)

    def _known(self, name: str) -> str:
        if name not in self._names():
            raise InvalidInput(f"There is no user {name!r} in this lab.")
        return name

    def __repr__(self) -> str:
        return f"<insult panel of the lab {self.lab.name}>"


def _name(user: str | User) -> str:
    return user if isinstance(user, str) else user.name


def _button(label: str, verb: str, *, on: bool = True, **args: Any) -> dict[str, Any]:
    return {"label": label, "do": verb, "args": args, "on": on, "title": ""}


def _part(verb: str, name: str) -> dict[str, Any]:
    return _button(f"{verb} {name}", verb, name=name)


def _drawn(strip: Strip, colours: dict[str, str]) -> dict[str, Any]:
    """A strip as the browser draws it: its rows, and two letters an insult: who, where."""
    counts = strip.counts()
    places = {name: at for at, name in enumerate(colours)}
    # The same row in each strip, in whatever order they came.
    members = sorted(counts, key=lambda name: places.get(name, len(places)))
    alone = members if len(members) <= MOST_ROWS else members[: MOST_ROWS - 1]
    rows = [
        _row(name, colours.get(name, _GREY), counts[name], strip.redelivered(name))
        for name in alone
    ]
    if rest := members[len(alone) :]:
        again = sum(map(strip.redelivered, rest))
        rows.append(
            _row(f"{len(rest)} others", _GREY, sum(counts[name] for name in rest), again)
        )
    place = {name: chr(48 + min(at, len(alone))) for at, name in enumerate(members)}
    newest = list(strip.insults.values())[-SHOWN_INSULTS:]
    fairness = strip.fairness
    return {
        "key": strip.number,
        "title": strip.title() if strip.insults else setting_words(strip.setting),
        "rows": rows,
        "who": "".join(place.get(insult.member, "0") for insult in newest),
        "how": "".join(map(_letter, newest)),
        "total": len(strip.insults),
        "waiting": strip.how_many("waiting"),
        "failed": strip.how_many("failed"),
        "lost": strip.how_many("lost"),
        "fairness": "" if fairness is None else f"{fairness:.2f}",
    }


def _row(name: str, colour: str, count: int, again: int) -> dict[str, Any]:
    return {"key": name, "name": name, "colour": colour, "count": count, "again": again}


def _letter(insult: Insult) -> str:
    letter = _LETTERS[insult.where]
    return letter.upper() if insult.again else letter
