"""The lane of a client that is not ours: users, links and messages as the script wants them.

Its users are no users of the lab: nothing of our own client is in between. The laboratory
writes the journal from outside, puts a label in front of each text and takes it off again, and
the judges read it like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatlab import messages as m
from chatlab.checkers import Check
from chatlab.errors import InvalidInput, NotPossible
from chatlab.experiments.lanes import Lane
from chatlab.experiments.outside import find_client
from chatlab.experiments.outside_process import ClientFailed
from chatlab.experiments.outside_seat import MAILBOX, Ledger, OutsideSeat
from chatlab.experiments.scenario import Scenario
from chatlab.journal import Journal
from chatlab.lab import Lab
from chatlab.messages import Receipt
from chatlab.services.urls import is_ours

#: So many different complaints about the code are kept.
COMPLAINTS = 20


class OutsideUser:
    """One user, for the script: the verbs of :class:`chatlab.lab.User` that steps name."""

    def __init__(self, lab: Lab, seat: OutsideSeat) -> None:
        self.name = seat.name
        self._lab, self._seat = lab, seat

    def __getattr__(self, verb: str) -> Any:
        """A verb of :class:`OutsideSeat`, waited for."""
        act = getattr(self._seat, verb)
        return lambda *args: self._lab.wait_for(act(*args))


class OutsideLane(Lane):
    """One class of code that is not ours, in a scene of its own."""

    registers = False

    def __init__(self, lab: Lab, scenario: Scenario, backend: str, number: int = 0) -> None:
        super().__init__(lab, scenario, backend, number)
        self.client = find_client(backend)
        self.pattern = self.client.pattern
        #: What the code did wrong, each once.
        self._complaints: dict[str, ClientFailed] = {}
        self._ledger = Ledger()
        self._seats: dict[str, OutsideSeat] = {}
        self._here: list[str] = []
        self._check_names()

    def _check_names(self) -> None:
        """What it declares must neither meet others' things nor stay."""
        client, settings = self.client, self.lab.settings
        redis, foreign = client.broker == "redis", not is_ours(settings, client.broker)
        alone = not redis and (not foreign or settings.management_url)
        if not client.takes_prefix and not alone:
            raise InvalidInput(
                f"{client.name} would share names with others on this {client.broker}.",
                todo="Take a prefix, def __init__(self, url, name, prefix), and begin all "
                "names with it.",
            )
        if not client.removes and not alone and not redis:
            raise InvalidInput(
                f"What {client.name} declares would stay on this {client.broker}.",
                todo="Write a method remove() that deletes it; it is called at the end.",
            )

    @property
    def broker(self) -> str:
        return self.client.broker

    @property
    def link(self) -> str:
        return self.client.broker

    @property
    def _chat(self) -> str:
        if self.client.pattern == "private":
            return MAILBOX
        return m.INSULTS if self.client.pattern == "insults" else m.group(self.scenario.name)

    # -- users

    def enter(self) -> None:
        for name in self.scenario.users:
            seat = OutsideSeat(
                *(self.lab, self.client, name, self._chat, self._ledger, self._complain)
            )
            self._seats[name] = seat
            self.lab.wait_for(seat.online())
        self.lab.journal.header["users"] = list(self.scenario.users)

    def user(self, name: str) -> OutsideUser:
        return OutsideUser(self.lab, self._seats[name])

    def close(self) -> None:
        for seat in self._seats.values():
            self.lab.wait_for(seat.close())
        if self.client.removes and self._seats:
            cleaner = OutsideSeat(
                *(self.lab, self.client, "cleaner", "", self._ledger, self._complain)
            )
            try:
                self.lab.wait_for(cleaner.remove())
            except ClientFailed as error:
                self.leftovers.append(f"what {self.client.name} declared ({error.what})")

    def on_link(self, verb: str, user: OutsideUser, service: str, *args: float) -> None:
        if service != self.client.broker:
            raise NotPossible(f"no link: this client has none to {service}.")
        user.fault(verb, *args)

    def heal(self, user: OutsideUser) -> None:
        user.heal()

    def will_not_return(self) -> set[str]:
        return {name for name, seat in self._seats.items() if seat.will_not_return}

    # -- taking part

    def join(self, user: OutsideUser, options: dict[str, Any]) -> None:
        given = {"role": "both", **options}
        role = given.pop("role") if self.client.pattern == "insults" else "both"
        self._here.append(user.name)
        user.join(role, given)

    def do(self, user: OutsideUser, verb: str) -> None:
        """``subscribe``, ``connect``, ``disconnect`` or ``unsubscribe``."""
        getattr(user, verb)()

    def send(self, user: OutsideUser, bodies: Sequence[str], to: str) -> list[Receipt]:
        if self.client.pattern != "private":
            chat = self._chat.partition(":")[2] or self._chat
            return list(user.send(bodies, chat))
        peers = [to] if to else [peer for peer in self._here if peer != user.name]
        return [receipt for peer in peers for receipt in user.send(bodies, peer)]

    # -- what came of it

    def _complain(self, error: ClientFailed) -> None:
        if len(self._complaints) < COMPLAINTS:
            self._complaints.setdefault(error.what, error)

    def journal(self) -> Journal:
        found = super().journal()
        # By whose promises it is judged: see chatlab.checkers.promises.
        found.header |= {"client": str(self.client.file), "promises": self.client.promises}
        return found

    @property
    def notes(self) -> tuple[Check, ...]:
        """What the code did wrong is told, and does not count: its messages speak for
        themselves."""
        return tuple(
            Check(
                *("client", "", self.backend, "cannot tell"),
                f"{error.what} {error.todo}",
                counted=False,
            )
            for error in self._complaints.values()
        )
