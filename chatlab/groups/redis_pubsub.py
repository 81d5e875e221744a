"""Groups by Redis' publish/subscribe (``redis-pubsub``): at most once, gaps reported.

``PUBLISH`` hands a message to the connections that are subscribed at that moment, and Redis
forgets it: who is not connected misses it. So that a member at least knows, each message
carries a number that the script counts up in the same step in which it publishes. The number
of the last message published is read in the same transaction in which a member subscribes
(again), so whatever is missing between the last one shown and that number was missed: while
the connection was lost, or when Redis ended it because the member read too slowly. It is
counted in ``state()`` and recorded as Disconnected, with how many, and Connected.

Key ``group:{sd}:pubsub`` of group sd, a hash: ``n`` the number of the last message, ``epoch``
(random: with another one Redis has lost the counter) and, for each subscriber, ``life:…``
(its newest incarnation). The last one to unsubscribe removes it. Channels: the group's, whose
messages are ``<epoch> <number> <the message as a JSON array>`` (anything else is shown as an
outsider's text), and one for each member, on which an older client is told of a newer one, and
by which a sender's own subscription is told from the others'.

There are no acknowledgements and nothing waits. Order is that of publishing, in which one
sender's messages are in its own order. The script's count is what ``listeners`` says; zero is
unroutable. (https://redis.io/docs/latest/develop/interact/pubsub/)
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from chatlab.amqp.codec import OUTSIDER
from chatlab.errors import InvalidInput, Taken
from chatlab.groups.handle import Answer, Handle
from chatlab.messages import BODY_BYTES, Message, check_name
from chatlab.resp import Listener, Redis, Script, ScriptError, mapped

# enrol: KEYS hash; ARGV user, life, a random epoch, channel prefix of members
# It tells an older client that it is over.
ENROL = Script("""
local field = 'life:' .. ARGV[1]
local life, mine = tonumber(redis.call('HGET', KEYS[1], field) or 0), tonumber(ARGV[2])
if life > mine then return redis.error_reply('TAKEN') end
redis.call('HSET', KEYS[1], field, mine)
redis.call('HSETNX', KEYS[1], 'epoch', ARGV[3])
redis.call('HSETNX', KEYS[1], 'n', 0)
if life < mine then redis.call('PUBLISH', ARGV[4] .. ARGV[1], mine) end
return 1
""")

# leave: KEYS hash; ARGV user, life
LEAVE = Script("""
local field = 'life:' .. ARGV[1]
if tonumber(redis.call('HGET', KEYS[1], field) or 0) > tonumber(ARGV[2]) then
  return redis.error_reply('TAKEN')
end
redis.call('HDEL', KEYS[1], field)
if redis.call('HLEN', KEYS[1]) <= 2 then redis.call('UNLINK', KEYS[1]) end
return 1
""")

# publish: KEYS hash; ARGV the group's channel, that of the sender as a member, then messages
# -> how many others had each of them at least. Without a subscriber nothing is counted.
PUBLISH = Script("""
local mine = redis.call('PUBSUB', 'NUMSUB', ARGV[2])[2]
local epoch = redis.call('HGET', KEYS[1], 'epoch')
local least = math.huge
for i = 3, #ARGV do
  local text = ARGV[i]
  if epoch then
    text = epoch .. ' ' .. redis.call('HINCRBY', KEYS[1], 'n', 1) .. ' ' .. text
  end
  least = math.min(least, redis.call('PUBLISH', ARGV[1], text))
end
return least - tonumber(mine)
""")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class RedisPubsubMember(Handle):
    """One user's handle on a group over Redis' publish/subscribe."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        life, group = self._life, self.group
        self._redis = Redis(
            life.redis, deadline=life.settings.send_seconds, name=life.connection_name
        )
        self._key = self._redis.key("group", f"{{{group}}}", "pubsub")
        self._channel = self._redis.key("group-talk", group)
        self._members = self._redis.key("group-member", group, "")
        self._mine = self._members + life.user
        self._listener: Listener | None = None
        #: Of the last message that was shown or counted as missed.
        self._epoch = ""
        self._number = 0

    async def _run(self, script: Script, *args: str | int) -> Any:
        try:
            return await self._redis.run(script, [self._key], args)
        except ScriptError as error:
            if error.code == "TAKEN":
                raise self._taken() from error
            raise

    def _taken(self) -> Taken:
        return Taken(f"A newer client of {self._life.user} took over.")

    async def _enrol(self) -> None:
        life = self._life
        await self._run(
            *(ENROL, life.user, life.incarnation, secrets.token_hex(4), self._members)
        )

    async def _attach(self) -> None:
        self._epoch, self._number = await self._listen()

    async def _listen(self) -> tuple[str, int]:
        """Subscribe; the epoch and number of the last message published before."""
        self._release()
        await self._enrol()
        listener = Listener(self._redis, self._life.settings.heartbeat_seconds)
        look = ("HMGET", self._key, "epoch", "n")
        ((epoch, number),) = await listener.open([self._channel, self._mine], look)
        self._listener = listener
        return str(epoch or ""), int(number or 0)

    async def _reattach(self) -> str:
        epoch, number = await self._listen()
        return self._skip(epoch, number + 1)

    def _skip(self, epoch: str, next_number: int) -> str:
        """The next message is (or would be) this one: what was missed, in words."""
        if epoch != self._epoch:
            self._epoch, self._number = epoch, next_number - 1
            return f"Redis has begun to count anew in {self.group}: missed an unknown number."
        missed, self._number = next_number - 1 - self._number, next_number - 1
        if missed <= 0:
            return ""
        self.missed += missed
        return f"Missed {missed:,} messages that were published meanwhile ({self.backend})."

    async def _show_all(self) -> None:
        life, listener = self._life, self._listener
        assert listener is not None
        while arrived := await listener.take():
            if not life.gate.is_set():
                await life.gate.wait()
                await self._check()
            self._show_arrived(arrived)

    async def _check(self) -> None:
        """Raises Taken when a newer client of this user is there."""
        with mapped(self._redis.address):
            newest = await self._redis.driver.hget(self._key, f"life:{self._life.user}")
        if int(newest or 0) > self._life.incarnation:
            raise self._taken()

    def _show_arrived(self, arrived: Sequence[tuple[str, str]]) -> None:
        messages: list[Message] = []
        for channel, text in arrived:
            if channel == self._mine:
                if text.isdigit() and int(text) > self._life.incarnation:
                    self._show(messages)
                    raise self._taken()
                continue
            epoch, number, message = _read(text, self.group)
            if number and (gap := self._skip(epoch, number)):
                self._show(messages)
                messages = []
                self._gap(gap)
            self._number = number or self._number
            messages.append(message)
        self._show(messages)

    async def _stop(self) -> None:
        if self._listener is not None:
            self._listener.stop()

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _detach(self) -> None:
        self._release()

    async def _leave(self) -> None:
        await self._run(LEAVE, self._life.user, self._life.incarnation)
        await super()._leave()

    async def _post(self, batch: Sequence[Message]) -> Answer:
        others = await self._run(PUBLISH, self._channel, self._mine, *map(_encode, batch))
        return Answer(others, 0, nobody=others <= 0)

    def _drop(self) -> None:
        self._release()
        self._redis.abandon()


def _read(text: str, group: str) -> tuple[str, int, Message]:
    """Epoch, number and message; number 0: published by somebody else's program.

    What is not wholly ours is an outsider's: its text is shown, nothing of it is believed.
    """
    epoch, _, rest = text.partition(" ")
    number, _, fields = rest.partition(" ")
    try:
        id, sender, incarnation, _, body, seq, sent_at, clock = json.loads(fields)
        numbers = (incarnation, seq, clock)
        if (
            int(number) > 0
            and isinstance(id, str)
            and isinstance(body, str)
            and all(type(value) is int for value in numbers)
        ):
            message = Message(
                *(id, check_name(sender), incarnation, group, body, seq),
                *(float(sent_at), clock),
            )
            return epoch, int(number), message
    except (ValueError, TypeError, InvalidInput):
        pass
    shown = text.encode()[:BODY_BYTES].decode(errors="ignore")
    id = f"{OUTSIDER}:{secrets.token_hex(8)}"
    return "", 0, Message(id, OUTSIDER, 0, group, shown, 0, time.time(), 0)


async def channel(redis: Redis, group: str) -> tuple[int, dict[str, bool]]:
    """Of one group: how many messages were published, and who of its subscribers listens."""
    members = redis.key("group-member", group, "")
    with mapped(redis.address):
        facts: Any = await redis.driver.hgetall(redis.key("group", f"{{{group}}}", "pubsub"))
        users = [field[len("life:") :] for field in facts if field.startswith("life:")]
        if not users:
            return int(facts.get("n", 0)), {}
        there = await redis.driver.pubsub_numsub(*(members + user for user in users))
    return int(facts.get("n", 0)), {
        user: count > 0 for user, (_, count) in zip(users, there, strict=True)
    }
