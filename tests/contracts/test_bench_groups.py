"""The measurement of groups with small numbers; its ratios are for ``chatlab bench``."""

from __future__ import annotations

from itertools import chain

import pytest

from chatlab.bench import baselines, groups
from chatlab.bench.figures import FIGURES
from chatlab.journal import Journal


@pytest.mark.soak
def test_every_figure_is_measured_and_the_journal_is_on_in_one_half_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(groups, "ONE_BY_ONE", 20)
    monkeypatch.setattr(groups, "MANY", 200)
    monkeypatch.setattr(groups, "FANNED", 100)
    journals: list[Journal] = []

    def journal() -> Journal:
        journals.append(Journal())
        return journals[-1]

    monkeypatch.setattr(groups, "Journal", journal)
    figures = list(FIGURES["groups"](2))
    assert [(figure.name, figure.at_least, figure.at_most) for figure in figures] == [
        ("published", 8, None),
        ("published", 0.85, None),
        ("consumed", 0.85, None),
        ("fanned out to 10", 0.8, None),
        ("published, redis-stream", 0.85, None),
        ("sent and shown, with a journal", None, 1.1),
    ]
    for figure in figures:
        assert len(figure.ours) == len(figure.base) == 2
        assert all(0 < seconds < 1 for seconds in chain(figure.ours, figure.base))
    # Sent, Confirmed and Delivered of 200 messages, some of them acknowledged by then.
    assert [len(one) >= 600 for one in journals] == [False, True] * 3
    assert not any(len(one) for one in journals[::2])


def test_the_baseline_marks_a_message_as_chatlab_does() -> None:
    bare = baselines._message(7)
    assert (bare.delivery_mode, bare.message_id, bare.content_type) == (
        2,
        "ana:1:7",
        "text/plain",
    )
    assert set(bare.headers) == {"sender", "incarnation", "seq", "sent_at", "clock"}
