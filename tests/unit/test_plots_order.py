"""The order picture counts inversions as brute force does, and only where order is promised."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from plots_script import Script, dealt

from chatlab import plots
from chatlab.messages import group
from chatlab.plots.events import read
from chatlab.plots.order import Member, members


def member(script: Script, name: str = "bob") -> Member:
    (found,) = [m for m in members(script.journal, read(script)) if m.name == name]
    return found


def shuffled(seen: list[int], sender: str = "ana") -> Script:
    """Ana sends to bob, who sees the messages in the order of these places (from 0)."""
    script = Script("ana", "bob").join()
    sent = [script.send(sender) for _ in range(max(seen, default=-1) + 1)]
    return script.see("bob", *(sent[place] for place in seen))


@pytest.mark.parametrize("seed", range(5))
def test_inversions_are_counted_as_brute_force_counts_them(seed: int) -> None:
    seen = list(range(40))
    random.Random(seed).shuffle(seen)
    expected = sum(one > other for one, other in combinations(seen, 2))
    late = sum(place < max(seen[:at], default=-1) for at, place in enumerate(seen))
    found = member(shuffled(seen))
    assert (found.inversions, found.late) == (expected, late)
    assert [(x - 1, y) for _, x, y, _ in found.places] == list(
        zip(seen, range(1, 41), strict=True)
    )


def test_in_order_is_the_diagonal() -> None:
    found = member(shuffled([0, 1, 2]))
    assert found.inversions == 0
    assert [(x, y) for _, x, y, _ in found.places] == [(1, 1), (2, 2), (3, 3)]


def test_pairs_of_two_senders_or_two_conversations_do_not_count() -> None:
    script = Script("ana", "bob", "eva").join().join(to="news")
    first, second = script.send("ana"), script.send("eva")
    third = script.send("ana", to="news")
    script.see("bob", third, chat=group("news")).see("bob", second, first)
    assert member(script).inversions == 0
    assert sum(x != y for _, x, y, _ in member(script).places) == 2


def test_what_was_sent_twice_under_one_id_has_no_place_of_its_own() -> None:
    script = Script("ana", "bob").join()
    first, second = script.send("ana", outcome="Uncertain"), script.send("ana")
    script.see("bob", second).fact("Sent", "ana", group("sd"), first).see("bob", first)
    assert member(script).inversions == 0
    assert member(shuffled([1, 0])).inversions == 1


def test_each_life_of_a_receiver_has_an_order_of_its_own() -> None:
    script = Script("ana", "bob").join()
    first, second = script.send("ana"), script.send("ana")
    script.see("bob", second)
    script.journal.append(("Delivered", script.at + 1, "bob", 2, group("sd"), first, False))
    assert member(script).inversions == 0


def test_second_copies_and_losses_are_shown_and_are_no_inversions() -> None:
    script = shuffled([0, 2, 2, 0])
    script.wait(2).fact("Drained", "", "", 0)
    found = member(script)
    assert (found.inversions, found.lost, found.meant) == (0, (2,), 3)
    assert found.again == ((1, 2), (3, 2))
    picture = plots.order(script)
    assert {"0 inversions · 2 again · 1 lost"} <= {text.get_text() for text in picture.texts}
    assert "hollow = seen again" in picture.caption and "× = lost" in picture.caption
    (row,) = picture.table()
    assert (row["duplicates"], row["lost"], row["seen"], row["meant"]) == (2, 1, 2, 3)


def test_titles_of_order() -> None:
    wrong, right = shuffled([2, 0, 1]), shuffled([0, 1])
    assert plots.order(wrong).finding == "Bob saw 2 pairs of messages in the wrong order"
    assert plots.order(right).finding == "Bob saw each sender's messages in order"
    assert plots.order(wrong, right).finding.startswith("Inversions: ")
    assert plots.order(right, right).finding.endswith("in order, in all 2 cases")
    assert plots.order(Script("ana")).finding == "No messages were sent"
    assert (
        plots.order(Script("ana", "bob").join().leave("bob")).finding == "No messages were sent"
    )


def test_members_beyond_eight_are_counted_and_those_with_inversions_are_drawn() -> None:
    names = [f"user-{number}" for number in range(12)]
    script = Script("ana", *names).join()
    first, second = script.send("ana", *names[:-1]), script.send("ana", *names)
    script.see(names[-1], first)
    assert second.seq > first.seq
    picture = plots.order(script)
    shown = {text.get_text() for text in picture.texts}
    assert names[-1] in shown and len(shown & set(names)) == 8
    assert len(picture.table()) == 12
    assert "4 members with fewest inversions not drawn" in picture.caption


def test_the_order_of_insults_is_that_of_what_a_member_took() -> None:
    script = dealt("ana", "bob", "ana")
    assert [(x, y) for _, x, y, _ in member(script, "ana").places] == [(1, 1), (2, 2)]
