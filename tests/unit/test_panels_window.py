"""A chat window: what it shows and what can be done with it, without services and browser."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from panels_rig import PaperChat, PaperLab, PaperUser, paper_lab, until
from plots_script import Script

from chatlab.errors import InvalidInput, NotPossible, SendFailed
from chatlab.journal import Row
from chatlab.messages import Message, group, private
from chatlab.panels import panel as panels
from chatlab.panels.column import READ_FACTS, SHOWN_LINES, ChatColumn, beginning

SD = group("sd")
BAD = "<img src=x onerror=alert(1)>"


@pytest.fixture
def script() -> Script:
    return Script("ana", "bob", "eva").join()


@pytest.fixture
def lab(script: Script) -> Iterator[PaperLab]:
    with paper_lab(script) as made:
        yield made
        for shown in panels._shown[:]:
            shown.close()


@pytest.fixture
def bob(lab: PaperLab) -> PaperUser:
    return lab.user("bob", SD, private("ana", "bob"))


def window(user: PaperUser, handle: PaperChat | None = None) -> ChatColumn:
    return ChatColumn(cast(Any, user), cast(Any, handle or PaperChat(user, SD)))


def seen(column: ChatColumn) -> dict[str, Any]:
    column.refresh()
    return dict(column.view)


def press(column: ChatColumn, **message: Any) -> None:
    column._handle_custom_msg(message, [])
    column.wait()


def says(journal_rows: list[Row], body: str, n: int, sender: str = "ana") -> None:
    message = Message(f"{sender}:1:{n}", sender, 1, "sd", body, n, 0.0, n)
    journal_rows += [
        ("Sent", 0.0, sender, 1, SD, message),
        ("Delivered", 0.0, "bob", 1, SD, message, False),
    ]


# -- what it shows


def test_own_messages_others_and_notes_are_told_apart(lab: PaperLab, script: Script) -> None:
    ana = lab.user("ana", SD)
    column = window(ana)
    script.send("ana", "bob")
    script.send("bob", "ana")
    lines = seen(column)["lines"]
    assert [(line["kind"], line["who"]) for line in lines] == [
        *(("note", ""), ("own", "ana"), ("other", "bob")),
    ]
    assert lines[1]["status"] == "✓ 1 of 2 · 1 waits"
    assert not lines[1]["bad"]


def test_what_is_lost_or_unknown_is_marked_as_bad(lab: PaperLab, script: Script) -> None:
    column = window(lab.user("ana", SD))
    for outcome in ("Failed", "Uncertain", "Returned", "", "Confirmed"):
        script.send("ana", outcome=outcome)
    assert [line["bad"] for line in seen(column)["lines"][1:]] == [True] * 3 + [False] * 2


def test_one_who_is_away_is_told_what_waits(
    lab: PaperLab, script: Script, bob: PaperUser
) -> None:
    column = window(bob)
    assert seen(column)["away"] == ""
    bob.where = "offline"
    script.leave("bob").send("ana")
    view = seen(column)
    assert view["where"] == "offline"
    assert view["away"].startswith("offline since ")
    assert view["away"].endswith(" · 1 message waits")
    script.send("ana")
    assert seen(column)["away"].endswith(" · 2 messages wait")


def test_one_who_receives_nothing_although_online_is_told_why(
    lab: PaperLab, script: Script, bob: PaperUser
) -> None:
    column = window(bob)
    script.fact("Disconnected", "bob", SD, "the broker is gone")
    assert seen(column)["away"].startswith("connection lost since ")
    assert seen(column)["why"] == "the broker is gone"


@pytest.mark.parametrize(
    ("where", "state", "labels", "off"),
    [
        ("online", "online", ["online", "offline", "crash", "freeze"], []),
        ("offline", "offline", ["online", "offline", "crash", "freeze"], ["crash", "freeze"]),
        ("crashed", "crash", ["online", "offline", "crashed", "freeze"], ["offline", "freeze"]),
        ("frozen", "freeze", ["online", "offline", "crash", "frozen"], []),
    ],
)
def test_the_state_menu_says_how_one_is_and_what_can_be_done(
    bob: PaperUser, where: str, state: str, labels: list[str], off: list[str]
) -> None:
    bob.where = where
    view = seen(window(bob))
    assert view["state"] == state
    assert [entry["label"] for entry in view["states"]] == labels
    assert [entry["value"] for entry in view["states"] if entry["off"]] == off


def test_without_links_nobody_can_crash_or_freeze(lab: PaperLab, bob: PaperUser) -> None:
    lab.links = False
    states = seen(window(bob))["states"]
    assert [entry["value"] for entry in states if entry["off"]] == ["crash", "freeze"]


def test_the_menu_counts_what_came_in_other_conversations(
    lab: PaperLab, script: Script, bob: PaperUser
) -> None:
    column = window(bob)
    script.write("ana", "bob")
    script.write("ana", "bob")
    script.send("ana", "bob")
    assert [entry["label"] for entry in seen(column)["chats"]] == ["sd", "with ana (2)"]
    column.do("talk", chat=private("ana", "bob"))
    view = seen(column)
    assert [entry["label"] for entry in view["chats"]] == ["sd", "with ana"]
    assert [line["text"] for line in view["lines"]] == ["hola", "hola"]
    script.send("ana", "bob")
    assert [entry["unread"] for entry in seen(column)["chats"]] == [1, 0]


def test_another_conversation_is_another_epoch(bob: PaperUser) -> None:
    column = window(bob)
    before = seen(column)["epoch"]
    column.do("talk", chat="with ana")
    assert seen(column)["epoch"] != before


def test_long_messages_are_shown_in_part_and_whole_on_demand(
    lab: PaperLab, script: Script, bob: PaperUser
) -> None:
    column = window(bob)
    says(lab.journal.rows, "x" * 65_536, 1)
    line = seen(column)["lines"][-1]
    assert (len(line["text"]), line["more"], line["whole"]) == (400, 65_136, False)
    press(column, do="whole", key=line["key"])
    line = seen(column)["lines"][-1]
    assert (len(line["text"]), line["more"], line["whole"]) == (65_536, 0, True)
    press(column, do="whole", key=line["key"])
    assert seen(column)["lines"][-1]["more"] == 65_136


def test_a_beginning_is_short_in_both_ways() -> None:
    assert beginning("hola\nmundo") == "hola\nmundo"
    assert beginning("x" * 499) == "x" * 499  # not worth a click
    assert beginning("x" * 500) == "x" * 400
    assert beginning("\n" * 65_536) == "\n" * 7
    assert beginning("\n".join("12345678")) == "\n".join("12345678")


def test_what_is_written_stays_text(lab: PaperLab, bob: PaperUser) -> None:
    column = window(bob)
    says(lab.journal.rows, BAD, 1)
    assert seen(column)["lines"][-1]["text"] == BAD


def test_of_many_lines_the_newest_are_shown_and_older_ones_on_demand(
    lab: PaperLab, bob: PaperUser
) -> None:
    for n in range(2 * SHOWN_LINES):
        says(lab.journal.rows, str(n), n)
    column = window(bob)
    view = seen(column)
    assert (len(view["lines"]), view["older"]) == (SHOWN_LINES, SHOWN_LINES + 1)
    assert view["lines"][-1]["text"] == str(2 * SHOWN_LINES - 1)
    column.do("older")
    assert (len(seen(column)["lines"]), seen(column)["older"]) == (2 * SHOWN_LINES, 1)


def test_a_long_journal_is_read_before_the_window_is_shown_and_then_in_slices(
    lab: PaperLab, bob: PaperUser
) -> None:
    for n in range(READ_FACTS):
        says(lab.journal.rows, str(n), n)
    column = window(bob)
    assert column.view["lines"][-1]["text"] == str(READ_FACTS - 1)
    panels.PUMP.remove(column)
    for n in range(READ_FACTS, 2 * READ_FACTS):
        says(lab.journal.rows, str(n), n)
    assert seen(column)["lines"][-1]["text"] == str(READ_FACTS + READ_FACTS // 2 - 1)
    assert seen(column)["lines"][-1]["text"] == str(2 * READ_FACTS - 1)


def test_a_new_scene_is_empty_and_shows_the_same_conversation_when_it_is_there(
    lab: PaperLab, script: Script, bob: PaperUser
) -> None:
    column = window(bob)
    script.send("ana", "bob")
    before = seen(column)
    bob.conversations = []
    lab.scene(following := Script("ana", "bob"))
    view = seen(column)
    assert (view["chat"], view["lines"]) == ("", [])
    assert view["epoch"] != before["epoch"]
    following.join()
    following.send("ana", "bob")
    bob.conversations = [private("ana", "bob"), SD]
    view = seen(column)
    assert (view["chat"], view["lines"][-1]["text"]) == (SD, "hola")
    press(column, do="send", text="again")
    assert bob.did[-1] == ("send", SD, "again")


def test_a_window_for_nothing_in_particular_shows_the_newest_conversation(
    bob: PaperUser,
) -> None:
    column = ChatColumn(cast(Any, bob), None)
    assert seen(column)["chat"] == private("ana", "bob")


def test_it_shows_in_plain_text_whose_window_it_is(bob: PaperUser) -> None:
    assert repr(window(bob)) == "<chat window of bob in the lab paper>"


# -- what can be done


def test_what_is_sent_goes_to_the_conversation_that_is_shown(bob: PaperUser) -> None:
    column = window(bob)
    press(column, do="send", text=BAD)
    assert bob.did == [("send", SD, BAD)]


def test_what_was_not_sent_goes_back_to_the_line(bob: PaperUser) -> None:
    handle = PaperChat(bob, SD)
    handle.refuses = "It is full."
    column = window(bob, handle)
    back: list[object] = []
    column.send = back.append
    press(column, do="send", text="hola")
    assert back == [{"unsent": "hola"}]
    assert seen(column)["note"].startswith("It is full.")
    with pytest.raises(SendFailed):
        column.do("send", text="hola")


@pytest.mark.parametrize("text", [7, None, {}, "x" * 70_000])
def test_what_the_browser_cannot_have_written_does_no_harm(bob: PaperUser, text: Any) -> None:
    column = window(bob)
    press(column, do="whole", key=text)
    press(column, do="state", state=text)
    press(column, do="talk", chat=text)
    assert seen(column)["note"]


@pytest.mark.parametrize(
    ("where", "state", "did"),
    [
        ("online", "offline", ["offline"]),
        ("online", "crash", ["crash"]),
        ("online", "freeze", ["freeze"]),
        ("online", "online", []),
        ("offline", "online", ["online"]),
        ("crashed", "online", ["online"]),
        ("frozen", "online", ["thaw"]),
        ("frozen", "offline", ["thaw", "offline"]),
        ("frozen", "crash", ["crash"]),
        ("frozen", "freeze", []),
    ],
)
def test_from_every_state_to_every_other(
    bob: PaperUser, where: str, state: str, did: list[str]
) -> None:
    bob.where = where
    press(window(bob), do="state", state=state)
    assert [verb for (verb,) in bob.did] == did


def test_another_state_is_refused(bob: PaperUser) -> None:
    with pytest.raises(InvalidInput, match="cannot be made 'dead'"):
        window(bob).do("state", state="dead")


def test_the_list_of_who_is_there_opens_is_asked_again_and_closes(
    lab: PaperLab, bob: PaperUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatlab.panels.column.LIST_SECONDS", 0.01)
    bob.found = [
        SimpleNamespace(name="ana", kind="private", backend=""),
        SimpleNamespace(name="bob", kind="private", backend=""),
        SimpleNamespace(name="sd", kind="group", backend="rabbitmq-durable"),
        SimpleNamespace(name="news", kind="group", backend=""),
    ]
    column = window(bob)
    assert not seen(column)["list"]
    press(column, do="look_around")
    assert [one["says"] for one in seen(column)["there"]] == [
        *("chat with ana", "open sd · rabbitmq-durable", "join news"),
    ]
    done = column.view["done"]
    bob.found = []
    until(lambda: column.view["there"] == [])
    assert column.view["done"] == done, "nobody clicked"
    press(column, do="close_list")
    assert not seen(column)["list"]


def test_an_error_of_the_list_that_nobody_asked_for_is_no_note(
    bob: PaperUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatlab.panels.column.LIST_SECONDS", 0.01)
    column = window(bob)
    press(column, do="look_around")
    asked: list[int] = []

    def fails() -> list[Any]:
        asked.append(1)
        raise NotPossible("no")

    bob.discover = fails
    until(lambda: len(asked) > 2)
    assert seen(column)["note"] == ""


def test_without_a_conversation_the_list_is_open_until_there_is_one(lab: PaperLab) -> None:
    dan = lab.user("ana")
    column = ChatColumn(cast(Any, dan), None)
    assert seen(column)["list"]
    dan.conversations = [SD]
    view = seen(column)
    assert (view["list"], view["chat"]) == (False, SD)


def test_a_conversation_that_is_not_open_is_refused(bob: PaperUser) -> None:
    with pytest.raises(InvalidInput, match="no conversation 'news' open"):
        window(bob).do("talk", chat="news")


def test_a_handle_of_somebody_else_is_refused(lab: PaperLab, bob: PaperUser) -> None:
    with pytest.raises(InvalidInput, match="handle of ana, not of bob"):
        window(bob, PaperChat(lab.user("ana"), SD))
