"""A journal written by hand, as a run would record it: for the tests of the pictures."""

from __future__ import annotations

from chatlab.journal import Journal
from chatlab.messages import INSULTS, Message, group, private

START = 1_700_000_000.0


class Script:
    """Facts 2 ms apart; ``wait`` lets time pass."""

    def __init__(
        self, *users: str, backend: str = "rabbitmq-durable", name: str = "", **header: object
    ) -> None:
        self.at = START
        self.backend = backend
        self.users = users
        self.sent = 0
        defaults = {"tier": "real", "versions": {"RabbitMQ": "3.10.8", "Redis": "7.0.15"}}
        self.journal = Journal(**{**defaults, "scene": name, **header})
        for user in users:
            self.fact("Connected", user, "", "", "")

    def fact(self, kind: str, user: str, chat: str, *rest: object) -> Script:
        self.at += 0.002
        incarnation = 1 if user else 0
        self.journal.append((kind, self.at, user, incarnation, chat, *rest))
        return self

    def wait(self, seconds: float) -> Script:
        self.at += seconds
        return self

    def join(self, *users: str, to: str = "sd", backend: str = "") -> Script:
        for user in users or self.users:
            self.fact("Subscribed", user, group(to), backend or self.backend, False)
            self.fact("Connected", user, group(to), backend or self.backend, "member")
        return self

    def message(self, sender: str, to: str) -> Message:
        self.sent += 1
        id = f"{sender}:1:{self.sent}"
        return Message(id, sender, 1, to, "hola", self.sent, self.at, self.sent)

    def send(
        self, sender: str, *seen_by: str, to: str = "sd", outcome: str = "Confirmed"
    ) -> Message:
        """A message to a group; those in ``seen_by`` see it at once."""
        message = self.message(sender, to)
        self.fact("Sent", sender, group(to), message)
        self.result(message, group(to), outcome)
        for user in seen_by:
            self.see(user, message, chat=group(to))
        return message

    def write(
        self, sender: str, to: str, *, seen: bool = True, outcome: str = "Confirmed"
    ) -> Message:
        """A private message."""
        message = self.message(sender, to)
        self.fact("Sent", sender, private(sender, to), message)
        self.result(message, private(sender, to), outcome)
        if seen:
            self.see(to, message, chat=private(sender, to))
        return message

    def insult(self, sender: str = "ana") -> Message:
        message = self.message(sender, INSULTS)
        self.fact("Sent", sender, INSULTS, message)
        self.result(message, INSULTS, "Confirmed")
        return message

    def result(self, message: Message, chat: str, outcome: str) -> None:
        if outcome == "Confirmed":
            self.fact("Confirmed", message.sender, chat, message.id, 0, 1)
        elif outcome:
            self.fact(outcome, message.sender, chat, message.id, "a reason")

    def see(
        self, user: str, *messages: Message, chat: str = "group:sd", again: bool = False
    ) -> Script:
        for message in messages:
            self.fact("Delivered", user, chat, message, again)
            self.fact("Acked", user, chat, message.id)
        return self

    def attach(self, *users: str, options: str = "prefetch=1,ack=manual,work=0") -> Script:
        for user in users:
            self.fact("Connected", user, INSULTS, f"rabbitmq:{options}", "both")
        return self

    def leave(self, user: str, *groups: str) -> Script:
        """``bob.away()`` begins."""
        for name in groups or ("sd",):
            self.fact("Disconnected", user, group(name), "")
        return self.fact("Disconnected", user, "", "")

    def come(self, user: str, *groups: str) -> Script:
        """``bob.away()`` ends."""
        self.fact("Connected", user, "", "", "")
        for name in groups or ("sd",):
            self.fact("Connected", user, group(name), self.backend, "member")
        return self


def bob_is_away(*, kept: bool, name: str = "", before: int = 1, missed: int = 3) -> Script:
    """Ana writes to bob and eva; bob misses three, which wait for him if ``kept``."""
    backend = "rabbitmq-durable" if kept else "rabbitmq-transient"
    script = Script("ana", "bob", "eva", backend=backend, name=name).join()
    for _ in range(before):
        script.send("ana", "ana", "eva", "bob")
    script.wait(1.2).leave("bob")
    waiting = [script.send("ana", "ana", "eva") for _ in range(missed)]
    script.wait(0.5).come("bob")
    if kept:
        script.see("bob", *waiting)
    return script.wait(2).fact("Drained", "", "", 0)


def dealt(
    *takers: str, options: str = "prefetch=1,ack=manual,work=0.05", backlog: bool = True
) -> Script:
    """Insults taken in turn by ``takers`` (one each); ana, bob and eva are attached."""
    script = Script("ana", "bob", "eva")
    if not backlog:
        script.attach(*script.users, options=options)
    insults = [script.insult() for _ in takers]
    if backlog:
        script.attach(*script.users, options=options)
    for taker, insult in zip(takers, insults, strict=True):
        script.wait(0.05).see(taker, insult, chat=INSULTS)
    return script
