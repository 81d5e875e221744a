"""The story that a picture tells is what the journal says: the fate of every message."""

from __future__ import annotations

from collections import Counter

import pytest
from plots_script import Script, bob_is_away

from chatlab.errors import InvalidInput
from chatlab.journal import Journal
from chatlab.plots.events import keeps, read
from chatlab.plots.lanes import lanes, order
from chatlab.plots.story import Story


def fates(story: Story, receiver: str) -> list[str]:
    return [flight.fate for flight in story.flights if flight.receiver == receiver]


def test_a_durable_group_keeps_what_bob_missed() -> None:
    story = read(bob_is_away(kept=True).journal)
    assert fates(story, "bob") == ["at once", "waited", "waited", "waited"]
    assert fates(story, "eva") == ["at once"] * 4
    assert (story.count("waited"), story.count("lost")) == (3, 0)


def test_a_transient_group_loses_what_bob_missed() -> None:
    story = read(bob_is_away(kept=False).journal)
    assert fates(story, "bob") == ["at once", "lost", "lost", "lost"]
    assert fates(story, "eva") == ["at once"] * 4


def test_the_senders_own_copy_is_no_flight() -> None:
    story = read(bob_is_away(kept=True).journal)
    assert fates(story, "ana") == []


def test_what_a_backend_keeps_for_one_still_absent_is_waiting_not_lost() -> None:
    script = Script("ana", "bob").join().leave("bob")
    script.send("ana")
    script.wait(5).fact("Drained", "", "", 0)
    assert fates(read(script.journal), "bob") == ["waiting"]


def test_a_present_receiver_that_never_saw_it_lost_it() -> None:
    script = Script("ana", "bob").join()
    script.send("ana")
    assert fates(read(script.wait(2).fact("Drained", "", "", 1).journal), "bob") == ["lost"]


def test_a_message_just_sent_is_under_way() -> None:
    script = Script("ana", "bob").join()
    script.send("ana")
    assert fates(read(script.journal), "bob") == ["under way"]
    assert fates(read(script.fact("Drained", "", "", 0).journal), "bob") == ["lost"]


def test_one_who_subscribes_later_or_left_before_is_not_meant() -> None:
    script = Script("ana", "bob", "eva").join("ana", "eva")
    script.fact("Left", "eva", "group:sd")
    script.send("ana")
    script.join("bob").wait(3)
    assert read(script.journal).flights == ()


def test_a_log_read_from_its_start_shows_a_late_joiner_what_waited() -> None:
    script = Script("ana", "bob", backend="rabbitmq-log").join("ana")
    message = script.send("ana")
    script.join("bob").see("bob", message)
    assert fates(read(script.journal), "bob") == ["waited"]


def test_subscribed_and_not_connected_is_absent() -> None:
    script = Script("ana", "bob").join("ana")
    script.fact("Subscribed", "bob", "group:sd", "rabbitmq-durable")
    message = script.send("ana")
    script.fact("Connected", "bob", "group:sd", "rabbitmq-durable", "member")
    story = read(script.see("bob", message).journal)
    assert fates(story, "bob") == ["waited"]
    assert [(a.user, a.why) for a in story.absences] == [("bob", "not connected")]


def test_a_mailbox_keeps_and_a_direct_call_does_not() -> None:
    for backend, fate in (("mailbox-redis", "waiting"), ("direct", "lost")):
        script = Script("ana", "bob")
        script.fact("Connected", "bob", "mailbox", backend, "both")
        script.fact("Disconnected", "bob", "mailbox", "").fact("Disconnected", "bob", "", "")
        script.write("ana", "bob", seen=False)
        assert fates(read(script.wait(2).fact("Drained", "", "", 0).journal), "bob") == [fate]


@pytest.mark.parametrize(
    ("chat", "backend", "kept"),
    [
        ("group:sd", "rabbitmq-durable:confirms=no", True),
        ("group:sd", "rabbitmq-quorum", True),
        ("group:sd", "redis-stream", True),
        ("group:sd", "redis-pubsub", False),
        ("group:sd", "rabbitmq-transient", False),
        ("group:sd", "memory", True),
        ("private:ana:bob", "mailbox-memory", True),
        ("private:ana:bob", "direct", False),
        ("insults", "rabbitmq", True),
    ],
)
def test_which_backends_keep(chat: str, backend: str, kept: bool) -> None:
    assert keeps(chat, backend) is kept


@pytest.mark.parametrize(
    ("outcome", "fate"), [("Failed", []), ("Returned", ["lost"]), ("Uncertain", ["unknown"])]
)
def test_an_outcome_decides_what_an_unseen_message_is(outcome: str, fate: list[str]) -> None:
    script = Script("ana", "bob").join()
    script.send("ana", outcome=outcome)
    assert fates(read(script.journal), "bob") == fate


def test_a_crash_ends_when_the_user_connects_again() -> None:
    script = Script("ana", "bob").join()
    message = script.send("ana", "bob")
    script.fact("Crashed", "bob", "").fact("Connected", "bob", "", "", "")
    script.fact("Connected", "bob", "group:sd", "rabbitmq-durable", "member")
    story = read(script.see("bob", message, again=True).journal)
    (absence,) = story.absences
    assert absence.why == "crashed" and absence.ended is not None
    assert story.repeated == 1 and len(story.flights[0].again) == 1


def test_frozen_until_thawed() -> None:
    script = Script("ana", "bob").join().fact("Frozen", "bob", "")
    message = script.send("ana")
    story = read(script.fact("Thawed", "bob", "").see("bob", message).journal)
    assert fates(story, "bob") == ["waited"]
    assert [absence.why for absence in story.absences] == ["frozen"]


def test_everybody_leaving_at_the_end_is_no_absence() -> None:
    script = Script("ana", "bob").join()
    script.send("ana", "bob")
    story = read(script.leave("ana").leave("bob").journal)
    assert story.absences == ()


def test_one_absence_is_shown_once_though_the_group_was_left_as_well() -> None:
    story = read(bob_is_away(kept=True).journal)
    assert [(a.user, a.chat) for a in story.absences] == [("bob", "")]


def test_absent_from_one_group_is_not_absent_from_the_other() -> None:
    script = Script("ana", "bob").join(to="sd").join(to="news")
    script.fact("Disconnected", "bob", "group:sd", "")
    script.send("ana", to="sd")
    script.send("ana", "bob", to="news")
    story = read(script.journal)
    assert Counter(f.fate for f in story.flights) == {"waiting": 1, "at once": 1}
    assert [absence.chat for absence in story.absences] == ["group:sd"]


def test_chat_picks_one_conversation() -> None:
    script = Script("ana", "bob", "eva").join("ana", "bob")
    script.send("ana", "bob")
    script.write("ana", "eva")
    everything, group, private = (
        read(script.journal, chat) for chat in (None, "sd", "ana + eva")
    )
    assert [len(story.sends) for story in (everything, group, private)] == [2, 1, 1]
    assert group.users == ("ana", "bob") and private.users == ("ana", "eva")
    with pytest.raises(InvalidInput, match="nothing-like-it"):
        read(script.journal, "nothing-like-it")


def test_a_fault_lasts_until_it_ended_or_the_journal_does() -> None:
    script = Script("ana", "bob").fact("FaultBegan", "", "", "kill", "rabbitmq")
    script.fact("FaultBegan", "", "", "cut", "bob-redis")
    script.fact("FaultEnded", "", "", "kill", "rabbitmq")
    faults = read(script.journal).faults
    assert [(f.fault, f.ended is None) for f in faults] == [("kill", False), ("cut", True)]


def test_a_message_without_its_send_is_counted_from_its_first_sight() -> None:
    script = Script("ana")
    script.see("ana", script.message("outsider", "sd"))
    story = read(script.journal)
    assert [send.sender for send in story.sends] == ["outsider"]
    assert fates(story, "ana") == ["at once"]


def test_the_table_has_a_row_for_each_flight() -> None:
    story = read(bob_is_away(kept=True, name="away").journal)
    rows = story.table()
    assert len(rows) == len(story.flights) == 8
    bob = next(r for r in rows if r["receiver"] == "bob" and r["fate"] == "waited")
    assert bob["scene"] == "away" and bob["message"] == 2 and bob["seconds"] > 0.5


def test_something_without_a_journal_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="not of int"):
        read(7)
    scene = type("Scene", (), {"journal": Journal(), "name": "s"})()
    assert read(scene).name == "s"


def test_the_sender_stands_between_and_the_absent_one_lowest() -> None:
    story = read(bob_is_away(kept=True).journal)
    assert order(story) == ["eva", "ana", "bob"]
    assert [lane.name for lane in lanes(story)] == ["eva", "ana", "queue sd.bob", "bob"]


def test_no_line_crosses_an_absent_user() -> None:
    script = Script("ana", "bob", "dan", "eva", "zoe").join().leave("dan").leave("bob")
    for _ in range(3):
        script.send("zoe", "ana", "eva")
    users = order(read(script.journal))
    assert {users[0], users[-1]} == {"bob", "dan"}


def test_not_crossing_an_absent_user_counts_more_than_crossing_few_lanes() -> None:
    script = Script("ana", "bob", "dan")
    for _ in range(5):
        script.write("ana", "dan")
        script.write("bob", "dan")
    assert order(read(script.journal))[1] == "dan"
    script.fact("Disconnected", "dan", "", "")
    script.write("ana", "bob")
    assert order(read(script.journal))[1] != "dan"


def test_a_store_has_a_lane_only_where_something_waited() -> None:
    script = Script("ana", "bob").join()
    script.send("ana", "bob")
    assert [lane.kind for lane in lanes(read(script.journal))] == ["user", "user"]
    private = Script("ana", "bob").fact("Disconnected", "bob", "", "")
    private.write("ana", "bob", seen=False)
    assert [x.name for x in lanes(read(private.journal))] == ["ana", "mailbox of bob", "bob"]
