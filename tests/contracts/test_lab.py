"""The public face on real services: what a cell of a notebook does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from chatlab.errors import (
    BackendMismatch,
    ChatClosed,
    InvalidInput,
    LabClosed,
    NotPossible,
    SendFailed,
    UnknownAccount,
    WaitTimeout,
)
from chatlab.groups.guarantees import guarantees
from chatlab.journal import Delivered, Disconnected, Drained, Journal, Sent
from chatlab.lab import Lab
from chatlab.settings import Settings

PRIVATE = ("mailbox-redis", "mailbox-memory")
GROUPS = ("rabbitmq-transient", "rabbitmq-durable", "redis-pubsub", "redis-stream", "memory")


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("face", settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    if not lab.closed:
        lab.scene(request.node.name)


# -- private chats


@pytest.mark.parametrize("backend", PRIVATE)
def test_a_private_message_arrives_and_its_receipt_says_that_somebody_listens(
    lab: Lab, backend: str
) -> None:
    ana, bob = lab.users("ana", "bob")
    receipt = ana.private_chat("bob", backend=backend).send("hola")
    assert (receipt.outcome, receipt.waiting, receipt.listeners) == ("confirmed", 0, 1)
    message = bob.private_chat("ana", backend=backend).wait_for(receipt)
    assert (message.id, message.sender, message.to, message.body, message.seq) == (
        *(receipt.id, "ana", "bob", "hola", 1),
    )


@pytest.mark.parametrize("backend", PRIVATE)
def test_messages_wait_for_who_is_away_and_come_in_order(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    life = bob.incarnation
    chat = ana.private_chat("bob", backend=backend)
    with bob.away():
        receipts = chat.send_many(["a", "b", "c"])
        assert bob.where == "offline"
    assert [r.outcome for r in receipts] == ["confirmed"] * 3
    assert (receipts[-1].waiting, receipts[-1].listeners) == (3, 0)
    inbox = bob.private_chat("ana", backend=backend)
    assert [m.body for m in inbox.wait(3)] == ["a", "b", "c"]
    assert bob.incarnation == life


@pytest.mark.parametrize("backend", PRIVATE)
def test_what_was_seen_just_before_leaving_does_not_wait(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob", backend), bob.private_chat("ana", backend)
    for _ in range(10):
        inbox.wait_for(chat.send("seen"))
        with bob.away():
            assert chat.send("waits").waiting == 1


@pytest.mark.parametrize("backend", PRIVATE)
def test_a_crashed_user_comes_back_as_a_new_incarnation_and_finds_what_waited(
    lab: Lab, backend: str
) -> None:
    ana, bob = lab.users("ana", "bob")
    life = bob.incarnation
    chat = ana.private_chat("bob", backend=backend)
    bob.crash()
    chat.send("while you were gone")
    bob.online()
    assert bob.incarnation == life + 1
    assert bob.private_chat("ana", backend=backend).next().body == "while you were gone"


def test_a_frozen_user_sees_nothing_until_thawed(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob"), bob.private_chat("ana")
    with bob.frozen():
        receipt = chat.send("are you there?")
        with pytest.raises(WaitTimeout, match="frozen"):
            inbox.wait_for(receipt, timeout=0.3)
        with pytest.raises(SendFailed, match="frozen"):
            inbox.send("no")
    assert inbox.wait_for(receipt).body == "are you there?"


def test_both_directions_are_in_messages_and_only_the_others_in_received(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    to_bob, to_ana = ana.private_chat("bob"), bob.private_chat("ana")
    to_ana.wait_for(to_bob.send("hola"))
    to_bob.wait_for(to_ana.send("adéu"))
    assert [m.body for m in to_bob.messages] == ["hola", "adéu"]
    assert [m.body for m in to_bob.received] == ["adéu"]
    assert [m.body for m in to_bob] == ["adéu"]


def test_next_gives_each_message_once(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.private_chat("bob").send_many(["1", "2"])
    inbox = bob.private_chat("ana")
    assert [inbox.next().body, inbox.next().body] == ["1", "2"]
    with pytest.raises(WaitTimeout):
        inbox.next(timeout=0.05)


def test_follow_is_live_and_ends_by_itself(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, inbox = ana.private_chat("bob"), bob.private_chat("ana")
    threading.Timer(0.1, chat.send, ["live"]).start()
    assert [m.body for m in inbox.follow(seconds=0.6)] == ["live"]


def test_an_unknown_receiver_is_said_at_once(lab: Lab) -> None:
    (ana,) = lab.users("ana")
    chat = ana.private_chat("nobody")
    with pytest.raises(UnknownAccount, match="nobody"):
        chat.send("hola?")
    assert [r.outcome for r in chat.send_many(["a", "b"])] == ["failed"] * 2


# -- groups


@pytest.mark.parametrize("backend", GROUPS)
def test_every_member_gets_every_message_the_sender_too(lab: Lab, backend: str) -> None:
    rooms = {u.name: u.join("sd", backend=backend) for u in lab.users("ana", "bob", "eva")}
    receipts = rooms["ana"].send_many([str(n) for n in range(20)])
    assert lab.settle().done
    assert {r.outcome for r in receipts} == {"confirmed"}
    assert receipts[-1].listeners == 2
    for room in rooms.values():
        assert [m.body for m in room.received] == [str(n) for n in range(20)]
        assert {m.sender for m in room.received} == {"ana"}


@pytest.mark.parametrize("backend", GROUPS)
def test_only_some_groups_keep_what_an_absent_member_misses(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    room, absent = (u.join("sd", backend=backend) for u in (ana, bob))
    room.send("a")
    lab.settle()
    with bob.away():
        receipt = room.send("b")
    room.send("c")
    assert lab.settle().done
    keeps = guarantees(backend).away == "kept"
    assert "".join(m.body for m in absent.received) == ("abc" if keeps else "ac")
    assert receipt.outcome == ("confirmed" if keeps else "unroutable")
    assert receipt.waiting == (1 if keeps else 0)


@pytest.mark.parametrize("backend", GROUPS)
def test_a_crashed_member_of_a_group_comes_back_and_goes_on(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    room, other = (u.join("sd", backend=backend) for u in (ana, bob))
    other.wait_for(room.send("a"))
    lab.settle()
    bob.crash()
    room.send("b")
    bob.online()
    room.send("c")
    assert lab.settle().done
    keeps = guarantees(backend).away == "kept"
    assert "".join(m.body for m in other.received) == ("abc" if keeps else "ac")


@pytest.mark.parametrize("backend", GROUPS)
def test_a_scene_forgets_the_groups_of_the_one_before(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.join("sd", backend=backend)
    bob.join("sd").send("old")
    lab.scene("another")
    room = bob.join("sd", backend=backend)
    assert room.send("nobody").outcome == "unroutable"
    other = ana.join("sd")
    other.wait_for(room.send("new"))
    assert [m.body for m in other.received] == ["new"]
    tier = lab.current.journal.header["tier"]
    assert tier == guarantees(backend).tier


@pytest.mark.parametrize("backend", ["redis-pubsub", "redis-stream"])
def test_a_cut_link_to_redis_is_told_and_heals(lab: Lab, backend: str) -> None:
    ana, bob = lab.users("ana", "bob")
    room, other = (u.join("sd", backend=backend) for u in (ana, bob))
    other.wait_for(room.send("before"))
    lab.cut(bob, "redis")
    sent = room.send_many(["1", "2", "3"])
    lab.heal(bob)
    assert lab.settle(timeout=10).done
    other.wait_for(room.send("after"))
    seen = [m.body for m in other.received]
    told = [fact.reason for fact in lab.journal.facts(Disconnected) if "issed" in fact.reason]
    if guarantees(backend).link_cut == "kept":
        assert seen == ["before", "1", "2", "3", "after"]
        assert {receipt.outcome for receipt in sent} == {"confirmed"}
        assert told == []
    else:
        assert seen == ["before", "after"]
        assert ["3 messages" in reason for reason in told] == [True]


def test_a_user_in_a_process_of_its_own_cannot_join_what_is_in_memory(
    lab_settings: Settings,
) -> None:
    with Lab.start("processes", settings=lab_settings) as lab:
        ana = lab.user("ana")
        dan = lab.user("dan", process=True)
        with pytest.raises(NotPossible, match="dan is a process"):
            dan.join("sd", backend="memory")
        ana.join("sd", backend="memory")
        with pytest.raises(NotPossible, match="dan is a process"):
            dan.join("sd")
        stream = ana.join("news", backend="redis-stream")
        theirs = dan.join("news")
        theirs.wait_for(stream.send("hola"))


def test_state_shows_a_group_s_stream_and_cursors(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room = ana.join("sd", backend="redis-stream")
    bob.subscribe("sd")
    before = lab.state()
    room.send_many(["a", "b"])
    lab.settle()
    changed = {(row["thing"], row["name"]): row["now"] for row in lab.state() - before}
    assert changed["group: messages in stream", "sd"] == 2
    assert changed["group: waiting", "sd: bob"] == 2


def test_a_subscribed_member_that_is_not_connected_finds_everything_later(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    absent = bob.subscribe("sd", backend="rabbitmq-durable")
    room = ana.join("sd")
    room.send_many(["a", "b"])
    settled = lab.settle()
    assert settled.done
    assert settled.waiting.table() == [{"chat": "sd", "for": "bob", "messages": 2}]
    absent.connect()
    assert [m.body for m in absent.wait(2)] == ["a", "b"]


def test_who_unsubscribes_gets_nothing_more_and_may_come_back(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room, other = ana.join("sd"), bob.join("sd")
    other.unsubscribe()
    assert room.send("without bob").outcome == "unroutable"
    other.subscribe()
    other.connect()
    room.send("with bob")
    lab.settle()
    assert [m.body for m in other.received] == ["with bob"]


def test_subscribing_and_connecting_twice_changes_nothing(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    room = ana.join("sd")
    other = bob.join("sd").subscribe().connect()
    bob.join("sd")
    room.send("once")
    lab.settle()
    assert [m.body for m in other.received] == ["once"]


def test_a_group_keeps_its_backend_and_a_mismatch_names_both(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.join("news", backend="rabbitmq-transient")
    assert bob.join("news").backend == "rabbitmq-transient"
    with pytest.raises(BackendMismatch, match=r"(?s)transient.*durable|durable.*transient"):
        bob.join("news", backend="rabbitmq-durable")


def test_group_finds_the_handle_again_and_an_unknown_group_is_said(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.join("sd")
    assert bob.group("sd").send("from outside").listeners == 1
    lab.settle()
    assert [m.body for m in ana.group("sd").received] == ["from outside"]
    with pytest.raises(ChatClosed, match="no group nowhere"):
        ana.group("nowhere")


def test_sending_where_nobody_else_listens_is_unroutable(lab: Lab) -> None:
    (ana,) = lab.users("ana")
    for backend in GROUPS:
        assert ana.join(backend, backend=backend).send("alone").outcome == "unroutable"


# -- insults


def test_thirty_insults_without_a_limit_go_to_three_busy_members_ten_each(lab: Lab) -> None:
    # With a limit, who is not idle in time would be passed over.
    channels = [u.insults(work=0.02, prefetch=0) for u in lab.users("ana", "bob", "eva")]
    channels[0].send_many([str(n) for n in range(30)])
    assert lab.settle(timeout=10).done
    assert [len(c.received) for c in channels] == [10, 10, 10]


def test_a_role_may_change_and_a_listener_may_not_send(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    producer = ana.insults(role="producer")
    assert producer.send("waits for somebody").listeners == 0
    consumer = bob.insults(role="consumer")
    assert consumer.next().body == "waits for somebody"
    with pytest.raises(NotPossible, match="only listens"):
        consumer.send("no")
    bob.insults(role="producer")
    ana.insults(role="consumer")
    bob.insults(role="producer").send("back")
    assert ana.insults(role="consumer").next().body == "back"


def test_who_leaves_the_insult_channel_gets_no_more(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    channel, other = ana.insults(), bob.insults()
    other.leave()
    channel.send_many(["1", "2", "3", "4"])
    lab.settle()
    assert len(channel.received) == 4
    assert other.received == []
    with pytest.raises(SendFailed):
        other.send("I am gone")


# -- discovery, state, the record


def test_the_registry_lists_users_and_groups_and_drops_who_leaves(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.join("sd")
    names = {entry.name for entry in lab.discover()}
    assert {"ana", "bob", "sd"} <= names
    with bob.away():
        assert "bob" not in lab.discover(via="registry").users


def test_a_crashed_user_disappears_from_the_registry_with_its_lease(lab: Lab) -> None:
    (bob,) = lab.users("bob")
    bob.crash()
    assert "bob" in lab.discover().users
    deadline = time.monotonic() + 4 * lab.settings.lease_seconds
    while "bob" in lab.discover().users:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_management_api_knows_the_members_of_a_group(lab: Lab) -> None:
    for user in lab.users("ana", "bob"):
        user.join("sd")
    (sd,) = (entry for entry in lab.discover(via="management") if entry.kind == "group")
    assert (sd.name, sd.members) == ("sd", ("ana", "bob"))


def test_state_shows_what_changed_and_where(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob")
    with bob.away():
        before = lab.state()
        chat.send("hola")
        changed = lab.state() - before
    where = {row["process"] for row in changed}
    assert {"Redis", "client of ana"} <= where
    assert "client of bob" not in where


def test_state_shows_the_shared_registry(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    ana.join("sd")
    before = lab.state()
    bob.offline()
    after = lab.state()
    (gone,) = (row for row in after - before if row["thing"] == "registry")
    assert (gone["process"], gone["name"], gone["now"]) == ("Redis", "bob", None)
    groups = {row["name"]: row["value"] for row in after if row["thing"] == "registry: group"}
    assert groups == {"sd": ["ana"]}


def test_the_journal_of_a_scene_is_its_own_and_survives_a_file(lab: Lab, tmp_path) -> None:  # type: ignore[no-untyped-def]
    ana, bob = lab.users("ana", "bob")
    scene = lab.scene("first")
    chat = ana.private_chat("bob")
    bob.private_chat("ana").wait_for(chat.send("hola"))
    lab.settle()
    kept = len(scene.journal)
    lab.scene("second")
    assert len(scene.journal) == kept
    assert [f.message.body for f in scene.journal.facts(Sent)] == ["hola"]
    again = Journal.load(scene.journal.save(tmp_path / "scene.jsonl"))
    assert list(again) == list(scene.journal)
    assert again.header["tier"] == "real" and again.header["scene"] == "first"


def test_sent_comes_before_delivered_before_acked(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    bob.private_chat("ana").wait_for(ana.private_chat("bob").send("hola"))
    lab.settle()
    kinds = [type(f).__name__ for f in lab.journal if getattr(f, "chat", "").startswith("priv")]
    assert kinds.index("Sent") < kinds.index("Delivered")
    assert len(list(lab.journal.facts(Delivered))) == 1
    assert len(list(lab.journal.facts(Drained))) == 1


def test_a_new_scene_starts_from_nothing_and_old_handles_say_so(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat, room = ana.private_chat("bob"), ana.join("sd")
    bob.subscribe("sd")
    bob.offline()
    chat.send_many(["a", "b"])
    room.send("c")
    lab.scene("after")
    assert bob.where == "online"
    with pytest.raises(ChatClosed, match="scene"):
        chat.send("too late")
    assert bob.private_chat("ana").received == []
    assert lab.discover().groups == []
    bob.join("sd")
    lab.settle()
    assert bob.group("sd").received == []


# -- bad input, and the lab itself


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 65, "amq.gen", "a b", "é" * 49])
def test_a_name_that_cannot_be_is_refused_with_the_limit(lab: Lab, name: str) -> None:
    (ana,) = lab.users("ana")
    for refuse in (lab.user, ana.private_chat, ana.join, ana.subscribe, ana.group):
        with pytest.raises(InvalidInput) as caught:
            refuse(name)
        assert caught.value.todo


@pytest.mark.parametrize("body", ["", "x" * (64 * 1024 + 1), 5, "\ud800"])
def test_a_body_that_cannot_be_is_refused_and_nothing_is_sent(lab: Lab, body: str) -> None:
    ana, _ = lab.users("ana", "bob")
    chat = ana.private_chat("bob")
    with pytest.raises(InvalidInput):
        chat.send(body)
    with pytest.raises(InvalidInput):
        chat.send_many(["fine", body])
    assert chat.messages == []


def test_the_largest_body_arrives_whole_by_every_way(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    body = "ü" * (32 * 1024)
    for end, other in (
        *((ana.private_chat("bob", b), bob.private_chat("ana", b)) for b in PRIVATE),
        *((ana.join(b, backend=b), bob.join(b)) for b in GROUPS),
    ):
        assert other.wait_for(end.send(body)).body == body


@pytest.mark.parametrize(
    "options", [{"role": "boss"}, {"prefetch": -1}, {"ack": "no"}, {"work": -1}]
)
def test_an_insult_option_out_of_range_is_refused(lab: Lab, options: dict[str, object]) -> None:
    (ana,) = lab.users("ana")
    with pytest.raises(InvalidInput):
        ana.insults(**options)  # type: ignore[arg-type]


def test_an_unknown_backend_is_refused_and_the_known_are_named(lab: Lab) -> None:
    (ana,) = lab.users("ana")
    with pytest.raises(InvalidInput, match="mailbox-redis"):
        ana.private_chat("bob", backend="carrier-pigeon")
    with pytest.raises(InvalidInput, match="rabbitmq-durable"):
        ana.join("sd", backend="carrier-pigeon")


def test_breaking_shared_services_is_refused_with_the_way_to_get_ones_own(lab: Lab) -> None:
    for service in (lab.rabbitmq, lab.redis, lab.server):
        with pytest.raises(NotPossible, match=r"breakable=True"):
            service.kill()


def test_a_service_says_what_its_process_holds_and_how_long_it_took_to_start(lab: Lab) -> None:
    for service in (lab.rabbitmq, lab.redis):
        # An Erlang machine is some 100 MB, a small Redis some 10; neither is a gigabyte.
        assert 2 < service.megabytes < 1000
        assert 0 < service.boot_seconds < 90
    assert lab.rabbitmq.megabytes > lab.redis.megabytes


def test_starting_twice_gives_the_running_lab_and_fresh_a_new_one(
    lab: Lab, lab_settings: Settings
) -> None:
    one = Lab.start("twice", settings=lab_settings)
    assert Lab.start("twice", settings=lab_settings) is one
    other = Lab.start("twice", settings=lab_settings, fresh=True)
    assert other is not one and one.closed
    other.close()
    other.close()
    with pytest.raises(LabClosed):
        other.users("ana")


def test_two_labs_of_one_name_share_nothing_by_accident(
    lab: Lab, lab_settings: Settings
) -> None:
    with Lab.start("other", settings=lab_settings) as other:
        stranger = other.user("ana")
        assert other.rabbitmq.facts()["virtual host"] != lab.rabbitmq.facts()["virtual host"]
        with pytest.raises(UnknownAccount):
            stranger.private_chat("bob").send("are you my bob?")


def test_a_shared_lab_is_one_place_for_several_kernels(
    lab: Lab, lab_settings: Settings
) -> None:
    guest = """
from chatlab import Lab
with Lab.join("class") as lab:
    gus = lab.user("gus")
    room = gus.join("sd")
    listeners = room.send("hola from the other kernel").listeners
    print(listeners, [entry.name for entry in lab.discover()])
    room.wait(2)
    gus.private_chat("ana").send("from a chat server of my own")
"""
    with Lab.start("class", shared=True, settings=lab_settings) as ours:
        room = ours.user("ana").join("sd")
        other = subprocess.Popen(
            [sys.executable, "-c", guest], stdout=subprocess.PIPE, text=True
        )
        assert room.next(timeout=30).body == "hola from the other kernel"
        room.send("good bye")
        private = ours.user("ana").private_chat("gus")
        assert private.next(timeout=30).body == "from a chat server of my own"
        shown, _ = other.communicate(timeout=30)
        assert shown == "1 ['ana', 'gus', 'sd']\n"
        assert other.returncode == 0
        assert room.send("are you gone?").waiting == 1, "its durable queue stays"


def test_a_lab_without_links_works_and_refuses_faults_on_one_user(
    lab: Lab, lab_settings: Settings
) -> None:
    with Lab.start("bare", settings=lab_settings, links=False) as bare:
        ana, bob = bare.users("ana", "bob")
        bob.private_chat("ana").wait_for(ana.private_chat("bob").send("hola"))
        for refuse in (bob.crash, bob.freeze, lambda: bare.cut(bob, "redis")):
            with pytest.raises(NotPossible, match="links=True"):
                refuse()


def test_a_redis_that_is_not_there_is_said_in_three_lines(lab_settings: Settings) -> None:
    settings = replace(lab_settings, redis_url="redis://127.0.0.1:1/0")
    from chatlab.errors import ServiceUnavailable

    with pytest.raises(ServiceUnavailable) as caught:
        Lab.start("nowhere", settings=settings)
    assert len(str(caught.value).splitlines()) == 3


def test_reprs_are_small_tables(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    chat = ana.private_chat("bob")
    receipt = chat.send("<b>hola</b>")
    message = bob.private_chat("ana").wait_for(receipt)
    things = (
        lab,
        lab.rabbitmq,
        lab.redis,
        lab.server,
        ana,
        chat,
        lab.journal,
        receipt,
        message,
    )
    for thing in (*things, lab.current, lab.state(), lab.discover(), lab.settle()):
        html = thing._repr_html_()
        assert html.startswith("<table>"), thing
        assert "object at 0x" not in html + repr(thing)
        assert "<b>hola" not in html
        for secret in (lab.lease.rabbitmq.password, lab.lease.redis.password):
            assert secret not in html + repr(thing)
