"""A chat window on a real lab: what it shows is what happened, and its verbs do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from panels_rig import until

from chatlab import panels
from chatlab.lab import Lab
from chatlab.panels.column import ChatColumn
from chatlab.settings import Settings


@pytest.fixture(scope="module")
def lab(lab_settings: Settings) -> Iterator[Lab]:
    with Lab.start("columns", settings=lab_settings) as running:
        running.users("ana", "bob", "eva")
        yield running


@pytest.fixture(autouse=True)
def scene(lab: Lab, request: pytest.FixtureRequest) -> None:
    lab.scene(request.node.name)


def press(column: ChatColumn, **message: Any) -> None:
    """What the browser sends."""
    column._handle_custom_msg(message, [])


def statuses(column: ChatColumn) -> list[str]:
    return [line["status"] for line in column.view["lines"] if line["kind"] == "own"]


def texts(column: ChatColumn) -> list[str]:
    return [line["text"] for line in column.view["lines"] if line["kind"] == "other"]


def notes(column: ChatColumn) -> list[str]:
    return [line["text"] for line in column.view["lines"] if line["kind"] == "note"]


def test_what_is_written_in_one_window_is_read_in_the_other_also_by_who_was_away(
    lab: Lab,
) -> None:
    ana, bob, eva = lab.users("ana", "bob", "eva")
    windows = [panels.chat(user, user.join("sd", "rabbitmq-durable")) for user in (ana, bob)]
    eva.join("sd")
    anas, bobs = windows
    press(bobs, do="state", state="offline")
    until(lambda: bobs.view["where"] == "offline")
    press(anas, do="send", text="<b>hola</b>")
    until(lambda: statuses(anas) == ["✓ 1 of 2 · 1 waits"])
    until(lambda: bobs.view["away"].endswith("· 1 message waits"))
    press(bobs, do="state", state="online")
    until(lambda: texts(bobs) == ["<b>hola</b>"])
    assert bobs.view["lines"][-1]["status"].startswith("waited since ")
    assert notes(bobs)[0] == "ana, you and eva joined"
    assert notes(bobs)[1].endswith("· 1 message waited")
    until(lambda: statuses(anas) == ["✓✓ 2 of 2"])
    assert anas.table()[-1]["status"] == "✓✓ 2 of 2"
    for window in windows:
        window.close()


def test_a_transient_group_keeps_nothing_and_without_a_listener_nobody_is_reached(
    lab: Lab,
) -> None:
    ana, bob = lab.users("ana", "bob")
    window = panels.chat(ana, ana.join("news", "rabbitmq-transient"))
    press(window, do="send", text="one")
    until(lambda: statuses(window) == ["nobody listens: it reached nobody"])
    bob.join("news")
    lab.user("eva").join("news")
    bob.offline()
    press(window, do="send", text="two")
    until(lambda: statuses(window)[1:] == ["✓ 1 of 2 · 1 misses it"])
    bob.online()
    bob.group("news").unsubscribe()
    until(lambda: notes(window)[-1] == "bob left")
    window.close()


def test_states_in_private_chats(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    anas = panels.chat(ana, ana.private_chat("bob"))
    bobs = panels.chat(bob, bob.private_chat("ana"))
    press(bobs, do="state", state="crash")
    until(lambda: bobs.view["away"].startswith("crashed since "))
    press(anas, do="send", text="hola")
    until(lambda: statuses(anas) == ["✓ 0 of 1 · 1 waits"])
    press(bobs, do="state", state="freeze")
    until(lambda: "only who is online can freeze" in bobs.view["note"])
    press(bobs, do="state", state="online")
    until(lambda: statuses(anas) == ["✓✓ 1 of 1"])
    until(lambda: bobs.view["note"] == "")
    assert texts(bobs) == ["hola"]
    anas.close()
    bobs.close()


def test_a_direct_chat_fails_while_its_receiver_is_away(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    window = panels.chat(ana, ana.private_chat(bob, backend="direct"))
    bob.offline()
    press(window, do="send", text="hola")
    until(lambda: statuses(window) == ["not sent: bob is not there"])
    assert window.view["backend"] == "direct"
    bob.online()
    press(window, do="send", text="hola")
    until(lambda: statuses(window)[1:] == ["✓✓ 1 of 1"])
    window.close()


def test_a_conversation_is_begun_from_the_list_of_who_is_there(lab: Lab) -> None:
    ana, bob = lab.users("ana", "bob")
    bob.join("sd", "rabbitmq-durable")
    window = panels.chat(ana)
    until(lambda: "join sd · rabbitmq-durable" in [x["says"] for x in window.view["there"]])
    press(window, do="open", name="sd", kind="group")
    until(lambda: window.view["chat"] == "group:sd")
    bob.private_chat("ana").send("psst")
    until(lambda: [x["label"] for x in window.view["chats"]] == ["sd", "with bob (1)"])
    press(window, do="talk", chat="private:ana:bob")
    until(lambda: texts(window) == ["psst"])
    press(window, do="send", text="yes?")
    until(lambda: statuses(window) == ["✓✓ 1 of 1"])
    window.close()


def test_the_next_scene_and_the_end_of_the_lab(lab: Lab, lab_settings: Settings) -> None:
    with Lab.start("columns-2", settings=lab_settings) as other:
        ana, bob = other.users("ana", "bob")
        window = panels.chat(ana, ana.join("sd", "memory"))
        bob.join("sd").send("one")
        until(lambda: texts(window) == ["one"])
        other.scene("next")
        until(lambda: window.view["lines"] == [])
        ana.join("sd", "memory")
        bob.join("sd").send("two")
        until(lambda: texts(window) == ["two"])
    until(lambda: window.view["over"] == "The lab columns-2 has been closed.")
    window.close()
