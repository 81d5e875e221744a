"""What the report's private chats do, their flaws included, in one process.

A test of a flaw fails when the flaw is not there: then the baseline is none any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import pytest
from as_reported_rig import ReportedRig, reported
from private_rig import PATIENCE_SECONDS, Person

from chatlab import backends
from chatlab.backoff import patiently
from chatlab.errors import NotPossible, SendUncertain, ServiceUnavailable
from chatlab.journal import (
    Confirmed,
    Connected,
    Delivered,
    Disconnected,
    Failed,
    Sent,
    Uncertain,
)
from chatlab.messages import Receipt
from chatlab.private import as_reported, private_client
from chatlab.private.as_reported import AsReportedServer
from chatlab.private.as_reported_client import EXITED
from chatlab.private.client import MailboxClient
from chatlab.services.addresses import ServerAddress
from chatlab.services.links import Link


async def linked(r: ReportedRig, user: str, incarnation: int = 1) -> tuple[Person, Link]:
    """A user online behind a link of its own."""
    link = Link((r.address.host, r.address.port), user=user, service="server")
    address = r.address.through("127.0.0.1", await link.open())

    async def locate(_: Collection[str]) -> ServerAddress:
        return address

    person = r.person(user, incarnation)
    person.client._locate = locate
    await person.client.open()
    return person, link


def reasons(r: ReportedRig, user: str) -> list[str]:
    return [fact.reason for fact in r.journal.facts(Disconnected) if fact.user == user]


# -- what works


async def test_a_message_to_somebody_online_arrives_with_all_that_the_sender_said() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        sent = ana.message("bob", "hola")
        (receipt,) = await ana.client.send([sent])
        assert await bob.wait_for(1) == ["hola"]
        assert bob.shown == [sent]
        assert receipt == Receipt("ana:1:1", "confirmed", waiting=0, listeners=None)


async def test_what_waits_for_somebody_away_comes_in_order() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await bob.client.close()
        await ana.send("bob", "1", "2", "3")
        assert bob.shown == []
        again = await r.online("bob", 2)
        assert await again.wait_for(3) == ["1", "2", "3"]
        assert again.redelivered == []


async def test_a_thousand_messages_keep_their_order_and_their_facts_and_none_is_acked() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bodies = [str(n) for n in range(1000)]
        await ana.send("bob", *bodies)
        assert await bob.wait_for(1000) == bodies
        counts = r.journal.counts()
        assert (counts["Sent"], counts["Confirmed"], counts["Delivered"]) == (1000,) * 3
        assert "Acked" not in counts


async def test_parallel_sends_do_not_mix() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await asyncio.gather(ana.send("bob", *"abcdef"), ana.send("bob", *"ghijkl"))
        assert "".join(await bob.wait_for(12)) == "abcdefghijkl"


async def test_a_frozen_client_shows_nothing_and_sends_nothing_until_it_thaws() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        bob.freeze_after = 2
        await ana.send("bob", *"abc")
        assert await bob.wait_for(2) == ["a", "b"]
        sending = asyncio.create_task(bob.send("ana", "frozen"))
        await ana.send("bob", "d")
        assert (ana.shown, len(bob.shown), sending.done()) == ([], 2, False)
        bob.life.gate.set()
        assert await bob.wait_for(4) == ["a", "b", "c", "d"]
        assert await ana.wait_for(1) == ["frozen"]
        await sending


async def test_what_a_frozen_client_cannot_send_within_its_time_has_failed() -> None:
    async with reported(send_seconds=0.2) as r:
        ana = await r.online("ana")
        ana.life.gate.clear()
        receipts = await ana.send("bob", "1", "2")
        assert [receipt.outcome for receipt in receipts] == ["failed", "failed"]
        assert r.waiting("bob") == 0


# -- the flaws


async def test_all_ids_are_0_while_somebody_reads() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        ids = []
        for n in range(50):
            ids.append((await ana.send("bob", str(n)))[0].waiting)
            await bob.wait_for(n + 1)
        assert ids == [0] * 50


async def test_ids_count_what_waits_and_come_again_when_it_was_read() -> None:
    async with reported() as r:
        ana = await r.online("ana")
        first = [receipt.waiting for receipt in await ana.send("bob", *"abc")]
        bob = await r.online("bob")
        await bob.wait_for(3)
        await bob.client.close()
        second = [receipt.waiting for receipt in await ana.send("bob", *"def")]
        assert first == second == [0, 1, 2]


async def test_two_streams_of_one_user_get_half_of_the_messages_each() -> None:
    async with reported() as r:
        ana = await r.online("ana")
        windows = [await r.online("bob", 1), await r.online("bob", 2)]
        for n in range(100):
            await ana.send("bob", str(n))
            await r.until(lambda n=n: sum(len(window.shown) for window in windows) == n + 1)
        one, two = (set(window.bodies) for window in windows)
        assert one | two == {str(n) for n in range(100)}
        assert not one & two
        assert min(len(one), len(two)) >= 40


async def test_what_was_sent_to_a_name_that_nobody_has_is_confirmed() -> None:
    async with reported() as r:
        ana = await r.online("ana")
        assert (await ana.send("nobody", "hola?"))[0].outcome == "confirmed"
        assert r.waiting("nobody") == 1


async def test_a_message_sent_again_under_its_id_is_shown_twice() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        message = ana.message("bob", "once?")
        await ana.client.send([message])
        await ana.client.send([message])
        assert await bob.wait_for(2) == ["once?", "once?"]
        assert len({fact.message.id for fact in r.delivered("bob")}) == 1


async def test_anybody_speaks_in_anothers_name() -> None:
    async with reported() as r:
        bob = await r.online("bob")
        await r.forge("ana", "bob", "I owe you 100")
        await bob.wait_for(1)
        assert bob.shown[0].sender == "ana"


async def test_what_waits_is_lost_with_the_server() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await bob.client.close()
        assert {x.outcome for x in await ana.send("bob", *"abc")} == {"confirmed"}
        await r.stop()
        await r.start()
        again = await r.online("bob", 2)
        while (await ana.send("bob", "after"))[0].outcome != "confirmed":  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # its loss is not noticed yet
        assert await again.wait_for(1) == ["after"]


async def test_what_was_taken_for_a_reader_that_dies_is_lost() -> None:
    async with reported() as r:
        ana = await r.online("ana")
        bob, link = await linked(r, "bob")
        link.freeze()
        await ana.send("bob", *map(str, range(200)))
        await r.until(lambda: r.waiting("bob") == 0)
        bob.client.abandon()
        link.reset()
        await r.until(lambda: "bob" not in r.reported.streams())
        await link.close()
        again = await r.online("bob", 2)
        await ana.send("bob", "after")
        assert await again.wait_for(1) == ["after"]
        assert len(list(r.journal.facts(Confirmed))) == 201
        assert len(list(r.journal.facts(Delivered))) == 1


# -- EXIT


async def test_a_user_that_types_exit_receives_and_sends_nothing_more() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        assert (await ana.send("bob", "EXIT"))[0].outcome == "confirmed"
        assert not ana.client.connected
        assert reasons(r, "ana") == [EXITED]
        await bob.send("ana", "still there?")
        assert r.waiting("ana") == 1
        (refused,) = await ana.send("bob", "back!")
        assert (refused.outcome, refused.error) == ("failed", "ChatClosed")
        assert (ana.shown, bob.shown) == ([], [])
        assert [fact.user for fact in r.journal.facts(Connected)] == ["ana", "bob"]


async def test_exit_is_a_command_and_leaves_no_facts_of_a_message() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "bye", "EXIT", "too late")
        assert await bob.wait_for(1) == ["bye"]
        assert [fact.message.body for fact in r.journal.facts(Sent)] == ["bye", "too late"]
        assert [fact.id for fact in r.journal.facts(Failed)] == ["ana:1:3"]


async def test_who_left_with_exit_comes_back_and_finds_what_waited() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", "EXIT")
        await bob.send("ana", "1", "2")
        await ana.client.close()
        again = await r.online("ana", 2)
        assert await again.wait_for(2) == ["1", "2"]
        assert again.client.connected


async def test_the_word_of_another_ends_nothing() -> None:
    async with reported() as r:
        bob = await r.online("bob")
        await r.forge("ana", "bob", "EXIT")
        await r.forge("ana", "bob", "still here?")
        assert await bob.wait_for(2) == ["EXIT", "still here?"]


async def test_a_forged_exit_ends_the_session_of_another_who_does_not_come_back() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await r.forge("bob", "bob", "EXIT")
        await r.until(lambda: not bob.client.connected)
        await ana.send("bob", "are you there?")
        await bob.send("ana", "I notice nothing")
        assert await ana.wait_for(1) == ["I notice nothing"]
        assert (r.waiting("bob"), bob.shown) == (1, [])
        assert reasons(r, "bob") == [EXITED]
        await bob.client.close()
        assert await (await r.online("bob", 2)).wait_for(1) == ["are you there?"]


async def test_a_stale_exit_ends_the_next_session_at_once() -> None:
    async with reported() as r:
        ana = await r.online("ana")
        await ana.send("bob", "before")
        await r.forge("bob", "bob", "EXIT")
        await ana.send("bob", "after")
        bob = await r.online("bob")
        assert await bob.wait_for(1) == ["before"]
        await r.until(lambda: not bob.client.connected)
        assert r.waiting("bob") == 1
        assert reasons(r, "bob") == [EXITED]


async def test_leaving_is_an_exit_in_ones_own_name_behind_what_waits() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("bob", *map(str, range(300)))
        await bob.client.close()
        assert bob.bodies == [str(n) for n in range(300)]
        assert reasons(r, "bob") == [""]
        assert r.reported.streams() == {"ana": 1}
        assert r.waiting("bob") == 0, "the EXIT was taken"


async def test_the_exit_of_one_window_may_end_the_other() -> None:
    async with reported() as r:
        one, two = await r.online("bob", 1), await r.online("bob", 2)
        await two.client.close()
        await r.until(lambda: not one.client.connected)
        assert reasons(r, "bob") == [EXITED, ""]


async def test_leaving_is_bounded_when_the_server_does_not_answer() -> None:
    async with reported() as r:
        bob, link = await linked(r, "bob")
        link.freeze()
        began = time.monotonic()
        await bob.client.close()
        assert time.monotonic() - began < 2
        await link.close()


# -- outcomes, and lost connections


async def test_without_an_answer_one_message_is_uncertain_and_the_rest_was_not_sent() -> None:
    async with reported(send_seconds=0.3) as r:
        ana, link = await linked(r, "ana")
        bob = await r.online("bob")
        link.freeze()
        receipts = await ana.send("bob", "1", "2", "3")
        assert [x.outcome for x in receipts] == ["uncertain", "failed", "failed"]
        assert [fact.id for fact in r.journal.facts(Uncertain)] == ["ana:1:1"]
        link.thaw()
        (again,) = await ana.client.send([ana.life.message("x", "bob", "1", "ana:1:1")])
        assert again.outcome == "confirmed"
        assert "2" not in await bob.wait_for(1)
        await ana.client.close()
        await link.close()


async def test_a_connection_that_breaks_under_a_message_leaves_it_uncertain() -> None:
    async with reported() as r:
        ana, link = await linked(r, "ana")
        link.freeze()
        sending = asyncio.create_task(ana.send("bob", "1", "2"))
        await r.until(lambda: ana.client._sending.locked())
        link.cut()
        assert [x.outcome for x in await sending] == ["uncertain", "failed"]
        link.heal()
        await r.until(lambda: len(list(r.journal.facts(Connected))) == 2)
        await ana.client.close()
        await link.close()


async def test_an_interrupted_send_says_what_is_uncertain() -> None:
    async with reported() as r:
        ana, link = await linked(r, "ana")
        link.freeze()
        sending = asyncio.create_task(ana.send("bob", "1", "2"))
        await r.until(lambda: ana.client._sending.locked())
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert [fact.id for fact in r.journal.facts(Uncertain)] == ["ana:1:1"]
        assert [fact.id for fact in r.journal.facts(Failed)] == ["ana:1:2"]
        assert ana.client.state()["unanswered"] == 0
        ana.client.abandon()
        await link.close()


async def test_without_a_connection_a_message_has_failed_at_once() -> None:
    async with reported() as r:
        ana = await r.online("ana")
        await r.stop()
        await r.until(lambda: not ana.client.connected)
        began = time.monotonic()
        (receipt,) = await ana.send("bob", "hola")
        assert receipt.outcome == "failed"
        assert time.monotonic() - began < 1


async def test_a_lost_connection_comes_back_by_itself_at_the_new_address() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await r.stop()
        await r.until(lambda: not (ana.client.connected or bob.client.connected))
        await r.start()
        await r.until(lambda: ana.client.connected and bob.client.connected)
        await ana.send("bob", "again")
        assert await bob.wait_for(1) == ["again"]
        assert [fact.backend for fact in r.journal.facts(Connected)] == ["as-reported"] * 4
        assert all(reasons(r, "bob"))


async def test_a_full_queue_refuses_and_names_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(as_reported, "QUEUE_MESSAGES", 2)
    async with reported() as r:
        ana = await r.online("ana")
        receipts = await ana.send("bob", *"abc")
        assert [x.outcome for x in receipts] == ["confirmed", "confirmed", "failed"]
        assert receipts[2].error == "MailboxFull"
        assert "2 messages" in receipts[2].reason
        bob = await r.online("bob")
        assert await bob.wait_for(2) == ["a", "b"]


async def test_opening_without_a_server_says_so_within_the_deadline() -> None:
    async with reported(send_seconds=0.2) as r:
        await r.stop()
        with pytest.raises(ServiceUnavailable):
            await r.online("ana")


async def test_an_error_of_whoever_is_shown_a_message_ends_the_client_loudly() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), r.person("bob")

        def fail(*_: object) -> None:
            raise ValueError("a defect")

        heard: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
        bob.client._on_message = fail
        await bob.client.open()
        await ana.send("bob", "hola")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert "a defect" in str(await bob.ended)
        assert len(heard) == 1


# -- the server, and the table of backends


async def test_wiping_leaves_no_message_and_no_stream_alone() -> None:
    async with reported() as r:
        ana, bob = await r.online("ana"), await r.online("bob")
        await ana.send("eva", *"abc")
        await r.reported.wipe()
        assert r.reported.waiting() == {"ana": 0, "bob": 0}
        await ana.send("bob", "goes on")
        assert await bob.wait_for(1) == ["goes on"]


async def test_stopping_tells_connected_clients_that_the_server_is_away() -> None:
    async with reported() as r:
        ana = await r.online("ana")
        await r.stop()
        await r.until(lambda: not ana.client.connected)
        assert reasons(r, "ana") != [EXITED]


async def test_a_server_has_its_port_alone_and_binds_to_loopback_only() -> None:
    async with reported() as r:
        port = r.address.port
        with pytest.raises(ServiceUnavailable, match="taken"):
            await AsReportedServer(port=port).start()
    with pytest.raises(NotPossible):
        AsReportedServer(host="0.0.0.0")


async def test_a_message_without_a_label_is_shown_too() -> None:
    async with reported() as r:
        bob = await r.online("bob")
        await r.forge("stock client", "bob", "hola")
        assert await bob.wait_for(1) == ["hola"]
        assert (bob.shown[0].id, bob.shown[0].seq) == ("", 0)


async def test_every_private_backend_has_its_client() -> None:
    async with reported() as r:
        life = r.person("ana").life
        kinds = {
            backend: type(private_client(life, backend, r.locate, lambda *_: None))
            for backend in backends.PRIVATE
        }
        assert kinds.pop("as-reported").__name__ == "AsReportedClient"
        assert set(kinds.values()) == {MailboxClient}


async def test_connecting_is_patient_with_services_that_are_away_or_slow() -> None:
    errors = [ServiceUnavailable("away"), SendUncertain("slow")]

    async def attempt() -> str:
        if errors:
            raise errors.pop()
        return "there"

    assert await patiently(attempt) == "there"
