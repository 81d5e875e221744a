"""The course: guesses are kept and never block, answers are held against their evidence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chatlab import course, experiments, plots
from chatlab.course import answers, my
from chatlab.course.evidence import Cell, Evidence
from chatlab.course.pairs import Pairs, who
from chatlab.course.questions import QUESTIONS, Claim
from chatlab.errors import InvalidInput, NotPossible
from chatlab.experiments import Matrix, Run
from chatlab.lab.state import State

RECORDINGS = Path(__file__).parents[2] / "notebooks" / "recordings"
WORDS = "The messages wait in a store outside of the server, and only an ack removes one."


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CHATLAB_MY_FOLDER", str(tmp_path / "my"))
    yield tmp_path / "my"


def recorded(name: str) -> Run:
    (path,) = RECORDINGS.glob(f"*{name}")
    run = Run.load(path)
    run.journal.header["tier"] = "real"
    return run


# -- guesses


def test_a_guess_is_kept_changed_and_shown_under_what_was_seen() -> None:
    card = course.predict("q1-away", "How many?", ["0", "3"])
    card.do("choose", option="0")
    card.do("choose", option="3")
    assert course.predict("q1-away", "How many?", ["0", "3"]).guess == "3"
    assert course.reveal("q1-away", saw=3).words == "guessed 3, saw 3"
    assert [row["right"] for row in course.surprises()] == [True]


def test_without_a_click_no_guess_is_recorded_and_it_is_said() -> None:
    course.predict("q1-away", "How many?", ["0", "3"])
    assert course.reveal("q1-away", saw=3).words == "no guess recorded, saw 3"


def test_another_question_of_the_same_name_begins_without_a_guess() -> None:
    course.predict("q1-away", "How many?", ["0", "3"]).do("choose", option="3")
    assert course.predict("q1-away", "How few?", ["0", "3"]).guess is None


def test_the_run_fixes_the_card_that_is_on_the_page() -> None:
    card = course.predict("q1-away", "How many?", ["0", "3"])
    card.do("choose", option="0")
    course.reveal("q1-away", saw=3)
    assert (card.seen, card.words) == ("3", "guessed 0, saw 3")
    again = course.predict("q1-away", "How many?", ["0", "3"])
    with pytest.raises(InvalidInput, match="cannot be changed"):
        again.do("choose", option="3")


def test_the_wrong_guesses_come_first_in_what_surprised() -> None:
    for name, option in (("a", "0"), ("b", "3"), ("c", "")):
        card = course.predict(name, name, ["0", "3"])
        if option:
            card.do("choose", option=option)
        course.reveal(name, saw=0)
    assert [row["question"] for row in course.surprises()] == ["b", "a", "c"]
    assert course.surprises().caption == "3 questions, 2 guesses, 1 surprises"
    assert [row["right"] for row in course.surprises()] == [False, True, None]


def test_what_cannot_be_guessed_at_is_refused() -> None:
    with pytest.raises(InvalidInput, match="two or more"):
        course.predict("x", "?", ["same", "same"])
    with pytest.raises(InvalidInput, match="No guess 'never'"):
        course.reveal("never", saw=1)


def test_a_picture_carries_the_guess_in_a_line_of_its_own() -> None:
    course.predict("x", "?", ["0", "3"])
    plain = plots.spacetime(recorded("absent-member-rabbitmq-durable").journal)
    before = plain.get_figure(root=True).get_size_inches()[1]
    shown, face = course.reveal("x", plain, saw=3)._repr_mimebundle_()
    assert shown["text/plain"].endswith("no guess recorded, saw 3")
    assert face["image/png"]["height"] > round(before * 100)


# -- answers


def _grid(*runs: Run) -> Matrix:
    cells = {(run.backend, run.scenario.name): run for run in runs}
    return Matrix([b for b, _ in cells], [s for _, s in cells], cells)


def test_an_answer_whose_evidence_agrees_makes_a_report(folder: Path) -> None:
    durable = recorded("absent-member-rabbitmq-durable")
    found = course.answer("q3", stance=3, because=_grid(durable), text=WORDS)
    says = {str(claim): holds for claim, holds in found.claims}
    assert says["rabbitmq-durable loses nothing (absent-member)"] is True
    assert says["rabbitmq-durable loses nothing (broker-kill)"] is None
    with pytest.raises(NotPossible) as refused:
        course.report(only=["q3"])
    assert "no evidence for: rabbitmq-durable loses nothing (broker-kill)" in refused.value.todo
    assert not (folder / "report.html").exists()


def test_a_stance_that_its_own_run_contradicts_is_refused() -> None:
    broken = recorded("absent-member-as-reported")
    stance = QUESTIONS["q3"].stances[1]
    claim = stance.claims[0]
    run = replace(broken, backend=claim.of, scenario=replace(broken.scenario, name=claim.where))
    found = course.answer("q3", stance=stance.text, because=run, text=WORDS)
    assert [holds for _, holds in found.claims] == [False]
    with pytest.raises(NotPossible, match="cannot be made") as refused:
        course.report(only=["q3"])
    assert "your own run says otherwise" in refused.value.todo


def test_pairs_tell_who_is_stateful_and_the_report_says_all(folder: Path) -> None:
    pairs = Pairs.__new__(Pairs)
    names = ("private chat", "group", "insult channel", "discovery")
    pairs.rows = [{"pattern": name, "call": "<b>", "stateful": True} for name in names]
    course.answer("q2", stance=3, because=pairs, text="<script>" + WORDS)
    page = course.report(only=["q2"]).read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "¿Hay patrones" in page and "Hi ha patrons" in page
    assert course.answer("q2", stance=1, because=pairs, text=WORDS).problems == [
        "q2: your own run says otherwise than: private chat: the same call, made twice, ends "
        "the same way."
    ]


def test_who_remembered_is_a_server_unless_none_has_changed() -> None:
    def changed(*rows: tuple[str, str]) -> list[dict[str, str]]:
        return [{"process": process, "thing": thing} for process, thing in rows]

    of_clients = changed(("client of bob", "drawn"), ("client of ana", "last seq"))
    of_servers = changed(("Redis", "registry"), ("RabbitMQ", "binding"), ("Redis", "registry"))
    assert who(of_clients) == {"client of bob": ["drawn"]}
    assert who(of_servers + of_clients) == {"RabbitMQ": ["binding"], "Redis": ["registry"]}
    assert who([]) == {}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("edit", "was changed after it was recorded"),
        ("delete", "is missing"),
        ("version", "was made with chatlab 0.0.0"),
        ("replay", "is a recording"),
    ],
)
def test_a_run_that_is_stale_missing_or_not_ones_own_is_refused(
    folder: Path, harm: str, said: str
) -> None:
    run = recorded("absent-member-rabbitmq-durable")
    if harm == "replay":
        run.journal.header["tier"] = "replay"
    course.answer("q3", stance=3, because=run, text=WORDS)
    (journal,) = folder.glob("evidence/q3/*/journal.jsonl")
    if harm == "edit":
        journal.write_text(journal.read_text().replace("Delivered", "Discarded", 1))
    elif harm == "delete":
        journal.unlink()
    elif harm == "version":
        kept = json.loads((folder / answers.FILE).read_text())
        kept["q3"]["evidence"]["version"] = "0.0.0"
        (folder / answers.FILE).write_text(json.dumps(kept))
    assert any(said in problem for problem in answers.load("q3").problems)


def test_an_open_answer_shows_what_may_be_said() -> None:
    found = course.answer("q1", stance="…", text="…")
    assert "kept in the server's dictionary are persistent" in repr(found)
    assert "q1: no stance was chosen." in found.problems
    with pytest.raises(InvalidInput, match="no stance 9"):
        course.answer("q1", stance=9)
    with pytest.raises(InvalidInput, match="no question 'q5'"):
        course.stances("q5")
    with pytest.raises(InvalidInput, match="int is no evidence"):
        course.answer("q1", because=3)


def test_every_stance_of_a_question_can_be_told_apart_and_each_has_claims() -> None:
    for asked in QUESTIONS.values():
        assert len({stance.claims for stance in asked.stances}) == len(asked.stances) >= 3
        assert asked.spanish and asked.catalan


def test_every_backend_and_scenario_that_a_claim_names_exists() -> None:
    shipped = {row["scenario"] for row in experiments.scenarios()}
    books = " ".join(path.read_text() for path in RECORDINGS.parent.glob("*.ipynb"))
    for asked in QUESTIONS.values():
        for claim in (claim for stance in asked.stances for claim in stance.claims):
            if claim.kind in ("survives", "loses", "faster"):
                if claim.where not in shipped:  # a scenario of a notebook
                    assert f'Scenario(\\"{claim.where}\\"' in books, claim
                    continue
                for backend in filter(None, (claim.of, claim.than)):
                    scenario = experiments.shipped(claim.where)
                    assert experiments.lanes.pattern_of(scenario, backend), claim


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (Claim("survives", "kept", "kill"), True),
        (Claim("loses", "kept", "kill"), False),
        (Claim("survives", "lossy", "kill"), False),
        (Claim("loses", "lossy", "kill"), True),
        (Claim("survives", "untold", "kill"), None),
        (Claim("loses", "untold", "kill"), None),
        (Claim("survives", "kept", "burst"), None),
        (Claim("faster", "kept", "kill", "lossy"), True),
        (Claim("faster", "lossy", "kill", "kept"), False),
        (Claim("faster", "kept", "kill", "nobody"), None),
        (Claim("same", "group"), False),
        (Claim("differs", "group"), True),
        (Claim("same", "direct call"), True),
        (Claim("differs", "direct call"), False),
        (Claim("differs", "discovery"), None),
    ],
    ids=str,
)
def test_a_claim_is_held_against_its_own_cell(claim: Claim, holds: bool | None) -> None:
    evidence = Evidence(
        cells=[
            Cell("kept", "kill", "kept", 0, 200.0),
            Cell("lossy", "kill", "not promised", 3, 100.0),
            Cell("untold", "kill", "cannot tell", 0, 0.0),
        ],
        pairs=[
            {"pattern": "group", "stateful": True},
            {"pattern": "direct call", "stateful": False},
        ],
    )
    assert evidence.holds(claim) is holds


def test_words_of_ones_own_are_asked_for() -> None:
    run = recorded("absent-member-rabbitmq-durable")
    short = course.answer("q3", stance=3, because=run, text="Because it is so.")
    assert any("characters of your own" in problem for problem in short.problems)
    assert not any(
        "characters of your own" in problem
        for problem in course.answer("q3", stance=3, because=run, text=WORDS).problems
    )


def test_a_verdict_that_is_another_one_when_judged_anew_is_named(folder: Path) -> None:
    course.answer(
        "q3", stance=3, because=recorded("absent-member-rabbitmq-durable"), text=WORDS
    )
    kept = json.loads((folder / answers.FILE).read_text())
    kept["q3"]["evidence"]["runs"][0]["outcome"] = "broken"
    (folder / answers.FILE).write_text(json.dumps(kept))
    assert any(
        "was broken, judged anew it is kept" in problem
        for problem in answers.load("q3").problems
    )


def test_a_new_answer_takes_the_place_of_the_old_evidence_and_keeps_every_repeat(
    folder: Path,
) -> None:
    durable = recorded("absent-member-rabbitmq-durable")
    course.answer("q3", because=recorded("absent-member-as-reported"), text=WORDS)
    found = course.answer(
        "q3", because=replace(durable, repeats=(durable, durable)), text=WORDS
    )
    assert len(list(folder.glob("evidence/q3/*/journal.jsonl"))) == 2
    assert [cell.backend for cell in found.evidence.cells] == ["rabbitmq-durable"]


def test_the_report_shows_the_grid_and_what_surprised(folder: Path) -> None:
    course.predict("x", "How many are <lost>?", ["0", "3"]).do("choose", option="3")
    course.reveal("x", saw=0)
    durable = recorded("absent-member-rabbitmq-durable")
    named = [
        replace(durable, backend=claim.of, scenario=replace(durable.scenario, name=claim.where))
        for claim in QUESTIONS["q4"].stances[1].claims
    ]
    found = course.answer("q4", stance=2, because=_grid(*named), text=WORDS)
    assert found.problems == []
    page = course.report(only=["q4"]).read_text(encoding="utf-8")
    assert page.count("<figure><svg") == 1
    assert (
        "How many are &lt;lost&gt;?" in page and "1 questions, 1 guesses, 1 surprises" in page
    )


class _NoLab:
    """Remembers nothing."""

    def state(self) -> State:
        return State([])


def test_a_pair_is_stateful_only_when_its_ends_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatlab.course.pairs.COUNTS_SECONDS", 0)
    monkeypatch.setattr("chatlab.course.pairs.LATE_SECONDS", 0)
    pairs = Pairs(_NoLab())  # type: ignore[arg-type]
    answers_of = iter("ab")
    pairs.twice("direct call", lambda: "the same", lambda: None)
    pairs.twice("group", lambda: next(answers_of), lambda: None)
    assert [row["stateful"] for row in pairs.rows] == [False, True]


# -- the folder


def test_all_of_it_is_packed_and_deleted_only_when_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotPossible, match="nothing"):
        course.submit()
    course.predict("x", "?", ["0", "3"])
    packed = course.submit()
    assert zipfile.ZipFile(packed).namelist() == ["my/guesses.json"]
    monkeypatch.setattr("builtins.input", lambda _: "no")
    assert course.reset().startswith("Nothing was deleted")
    assert (folder / "guesses.json").exists()
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    assert course.reset().startswith("Deleted 1 files")
    assert not folder.exists()


def test_a_damaged_file_is_named_and_nothing_is_overwritten(folder: Path) -> None:
    folder.mkdir()
    (folder / "guesses.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"guesses\.json cannot be read"):
        course.predict("x", "?", ["0", "3"])
    assert (folder / "guesses.json").read_text() == "{"
    assert my.files() == [folder / "guesses.json"]
