"""Who is calling follows from the session alone, over each store, for any client."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from private_rig import PATIENCE_SECONDS, SECRET, Rig, status_of, stock_client

from chatlab.discovery.redis import Registry
from chatlab.errors import NameInUse, Taken
from chatlab.private import session as sessions
from chatlab.private.session import Session
from chatlab.resp import Redis


async def test_without_a_session_of_this_lab_nothing_is_sent_or_received(chats: Rig) -> None:
    key = await chats.accounts.key()
    genuine = sessions.issue(key, Session("bob", 1))
    incarnation, name, mac = genuine.split(".")
    _, other, _ = sessions.issue(key, Session("ana", 1)).split(".")
    refused = {
        "none": None,
        "empty": "",
        "no token": "bob",
        "without its proof": f"{incarnation}.{name}.",
        "another's name": f"{incarnation}.{other}.{mac}",
        "a newer incarnation": f"2.{name}.{mac}",
        "one digit changed": genuine[:-1] + ("0" if genuine[-1] != "0" else "1"),
        "another lab's": sessions.issue(b"another lab's key", Session("bob", 1)),
    }
    async with stock_client(chats) as client:
        for why, token in refused.items():
            for name, call in client.streams(token).items():
                status = await status_of(call.read())
                assert status is grpc.StatusCode.UNAUTHENTICATED, f"{why}: {name}"
        assert await client.send_bodies(genuine, "ana", ["x"]) == 1, "this one is good"
    assert [state.user for state in await chats.store.state() if state.stored] == ["ana"]


async def test_a_session_of_an_older_incarnation_is_told_that_its_name_is_taken(
    chats: Rig,
) -> None:
    async with stock_client(chats) as client:
        old = await client.claim("bob", 1)
        await chats.online("bob", 2)
        for name, call in client.streams(old).items():
            assert await status_of(call.read()) is grpc.StatusCode.ABORTED, name
        assert await status_of(client.claim("bob", 1)) is grpc.StatusCode.ABORTED
    with pytest.raises(Taken):
        await chats.online("bob", 1)


async def test_without_the_accounts_secret_a_name_is_refused_and_its_holder_left_alone(
    chats: Rig,
) -> None:
    async with stock_client(chats) as client:
        for secret in ("guess", "", SECRET + " "):
            wrong = client.claim("bob", 9, secret)
            assert await status_of(wrong) is grpc.StatusCode.PERMISSION_DENIED
        assert await status_of(client.claim("dan", 1)) is grpc.StatusCode.NOT_FOUND
    with pytest.raises(NameInUse):  # nobody holds it now
        await chats.online("bob", secret="guess")
    ana, bob = await chats.online("ana"), await chats.online("bob")
    with pytest.raises(NameInUse):
        await chats.online("bob", 2, secret="guess")
    await ana.send("bob", "still yours")
    assert await bob.wait_for(1) == ["still yours"]
    assert bob.client.connected and not bob.ended.done()


async def test_a_letter_comes_from_whoever_holds_the_session(chats: Rig) -> None:
    bob, eva = await chats.online("bob"), await chats.online("eva", 7)
    forged = eva.message("bob", "I am ana")._replace(sender="ana", incarnation=1)
    assert {r.outcome for r in await eva.client.send([forged])} == {"confirmed"}
    await bob.wait_for(1)
    assert (bob.shown[0].sender, bob.shown[0].incarnation) == ("eva", 7)


async def test_the_word_exit_is_text_from_anyone_to_anyone_and_ends_nothing(
    chats: Rig,
) -> None:
    everybody = [await chats.online(user) for user in ("ana", "bob", "eva")]
    words = ["EXIT", "exit", "EXIT\n", "/EXIT", "still here?"]
    for sender in everybody:
        for receiver in everybody:
            receipts = await sender.send(receiver.life.user, *words)
            assert {receipt.outcome for receipt in receipts} == {"confirmed"}
    for person in everybody:
        await person.wait_for(3 * len(words))
        for sender in everybody:
            came = [m.body for m in person.shown if m.sender == sender.life.user]
            assert came == words
        assert person.client.connected and not person.ended.done()
    back = await chats.online("bob", 2)  # nor does a stale one end the next session
    await everybody[0].send("bob", "after")
    await back.wait_for(1)
    assert back.client.connected


async def test_a_user_whose_lease_ended_keeps_account_and_mailbox(
    chats: Rig, redis: Redis
) -> None:
    names = Registry(redis, lease_seconds=0.2)
    bob = await chats.online("bob", await names.claim("bob", SECRET, ""))
    await bob.client.close()
    ana = await chats.online("ana")
    await ana.send("bob", *map(str, range(100)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "bob" in {user.name for user in await names.discover()}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await names.account_secret_ok("bob", SECRET)
    # What is kept has no end: days are no different from this moment.
    keys = [key async for key in redis.driver.scan_iter(match=redis.key("*"))]
    kept = {key for key in keys if await redis.driver.ttl(key) == -1}
    assert redis.key("accounts") in kept
    assert {key for key in keys if ":mailbox:" in key} <= kept
    again = await chats.online("bob", await names.claim("bob", SECRET, ""))
    assert await again.wait_for(100) == [str(n) for n in range(100)]
    assert again.redelivered == []
