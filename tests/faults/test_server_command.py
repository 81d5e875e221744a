"""``chatlab server``: real processes, told to stop, killed, replaced, and without Redis."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from private_rig import SECRET
from server_rig import command, own_redis, town

from chatlab.errors import NameInUse, NotAdmitted, Taken
from chatlab.journal import Discarded, Uncertain
from chatlab.messages import Message, Receipt
from chatlab.private.channel import SESSION_KEY
from chatlab.services.lease import Lease

#: Sent by one user in a steady stream, so many at a time.
STREAM, AT_A_TIME = 2_000, 10


def new_lab() -> str:
    return f"server-{secrets.token_hex(3)}"


@pytest.fixture(autouse=True)
def _brokers(lease: Lease) -> None:
    """They run, and go on running when a test leaves its lab."""


async def test_told_to_stop_amid_a_stream_it_drains_and_the_clients_go_to_the_other_one() -> (
    None
):
    async with town(new_lab()) as t, t.server() as one, t.server() as other:
        await t.account("ana", "bob")
        t.rather = one.address
        ana, bob = await t.online("ana"), await t.online("bob")
        receipts: list[Receipt] = []

        async def stream() -> None:
            for first in range(0, STREAM, AT_A_TIME):
                bodies = map(str, range(first, first + AT_A_TIME))
                receipts.extend(await ana.send("bob", *bodies))

        sending = asyncio.create_task(stream())
        await bob.wait_for(STREAM // 4)
        assert not sending.done()
        one.process.terminate()
        assert await one.ended() == 0  # within its bound of 5 + 1 s and a little: see there
        assert one.address not in map(str, (await t.registry.servers_of(t.backend)).values())
        await sending
        assert await bob.wait_for(STREAM) == [str(n) for n in range(STREAM)]
        assert [receipt.outcome for receipt in receipts] == ["confirmed"] * STREAM
        assert list(t.rig.journal.facts(Uncertain)) == []
        await ana.client.close()
        await bob.client.close()
        assert bob.bodies == [str(n) for n in range(STREAM)]
        other.process.terminate()
        assert await other.ended() == 0
        (stopped,), (last,) = one.events("stopped"), other.events("stopped")
        assert stopped["stored"] + last["stored"] == STREAM
        assert stopped["stored"] >= STREAM // 4
        # What it had stored it also answered, and what it had handed out was acknowledged.
        assert last["duplicates"] == 0
        assert list(t.rig.journal.facts(Discarded)) == []


@pytest.mark.soak
async def test_servers_replaced_one_by_one_many_times_lose_and_double_nothing() -> None:
    async with town(new_lab()) as t, AsyncExitStack() as stack:
        await t.account("ana", "bob")
        serving = await stack.enter_async_context(t.server())
        ana, bob = await t.online("ana"), await t.online("bob")
        sent, done = 0, asyncio.Event()

        async def stream() -> None:
            nonlocal sent
            while not done.is_set():
                receipts = await ana.send("bob", *map(str, range(sent, sent + AT_A_TIME)))
                assert {receipt.outcome for receipt in receipts} == {"confirmed"}
                sent += AT_A_TIME

        sending = asyncio.create_task(stream())
        for _ in range(8):
            following = await stack.enter_async_context(t.server())
            await bob.wait_for(len(bob.shown) + 200)
            serving.process.terminate()
            assert await serving.ended() == 0
            serving = following
        done.set()
        await sending
        await bob.wait_for(sent)
        await bob.client.close()
        assert bob.bodies == [str(n) for n in range(sent)]
        assert list(t.rig.journal.facts(Discarded)) == []


async def test_what_was_confirmed_is_there_after_a_kill_and_a_retry_is_stored_once() -> None:
    lab = new_lab()
    messages: list[Message] = []
    async with town(lab) as t, t.server() as first:
        await t.account("ana", "bob")
        ana = await t.online("ana")
        messages += [ana.message("bob", str(n)) for n in range(300)]
        receipts = await ana.client.send(messages)
        assert {receipt.outcome for receipt in receipts} == {"confirmed"}
        first.process.kill()
        await first.ended()
        ana.client.abandon()
    # Nobody holds the lab now.
    async with town(lab) as t, t.server() as second:
        ana, bob = await t.online("ana", 2), await t.online("bob")
        assert await bob.wait_for(300) == [str(n) for n in range(300)]
        (again, new) = await ana.client.send([messages[-1], ana.message("bob", "new")])
        assert {again.outcome, new.outcome} == {"confirmed"}
        await bob.wait_for(301)
        await bob.client.close()
        assert bob.bodies == [*(str(n) for n in range(300)), "new"]
        second.process.send_signal(signal.SIGHUP)  # its terminal is gone
        assert await second.ended() == 0
        (stopped,) = second.events("stopped")
        assert (stopped["stored"], stopped["duplicates"]) == (1, 1)


async def test_it_says_what_to_type_and_a_port_that_is_taken_in_three_lines() -> None:
    async with town(new_lab()) as t, t.server("--lab", t.settings.lab) as one:
        said = "\n".join(one.said)
        assert f"lab {t.settings.lab} serves at 127.0.0.1:" in said and "without TLS" in said
        assert f"chatlab client --lab {t.settings.lab}\n" in said
        assert f'Lab.join("{t.settings.lab}")\n' in said
        port = one.address.rpartition(":")[2]
        async with command(t.settings, "--port", port) as second:
            assert await second.ended() == 1
    assert len(second.complaint) == 3
    assert f"127.0.0.1:{port} is taken" in second.complaint[0]
    assert second.events("failed")[0]["what"] == second.complaint[0]
    assert second.said == []


async def test_of_servers_with_mailboxes_in_memory_the_older_one_ends_and_says_why() -> None:
    async with town(new_lab(), "mailbox-memory") as t:
        await t.account("ana")
        async with t.server("--store", "mailbox-memory") as older:
            ana = await t.online("ana")
            async with t.server("--store", "mailbox-memory") as newer:
                assert await older.ended() == 1
                assert len(older.complaint) == 3
                assert t.settings.lab in older.complaint[0]
                # Its clients are with the newer one.
                assert str(await t.locate()) == newer.address
                await ana.send("ana", "hola")
                assert await ana.wait_for(1) == ["hola"]


async def test_its_redis_killed_and_back_it_goes_on_and_no_secret_is_in_its_log(
    tmp_path: Path,
) -> None:
    password, lab_secret = f"hush/{secrets.token_hex(4)} ñ", f"open {secrets.token_hex(4)}"
    given = {"lab_secret": lab_secret, "send_seconds": 2.0}
    async with (
        own_redis(tmp_path, password) as redis,
        town(new_lab(), redis_url=redis.url, **given) as t,
        t.server("--tls") as one,
    ):
        await t.account("ana", "bob")
        ana, old, bob = [await t.online(*who) for who in (("ana", 1), ("bob", 1), ("bob", 2))]
        await ana.send("bob", "the body")
        await bob.wait_for(1)
        with pytest.raises(NameInUse):
            await t.online("ana", 2, secret="a-wrong-secret")
        with pytest.raises(NotAdmitted):
            stranger = replace(t.settings, lab_secret="a-wrong-door")
            await t.online("ana", 2, settings=stranger)
        sessions = [
            dict(person.client._connection._metadata)[SESSION_KEY] for person in (ana, bob)
        ]
        guess = redis.url.replace("hush", "guess")
        wrong = replace(t.settings, redis_url=guess, lab=new_lab())
        async with command(wrong) as refused:
            assert await refused.ended() == 1
        await redis.kill()
        await one.event("store away")
        (receipt,) = await ana.send("bob", "nowhere")
        assert receipt.outcome == "uncertain"
        await redis.start()
        await one.event("store back")
        await one.event("renewed again")
        (receipt,) = await ana.send("bob", "after")
        assert receipt.outcome == "confirmed"
        await bob.wait_for(2)
        assert bob.bodies[-1] == "after" and isinstance(old.ended.result(), Taken)
        one.process.terminate()
        assert await one.ended() == 0
    for event in ("serving", "claim", "refused", "takeover", "stream opened", "stream closed"):
        assert one.events(event), event
    for event in ("store away", "store back", "not renewed", "renewed again", "stopped"):
        assert len(one.events(event)) == 1, event
    assert one.events("serving")[0]["tls"] is True
    assert len(refused.complaint) == 3
    everything = "\n".join([*one.said, *one.errors, *refused.said, *refused.errors])
    hidden = [SECRET, "a-wrong-secret", "a-wrong-door", "the body", lab_secret, password]
    hidden += [password.replace("hush", "guess"), wrong.redis_url]
    hidden += [quote(password, safe=""), redis.url, t.place.rabbitmq.password, *sessions]
    assert [secret for secret in hidden if secret in everything] == []


async def test_while_its_redis_hangs_a_drain_is_bounded_and_a_second_signal_ends_it_at_once(
    tmp_path: Path,
) -> None:
    async with (
        own_redis(tmp_path, "hush") as redis,
        town(new_lab(), redis_url=redis.url) as t,
        t.server("--drain", "0.5") as short,
        t.server("--drain", "3600") as long,
    ):
        await t.account("ana", "bob")
        people = []
        for name, home in (("ana", short), ("bob", long)):
            t.rather = home.address
            people.append(await t.online(name))
            await people[-1].send(name, "before")
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        try:
            tasks = [asyncio.create_task(p.send(p.life.user, "hangs")) for p in people]
            await asyncio.sleep(0.2)
            short.process.terminate()
            assert await short.ended() == 0
            assert short.events("stopped")[0]["unfinished"] is True
            long.process.terminate()
            await long.event("draining")
            assert long.process.returncode is None
            long.process.send_signal(signal.SIGINT)
            assert await long.ended() == 0
            assert long.events("stopped")[0]["unfinished"] is True  # nor for Redis' answer
        finally:
            redis.process.send_signal(signal.SIGCONT)
        for task in tasks:
            task.cancel()
        for person in people:
            person.client.abandon()
