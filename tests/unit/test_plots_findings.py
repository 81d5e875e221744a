"""The titles say what the journal says, in the words of the pictures."""

from __future__ import annotations

import pytest
from plots_script import Script, bob_is_away, dealt

from chatlab.journal import Journal
from chatlab.plots.events import read
from chatlab.plots.findings import spacetime_finding
from chatlab.plots.shares import insults_finding, jain, shares
from chatlab.plots.tallies import account, persistence_finding


def spacetime(*scenes: object) -> str:
    return spacetime_finding([read(scene) for scene in scenes])[0]


def persistence(*scenes: object) -> str:
    return persistence_finding(account(*scenes))[0]


def insults(*scenes: object) -> str:
    return insults_finding([shares(scene) for scene in scenes])[0]


def test_space_time_titles() -> None:
    kept, lost = bob_is_away(kept=True), bob_is_away(kept=False)
    assert spacetime(kept) == "Bob was away: 3 messages waited, 0 were lost"
    assert spacetime(lost) == "3 messages were lost while bob was away"
    both = spacetime(kept, lost)
    assert both == "Bob was away: 3 messages waited, or 3 were lost"
    assert spacetime(Journal()) == "No messages were sent"


def test_space_time_titles_of_one_message() -> None:
    kept = bob_is_away(kept=True, missed=1)
    assert spacetime(kept) == "Bob was away: 1 message waited, 0 were lost"
    lost = bob_is_away(kept=False, missed=1)
    assert spacetime(lost) == "1 message was lost while bob was away"
    plain = Script("ana", "bob").join()
    plain.send("ana", "bob")
    assert spacetime(plain) == "Nobody was away: 1 message, seen"
    plain.send("bob", "ana")
    assert spacetime(plain) == "Nobody was away: 2 messages, all seen"


def test_space_time_titles_of_what_still_waits_came_again_or_met_a_fault() -> None:
    waits = Script("ana", "bob").join().leave("bob")
    waits.send("ana")
    assert spacetime(waits) == "Bob is away: 1 message still waits, 0 were lost"

    again = Script("ana", "bob").join()
    message = again.send("ana", "bob")
    again.fact("Crashed", "bob", "").come("bob").see("bob", message, again=True)
    assert spacetime(again) == "Bob crashed: 1 message came again, 0 were lost"

    fault = Script("ana", "bob").join().fact("FaultBegan", "", "", "kill", "rabbitmq")
    fault.send("ana")
    fault.wait(3).fact("FaultEnded", "", "", "kill", "rabbitmq")
    title = spacetime(fault)
    assert title == "1 message was lost when RabbitMQ was killed"


def test_persistence_numbers_and_title() -> None:
    lost = bob_is_away(kept=False, before=4, name="transient")
    kept = bob_is_away(kept=True, before=4, name="durable")
    strips = account(lost, kept)
    (first,), (second,) = (strip.tallies for strip in strips)
    assert (first.receiver, first.sent, first.seen, first.lost) == ("bob", 7, 4, 3)
    assert (second.sent, second.seen, second.late, second.lost) == (7, 7, 3, 0)
    assert [strip.title for strip in strips] == ["transient (exclusive) queue", "durable queue"]
    assert persistence(lost, kept) == "Same absence: bob sees 4 of 7, or all 7 late"
    assert persistence(kept) == "Bob was away: 7 of 7 seen, 3 of them late"


def test_two_groups_of_one_scene_are_two_strips() -> None:
    script = Script("ana", "bob", "eva").join(to="sd")
    script.join(to="news", backend="rabbitmq-transient").leave("bob", "sd", "news")
    script.send("ana", "eva", to="news")
    message = script.send("ana", "eva", to="sd")
    script.come("bob", "sd", "news").see("bob", message).wait(2).fact("Drained", "", "", 0)
    strips = account(script)
    assert [strip.note for strip in strips] == ["group news", "group sd"]
    assert [strip.tallies[0].seen for strip in strips] == [0, 1]
    assert [[t.receiver for t in strip.tallies] for strip in strips] == [["bob"], ["bob"]]
    assert persistence(script) == "Same absence: bob sees 0 of 1, or all 1 late"


def test_what_a_private_chat_refused_was_sent_and_not_seen_and_not_lost() -> None:
    script = Script("ana", "bob")
    script.fact("Connected", "bob", "private:ana:bob", "direct", "both")
    script.write("ana", "bob")
    script.fact("Disconnected", "bob", "", "")
    for _ in range(2):
        script.write("ana", "bob", seen=False, outcome="Failed")
    script.fact("Connected", "bob", "", "", "")
    script.write("ana", "bob")
    (strip,) = account(script)
    (tally,) = strip.tallies
    assert (tally.sent, tally.seen, tally.refused, tally.lost) == (4, 2, 2, 0)
    assert [send.number for send in strip.story.sends] == [1, 2, 3, 4]
    assert persistence(script) == "Bob was away: 2 of 4 seen, 2 refused"


def test_insult_shares() -> None:
    fair = shares(dealt(*["ana", "bob", "eva"] * 10).journal)
    assert fair.counts == [10, 10, 10] and fair.fairness == 1.0
    assert fair.got["bob"][:3] == (2, 5, 8)
    assert fair.backlog == 30 and fair.setting.words() == "prefetch 1"
    assert fair.setting.work_words() == "50 ms of work each"
    assert [row["insults"] for row in fair.table()] == [10, 10, 10]


@pytest.mark.parametrize(
    ("counts", "index"), [([30, 0, 0], 1 / 3), ([5, 5], 1.0), ([], 1.0), ([4, 2], 0.9)]
)
def test_jains_index(counts: list[int], index: float) -> None:
    assert jain(counts) == pytest.approx(index)


def test_insult_titles() -> None:
    greedy = dealt(*["ana"] * 30, options="prefetch=0,ack=manual,work=0.05")
    fair = dealt(*["ana", "bob", "eva"] * 10)
    before_after = insults(greedy, fair)
    assert before_after == "Whoever comes first takes all, unless prefetch is 1"
    assert insults(fair) == "30 insults, 10 each: fair"
    assert insults(greedy) == "Ana takes all 30 insults: it came first"
    uneven = dealt("ana", "ana", "ana", "bob", backlog=False)
    assert insults(uneven) == "4 insults: 3 / 1 / 0, fairness 0.53"
    assert insults(Script("ana")) == "No insults were sent"
    bare = insults_finding([shares(dealt(*["ana"] * 30, options="work=0.05")), shares(fair)])
    assert "acks are manual and prefetch is 1" in bare[0]  # too long for a card
    assert bare[1] == "Whoever comes first takes all, or all get the same"


def test_the_title_does_not_claim_a_cure_that_did_not_work() -> None:
    greedy = dealt(*["ana"] * 30, options="prefetch=0,ack=manual,work=0")
    still = dealt(*["ana"] * 17, *["bob"] * 13, options="prefetch=1,ack=manual,work=0")
    title = insults(greedy, still)
    assert title == "30 / 0 / 0 without prefetch, 17 / 13 / 0 with prefetch 1"


def test_an_insult_taken_back_counts_for_the_one_who_kept_it() -> None:
    script = Script("ana", "bob").attach("ana", "bob")
    insult = script.insult()
    script.see("ana", insult, chat="insults").fact("Crashed", "ana", "")
    script.see("bob", insult, chat="insults", again=True)
    strip = shares(script.journal)
    assert (strip.got["ana"], strip.got["bob"], strip.taken_back["ana"]) == ((), (1,), (1,))


def test_insults_that_nobody_got_wait_until_the_lab_found_nothing_left() -> None:
    script = Script("ana", "bob").attach("bob")
    script.insult()
    assert shares(script.journal).waiting == (1,)
    script.fact("Drained", "", "", 0)
    assert (shares(script.journal).waiting, shares(script.journal).lost) == ((), (1,))


def crashed(*, handed_on: bool = False) -> Script:
    """Ana crashes with the first of three insults in her hands; bob has done the second."""
    options = "prefetch=1,ack=manual,work=0" if handed_on else "prefetch=1,ack=auto,work=0"
    script = Script("ana", "bob").attach("ana", "bob", options=options)
    first, second, third = (script.insult() for _ in range(3))
    script.see("ana", first, chat="insults").see("bob", second, chat="insults")
    script.fact("Handled", "bob", "insults", second.id).fact("Crashed", "ana", "")
    for insult in (first, third) if handed_on else ():
        script.see("bob", insult, chat="insults", again=True)
        script.fact("Handled", "bob", "insults", insult.id)
    return script


def test_what_a_crash_took_along_is_lost_once_the_others_have_nothing_to_do() -> None:
    script = crashed()
    assert shares(script.journal).waiting == (1, 3)
    strip = shares(script.wait(2).fact("Drained", "", "", 2).journal)
    assert (strip.lost, strip.waiting, strip.taken_back["ana"]) == ((1, 3), (), (1,))
    assert strip.got == {"ana": (), "bob": (2,)}


def test_a_member_at_work_may_still_take_what_waits() -> None:
    script = crashed()
    script.see("bob", script.insult(), chat="insults").wait(2).fact("Drained", "", "", 3)
    assert shares(script.journal).waiting == (1, 3)


def test_the_title_of_several_strips_says_what_was_lost() -> None:
    lost = crashed().wait(2).fact("Drained", "", "", 2)
    title = insults(lost, crashed(handed_on=True))
    assert title == "2 of 3 lost with auto-ack, 0 of 3 with prefetch 1"


def test_an_insult_that_was_refused_did_not_wait() -> None:
    script = Script("ana", "bob")
    script.insult()
    refused = script.message("ana", "insults")
    script.fact("Sent", "ana", "insults", refused).result(refused, "insults", "Returned")
    strip = shares(script.attach("bob").journal)
    assert (strip.backlog, strip.total) == (1, 1)
