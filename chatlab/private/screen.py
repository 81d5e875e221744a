"""Screen: what a life of a user is shown, each message once."""

from __future__ import annotations

from itertools import compress, repeat

from chatlab.client import Life, OnMessage
from chatlab.messages import Message
from chatlab.private.outbox import chat_of

#: A Lamport clock beyond this is no count of anything, and is not followed: ours would soon fit
#: into no letter.
CLOCK_LIMIT = 2**53


class Screen:
    """Shows what arrives, and drops the second copies.

    Args:
        life: whose; facts are recorded through it.
        of: what the ids were seen in; outlives the handles of one life.
        on_message: called for each message shown, after Delivered was recorded.
    """

    def __init__(self, life: Life, of: str, on_message: OnMessage) -> None:
        self._life = life
        self._seen = life.seen(of)
        self._on_message = on_message

    def __len__(self) -> int:
        """How many ids are remembered."""
        return len(self._seen)

    def show(self, messages: list[Message], redelivered: bool = False) -> None:
        """What one sender sent: to the user, but for what this life was shown already."""
        life, sender = self._life, messages[0].sender
        chat = chat_of(sender, life.user)
        life.clock.see(*[x.clock for x in messages if x.clock < CLOCK_LIMIT])
        # Ids are unique per sender only: nobody can make another's message look seen.
        new = self._seen.add_all([f"{sender}/{message.id}" for message in messages])
        fresh = list(compress(messages, new))
        life.facts("Delivered", chat, fresh, repeat(redelivered))
        for message in fresh:
            self._on_message(message, redelivered)
        if len(fresh) < len(messages):
            again = compress(messages, (not one for one in new))
            life.facts("Discarded", chat, [message.id for message in again])
