"""A journal written by hand, for the tests of the checkers: lives, faults, work and ``settle``
on top of what the pictures need."""

from __future__ import annotations

from plots_script import Script

from chatlab.checkers import Check, judge
from chatlab.lab.settle import Due
from chatlab.messages import INSULTS, Message, group

SD = group("sd")


class Run(Script):
    """As :class:`Script`; every user has a life that a crash ends."""

    def __init__(self, *users: str, **options: object) -> None:
        self.lives: dict[str, int] = {}
        super().__init__(*users, **options)  # type: ignore[arg-type]

    def fact(self, kind: str, user: str, chat: str, *rest: object) -> Run:
        self.at += 0.002
        life = self.lives.setdefault(user, 1) if user else 0
        self.journal.append((kind, self.at, user, life, chat, *rest))
        return self

    def message(self, sender: str, to: str) -> Message:
        message = super().message(sender, to)
        life = self.lives[sender]
        return message._replace(incarnation=life, id=f"{sender}:{life}:{self.sent}")

    def mailbox(self, *users: str, backend: str = "mailbox-redis") -> Run:
        for user in users or self.users:
            self.fact("Connected", user, "mailbox", backend, "both")
        return self

    def crash(self, user: str) -> Run:
        return self.fact("Crashed", user, "")

    def revive(self, user: str) -> Run:
        self.lives[user] += 1
        return self.fact("Connected", user, "", "", "")

    def reach(self, user: str, *groups: str) -> Run:
        for name in groups or ("sd",):
            self.fact("Connected", user, group(name), self.backend, "member")
        return self

    def fault(self, fault: str, target: str) -> Run:
        return self.fact("FaultBegan", "", "", fault, target)

    def over(self, fault: str, target: str) -> Run:
        return self.fact("FaultEnded", "", "", fault, target)

    def work(
        self, user: str, insult: Message, *, again: bool = False, seconds: float = 0
    ) -> Run:
        self.fact("Delivered", user, INSULTS, insult, again).wait(seconds)
        self.fact("Handled", user, INSULTS, insult.id)
        return self.fact("Acked", user, INSULTS, insult.id)

    def settle(self) -> Run:
        """As ``lab.settle`` after its patience: what is due by its own counting."""
        self.wait(5)
        due = Due()
        due.read(self.journal.rows)
        left = sum(due.deliverable().values()) + sum(due.waiting().values())
        return self.fact("Drained", "", "", left)

    def check(self, checker: str, chat: str | None = None) -> Check:
        """The one check of that name."""
        (found,) = judge(self.journal).of(checker, chat)
        return found

    def line(self, kind: str, *rest: object) -> int:
        """The number, in the saved journal, of the first fact of this kind that ends so."""
        for number, row in enumerate(self.journal.rows, 2):
            if row[0] == kind and all(value in row for value in rest):
                return number
        raise AssertionError(f"no {kind} {rest}")
