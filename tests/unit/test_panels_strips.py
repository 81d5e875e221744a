"""Strips: which insults belong together, who got them, and what became of them."""

from __future__ import annotations

import random

import pytest
from plots_script import Script, dealt

from chatlab.messages import INSULTS, Message
from chatlab.panels.insults import SHOWN_INSULTS, _drawn
from chatlab.panels.strips import KEPT_STRIPS, Channel, Strip, strips_of
from chatlab.plots.shares import shares

NO_LIMIT = "prefetch=0,ack=manual,work=0.05"
AUTO = "prefetch=1,ack=auto,work=0.05"
COLOURS = {"ana": "#0072b2", "bob": "#e69f00", "eva": "#009e73"}


def channel(script: Script) -> Channel:
    read = Channel()
    read.read(script.journal.rows)
    return read


def strips(script: Script) -> list[Strip]:
    return list(channel(script).strips)


def take(script: Script, user: str, *insults: Message, again: bool = False) -> None:
    for insult in insults:
        script.fact("Delivered", user, INSULTS, insult, again)


def finish(script: Script, user: str, *insults: Message) -> None:
    for insult in insults:
        script.fact("Handled", user, INSULTS, insult.id)


def test_a_strip_has_the_numbers_of_the_picture() -> None:
    script = dealt(*["ana", "bob", "eva"] * 10)
    found = shares(script.journal)
    (strip,) = strips(script)
    assert list(strip.counts().values()) == found.counts == [10, 10, 10]
    assert strip.fairness == found.fairness == 1.0
    assert strip.title() == "prefetch 1, 50 ms of work each: 30 waiting, then 3 members joined"


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_redeliveries_are_the_picture_s_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    script = Script("ana", "bob", "eva").attach("ana", "bob", "eva")
    insults = [script.insult() for _ in range(40)]
    for _ in range(120):
        user, insult = chance.choice(script.users), chance.choice(insults)
        take(script, user, insult, again=True)
        if chance.random() < 0.7:
            finish(script, user, insult)
    found = shares(script.journal)
    (strip,) = strips(script)
    assert strip.counts() == {user: len(which) for user, which in found.got.items()}
    assert strip.how_many("waiting") == len(found.waiting)
    assert strip.fairness == pytest.approx(found.fairness)
    assert sum(map(strip.redelivered, script.users)) == sum(strip.counts().values())


def test_read_in_pieces_it_is_the_same() -> None:
    script = dealt("ana", "bob", "bob", "eva", options=NO_LIMIT)
    pieces, rows = Channel(), script.journal.rows
    for end in range(len(rows) + 1):
        pieces.read(rows[:end])
    assert pieces.strips == channel(script).strips


def test_an_insult_that_is_sent_under_another_setting_begins_a_strip() -> None:
    script = Script("ana", "bob").attach("ana", "bob")
    take(script, "ana", script.insult())
    take(script, "bob", script.insult())
    script.attach("ana", "bob", options=NO_LIMIT)
    assert len(strips(script)) == 1  # nothing was sent under it yet
    take(script, "ana", script.insult())
    first, second = strips(script)
    assert (first.title(), second.title()) == (
        "prefetch 1, no work",
        "no prefetch, 50 ms of work each",
    )
    assert (first.counts(), second.counts()) == ({"ana": 1, "bob": 1}, {"ana": 1, "bob": 0})
    script.attach("ana", options=NO_LIMIT)  # a connection that is back
    take(script, "bob", script.insult())
    assert len(strips(script)) == 2


def test_as_long_as_nobody_was_handed_one_the_strip_s_setting_is_that_of_now() -> None:
    script = Script("ana", "bob").attach("ana", "bob")
    script.insult()
    script.fact("Disconnected", "bob", INSULTS, "")
    script.insult()
    (strip,) = strips(script)
    assert (strip.setting.keys(), len(strip.insults)) == ({"ana"}, 2)


def test_an_insult_of_unknown_outcome_that_is_sent_again_is_the_same_one() -> None:
    script = Script("ana", "bob").attach("bob")
    insult = script.insult()
    script.fact("Sent", "ana", INSULTS, insult)
    take(script, "bob", insult)
    script.attach("bob", options=NO_LIMIT)
    script.fact("Sent", "ana", INSULTS, insult)
    assert [len(strip.insults) for strip in strips(script)] == [1]


@pytest.mark.parametrize("change", ["comes", "leaves", "works longer"])
def test_other_members_or_other_work_begin_a_strip(change: str) -> None:
    script = Script("ana", "bob", "eva").attach("ana", "bob")
    take(script, "ana", script.insult())
    if change == "leaves":
        script.fact("Disconnected", "bob", INSULTS, "")
    else:
        script.attach("eva" if change == "comes" else "bob", options=AUTO)
    script.insult()
    assert [len(strip.insults) for strip in strips(script)] == [1, 1]


def test_a_mere_sender_is_no_member() -> None:
    script = Script("ana", "bob").attach("bob")
    script.fact(
        "Connected", "ana", INSULTS, "rabbitmq:prefetch=1,ack=manual,work=0", "producer"
    )
    take(script, "bob", script.insult())
    (strip,) = strips(script)
    assert strip.counts() == {"bob": 1}
    assert strip.fairness is None  # of one there is nothing to compare
    script.fact("Connected", "bob", INSULTS, "rabbitmq:prefetch=1,work=0", "producer")
    assert channel(script).now == {}  # a member that from now on only sends


def test_a_backlog_and_its_takers_are_one_strip_even_if_one_takes_all() -> None:
    script = Script("ana", "bob", "eva")
    insults = [script.insult() for _ in range(30)]
    assert [strip.title() for strip in strips(script)] == ["nobody takes part"]
    script.attach("ana", options=NO_LIMIT)
    take(script, "ana", insults[0])
    script.attach("bob", "eva", options=NO_LIMIT)
    take(script, "ana", *insults[1:])
    (strip,) = strips(script)
    assert strip.counts() == {"ana": 30, "bob": 0, "eva": 0}
    assert strip.fairness == pytest.approx(1 / 3)
    assert strip.title().endswith("30 waiting, then 3 members joined")


def test_what_waits_while_its_takers_change_is_theirs_under_the_new_setting() -> None:
    script = Script("ana", "bob").attach("ana", "bob")
    insults = [script.insult() for _ in range(6)]
    take(script, "ana", insults[0])
    take(script, "bob", insults[1])
    script.attach("ana", options=NO_LIMIT)
    take(script, "ana", insults[2])  # bob is on his way
    script.attach("bob", options=NO_LIMIT)
    take(script, "bob", insults[3])
    first, second = strips(script)
    assert (first.counts(), second.counts()) == ({"ana": 1, "bob": 1}, {"ana": 1, "bob": 1})
    assert (first.how_many("waiting"), second.how_many("waiting")) == (2, 0)
    assert second.title() == "no prefetch, 50 ms of work each"
    assert channel(script).waiting == 2


def test_what_a_crashed_member_had_in_hand_waits_for_another() -> None:
    script = Script("ana", "bob").attach("ana", "bob")
    insult = script.insult()
    take(script, "ana", insult)
    script.fact("Crashed", "ana", "")
    (strip,) = strips(script)
    assert (strip.how_many("waiting"), strip.how_many("lost")) == (1, 0)
    assert not channel(script).hole
    take(script, "bob", insult)  # a second one has it: again, even if that is not marked
    finish(script, "ana", insult)  # by the one that had it: too late
    (strip,) = strips(script)
    assert strip.how_many("in work") == 1
    finish(script, "bob", insult)
    (strip,) = strips(script)
    assert strip.counts() == {"ana": 0, "bob": 1}
    assert (strip.redelivered("bob"), strip.how_many("handled")) == (1, 1)


def test_acknowledged_on_arrival_it_is_lost_with_its_member() -> None:
    script = Script("ana", "bob").attach("ana", "bob", options=AUTO)
    done, held, buffered = (script.insult() for _ in range(3))
    take(script, "ana", done)
    finish(script, "ana", done)
    take(script, "ana", held)
    script.fact("Crashed", "ana", "")
    read = channel(script)
    (strip,) = read.strips
    assert (strip.how_many("lost"), strip.how_many("waiting")) == (1, 1)
    assert strip.counts() == {"ana": 1, "bob": 0}
    assert read.hole  # what the journal cannot know: the broker has to be asked
    read.lose_waiting()
    assert strip.insults[buffered.id].where == "lost"
    assert (strip.how_many("lost"), read.waiting, read.hole) == (2, 0, False)


@pytest.mark.parametrize(
    ("backend", "fact", "hole"),
    [
        ("rabbitmq:ack=auto,work=0", ("Disconnected", "bob", INSULTS, "cut"), True),
        ("rabbitmq:ack=auto,work=0", ("Disconnected", "bob", INSULTS, ""), False),
        ("rabbitmq:ack=manual,work=0", ("Disconnected", "bob", INSULTS, "cut"), False),
        ("as-reported:work=0", ("FaultBegan", "", "", "kill", "rabbitmq"), True),
        ("as-reported:work=0", ("FaultBegan", "", "", "kill", "redis"), False),
        ("rabbitmq:ack=auto,work=0", ("FaultBegan", "", "", "kill", "rabbitmq"), False),
    ],
)
def test_the_broker_is_asked_only_after_what_may_have_lost_some(
    backend: str, fact: tuple[str, ...], hole: bool
) -> None:
    script = Script("ana", "bob")
    script.fact("Connected", "bob", INSULTS, backend, "consumer")
    script.insult()
    script.fact(*fact)
    assert channel(script).hole is hole


@pytest.mark.parametrize("answer", ["Failed", "Returned"])
def test_what_was_refused_never_came_into_the_channel(answer: str) -> None:
    script = Script("ana", "bob").attach("bob")
    message = script.message("ana", INSULTS)
    script.fact("Sent", "ana", INSULTS, message)
    script.fact(answer, "ana", INSULTS, message.id, "no")
    assert (len(strips(script)[0].insults), channel(script).waiting) == (0, 0)


def test_work_that_fails_gives_it_back_and_at_last_gives_it_up() -> None:
    script = Script("ana", "bob").attach("ana", "bob")
    insult = script.insult()
    take(script, "ana", insult)
    script.fact("Rejected", "ana", INSULTS, insult.id, False)
    assert (channel(script).waiting, channel(script).busy) == (1, False)
    take(script, "bob", insult, again=True)
    assert channel(script).busy
    script.fact("Rejected", "bob", INSULTS, insult.id, True)
    (strip,) = strips(script)
    assert (strip.how_many("failed"), strip.counts()) == (1, {"ana": 0, "bob": 0})


def test_what_another_kernel_sent_is_counted_when_it_comes() -> None:
    script = Script("ana").attach("ana")
    take(script, "ana", script.message("zoe", INSULTS))
    assert strips(script)[0].counts() == {"ana": 1}


def test_only_the_newest_strips_are_kept() -> None:
    script = Script("ana")
    late = []
    for number in range(KEPT_STRIPS + 5):
        script.attach("ana", options=f"prefetch={number},ack=manual,work=0")
        late.append(script.insult())
        take(script, "ana", script.insult())
    finish(script, "ana", *late)  # of strips that are gone, too
    read = channel(script)
    assert [strip.number for strip in read.strips] == list(range(6, KEPT_STRIPS + 6))
    assert len(read._strip_of) == 2 * KEPT_STRIPS


def test_the_table_has_a_row_a_member_and_strip() -> None:
    script = dealt("ana", "ana", "bob", options=NO_LIMIT)
    script.attach("ana", "bob", "eva")
    take(script, "eva", script.insult(), again=True)
    table = strips_of(script.journal)
    assert [(r["strip"], r["member"], r["insults"], r["redelivered"]) for r in table] == [
        *[(1, "ana", 2, 0), (1, "bob", 1, 0), (1, "eva", 0, 0)],
        *[(2, "ana", 0, 0), (2, "bob", 0, 0), (2, "eva", 1, 1)],
    ]
    assert table[0]["fairness"] == 0.6
    assert table[5]["setting"] == "prefetch 1, no work"


def test_members_with_different_options_are_called_so() -> None:
    script = Script("ana", "bob").attach("ana", options=NO_LIMIT).attach("bob", options=AUTO)
    script.insult()
    assert strips(script)[0].title() == "mixed settings, 50 ms of work each"


def test_a_strip_is_drawn_in_the_order_of_the_lab_s_users_with_two_letters_an_insult() -> None:
    script = Script("ana", "bob", "eva").attach("eva", "ana")
    first, second, third, _ = (script.insult() for _ in range(4))
    take(script, "eva", first)
    finish(script, "eva", first)
    take(script, "ana", second)
    take(script, "ana", third, again=True)
    finish(script, "ana", third)
    drawn = _drawn(strips(script)[0], COLOURS)
    assert [
        (row["name"], row["colour"], row["count"], row["again"]) for row in drawn["rows"]
    ] == [
        ("ana", COLOURS["ana"], 2, 1),
        ("eva", COLOURS["eva"], 1, 0),
    ]
    assert (drawn["who"][:3], drawn["how"]) == ("100", "hwHq")
    assert (drawn["waiting"], drawn["fairness"]) == (1, "0.90")


def test_many_members_and_insults_are_bounded_and_all_are_counted() -> None:
    names = [f"u{number}" for number in range(12)]
    script = Script(*names).attach(*names)
    for number in range(SHOWN_INSULTS + 500):
        take(script, names[number % 12], script.insult())
    drawn = _drawn(strips(script)[0], {})
    assert [row["name"] for row in drawn["rows"]][-2:] == ["u6", "5 others"]
    assert sum(row["count"] for row in drawn["rows"]) == drawn["total"] == SHOWN_INSULTS + 500
    assert len(drawn["who"]) == len(drawn["how"]) == SHOWN_INSULTS
    assert set(drawn["who"]) == set("01234567")
