"""How a chat window draws: its script in a browser, its kernel played by the test.

Quick, because nothing else runs; what passes between the two in a real JupyterLab is tested
in ``test_columns_in_jupyterlab``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from chatlab.panels.panel import look_of

BAD = "<img src=x onerror=window.hurt=1>"
HARNESS = """
<style>body { margin: 0; } %s</style><input id="before"><div id="place"></div>
<script type="module">
  const module = await import(URL.createObjectURL(
    new Blob([%s], { type: "text/javascript" })));
  const heard = {};
  window.sent = [];
  window.model = {
    view: {},
    get: (name) => window.model[name],
    on: (what, call) => { heard[what] = call; },
    off: () => {},
    send: (content) => window.sent.push(content),
  };
  window.show = (view) => { window.model.view = view; heard["change:view"](); };
  window.tell = (content) => heard["msg:custom"](content);
  module.default.render({ model: window.model, el: document.getElementById("place") });
  window.ready = true;
</script>
"""
STATES = [
    {"value": verb, "label": verb, "off": False}
    for verb in ("online", "offline", "crash", "freeze")
]


def line(key: int, text: str = "hola", kind: str = "other", **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "kind": kind,
        "who": "eva",
        "text": text,
        "more": 0,
        "whole": False,
        "at": "12:04",
        "status": "",
        "bad": False,
        **more,
    }


def view(*lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    chats = [{"value": "group:sd", "label": "sd", "unread": 0}]
    return {
        "name": "ana",
        "colour": "#0072b2",
        "where": "online",
        "state": "online",
        "states": STATES,
        "chat": "group:sd",
        "title": "sd",
        "backend": "rabbitmq-durable",
        "chats": chats,
        "list": False,
        "there": [],
        "epoch": 1,
        "lines": list(lines),
        "older": 0,
        "dropped": 0,
        "received": len(lines),
        "away": "",
        "why": "",
        "note": "",
        "over": "",
        "done": 0,
        **more,
    }


@pytest.fixture
def column(page: Page) -> Page:
    page.set_content(HARNESS % (look_of("column.css"), json.dumps(look_of("column.js"))))
    page.wait_for_function("window.ready")
    return page


def show(page: Page, view: dict[str, Any]) -> None:
    page.evaluate(
        "view => { window.show(view); return new Promise(requestAnimationFrame); }", view
    )


def sent(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("window.sent")
    return found


def scroll(page: Page) -> float:
    return float(page.evaluate("document.querySelector('.chatlab-scroll').scrollTop"))


def test_nothing_that_is_shown_is_taken_for_html(column: Page) -> None:
    one = {"name": BAD, "kind": "private", "says": BAD}
    lines = [
        line(1, BAD, who=BAD, status=BAD, at=BAD),
        line(2, BAD, "own", status=BAD),
        line(3, BAD, "note"),
    ]
    choice = {"value": BAD, "label": BAD, "unread": 3}
    states = [{"value": BAD, "label": BAD, "off": False}]
    fields = dict.fromkeys(("name", "colour", "chat", "title", "backend", "state"), BAD)
    fields |= dict.fromkeys(("away", "why", "note", "older", "dropped"), BAD)
    show(column, view(*lines, **fields, chats=[choice], states=states, list=True, there=[one]))
    column.wait_for_timeout(100)
    assert column.evaluate("window.hurt") is None
    expect(column.locator(".chatlab-panel img")).to_have_count(0)
    expect(column.locator(".chatlab-name")).to_have_text(BAD)
    expect(column.locator(".chatlab-own .chatlab-text")).to_have_text(BAD)
    expect(column.locator(".chatlab-one")).to_have_text(BAD)


def test_one_writes_sends_and_writes_on(column: Page) -> None:
    show(column, view())
    column.get_by_label("message", exact=True).fill("hola")
    column.keyboard.press("Enter")
    column.keyboard.type("mundo")
    column.get_by_role("button", name="Send").click()
    column.keyboard.type("!")
    assert sent(column) == [{"do": "send", "text": "hola"}, {"do": "send", "text": "mundo"}]
    expect(column.get_by_label("message", exact=True)).to_have_value("!")
    column.get_by_label("message", exact=True).fill("")
    column.keyboard.press("Enter")
    assert len(sent(column)) == 2, "an empty line is not sent"


def test_what_was_not_sent_is_back_in_an_empty_line_only(column: Page) -> None:
    show(column, view())
    column.evaluate("window.tell({unsent: 'hola'})")
    expect(column.get_by_label("message", exact=True)).to_have_value("hola")
    column.evaluate("window.tell({unsent: 'other'})")
    expect(column.get_by_label("message", exact=True)).to_have_value("hola")


def test_the_keyboard_goes_to_the_line_send_state_and_conversation(column: Page) -> None:
    show(column, view(line(1)))
    column.locator("#before").focus()
    found = []
    for _ in range(4):
        column.keyboard.press("Tab")
        found.append(
            column.evaluate(
                "document.activeElement.ariaLabel ?? document.activeElement.innerText"
            )
        )
    assert found == ["message", "Send", "state", "conversation"]


def test_a_state_is_chosen_and_shown_when_it_is_so(column: Page) -> None:
    show(column, view())
    state = column.get_by_label("state", exact=True)
    state.focus()
    state.select_option("offline")
    assert sent(column) == [{"do": "state", "state": "offline"}]
    show(column, view(line(1)))
    expect(state).to_have_value("offline")  # not yet done
    show(column, view(line(1), done=1, note="It cannot be."))
    expect(state).to_have_value("online")  # it failed


def test_offline_is_hatched_and_nothing_can_be_written(column: Page) -> None:
    show(column, view(where="offline", state="offline", away="offline since 12:04"))
    expect(column.locator(".chatlab-column")).to_have_class(
        "chatlab-panel chatlab-column chatlab-hatched"
    )
    expect(column.get_by_label("message", exact=True)).to_be_disabled()
    expect(column.get_by_label("message", exact=True)).to_have_attribute(
        "placeholder", "ana is offline"
    )
    expect(column.get_by_label("state", exact=True)).to_be_enabled()
    expect(column.get_by_text("— offline since 12:04 —")).to_be_visible()


def test_when_the_lab_is_over_nothing_is_active(column: Page) -> None:
    shown = view(line(1, "x", more=5), older=4, list=True, over="The lab x has been closed.")
    shown["there"] = [{"name": "bob", "kind": "private", "says": "chat with bob"}]
    show(column, shown)
    expect(column.get_by_text("The lab x has been closed.")).to_be_visible()
    for control in column.locator(".chatlab-column :is(input, select, button):visible").all():
        assert control.is_disabled() or control.evaluate("e => !!e.closest('[inert]')")


def test_the_window_follows_what_comes(column: Page) -> None:
    show(column, view(*map(line, range(40))))
    show(column, view(*map(line, range(60))))
    expect(column.locator(".chatlab-line").last).to_be_in_viewport()
    expect(column.locator(".chatlab-unread")).to_be_hidden()


def test_who_looks_at_old_lines_is_not_moved_and_told_how_many_came(column: Page) -> None:
    show(column, view(*map(line, range(60))))
    box = column.locator(".chatlab-scroll")
    box.evaluate("e => { e.scrollTop = 500; }")
    at = column.locator(".chatlab-line").nth(15)
    before = at.evaluate("e => [e.dataset.key, e.getBoundingClientRect().top]")
    for new in range(1, 31):  # the window of the newest 60 goes on
        show(column, view(*map(line, range(new * 5, 60 + new * 5)), received=60 + new * 5))
        after = column.locator(f"[data-key='{before[0]}']").evaluate(
            "e => [e.dataset.key, e.getBoundingClientRect().top]"
        )
        assert after == before
    expect(column.get_by_role("button", name="150 new below")).to_be_visible()
    column.get_by_role("button", name="150 new below").click()
    expect(column.locator("[data-key='209']")).to_be_in_viewport()
    expect(column.locator(".chatlab-unread")).to_be_hidden()
    expect(column.locator(".chatlab-line")).to_have_count(60)


def test_thousands_that_came_meanwhile_do_not_fill_the_page(column: Page) -> None:
    show(column, view(*map(line, range(60))))
    column.locator(".chatlab-scroll").evaluate("e => { e.scrollTop = 500; }")
    column.wait_for_timeout(50)
    for new in range(50, 2_000, 50):
        show(column, view(*map(line, range(new, new + 60)), received=new + 60))
    assert column.locator(".chatlab-line").count() < 600
    column.get_by_role("button", name="new below").click()
    expect(column.locator(".chatlab-line").last).to_be_in_viewport()
    expect(column.locator(".chatlab-line")).to_have_count(60)


def test_older_lines_come_above_and_nothing_moves(column: Page) -> None:
    show(column, view(*map(line, range(60, 120)), older=60))
    column.locator(".chatlab-scroll").evaluate("e => { e.scrollTop = 0; }")
    top = column.locator("[data-key='60']")
    before = top.evaluate("e => e.getBoundingClientRect().top")
    column.get_by_role("button", name="60 older").click()
    assert sent(column) == [{"do": "older"}]
    show(column, view(*map(line, range(120)), dropped=7))
    after = top.evaluate("e => e.getBoundingClientRect().top")
    assert abs(after - before) < 40  # the button is gone, a notice is there
    expect(column.get_by_text("7 earlier lines are in the journal")).to_have_count(1)


def test_another_conversation_begins_anew(column: Page) -> None:
    show(column, view(line(1, "hola"), line(2, "one joined", "note")))
    show(column, view(line(1, "mundo"), line(2, "two joined", "note"), epoch=2))
    expect(column.get_by_role("log")).to_have_text("eva mundo12:04— two joined —")


def test_a_long_message_opens_on_demand(column: Page) -> None:
    show(column, view(line(1, "x" * 400, more=65_136)))
    column.get_by_role("button", name="… 65,136 more characters").click()
    assert sent(column) == [{"do": "whole", "key": 1}]
    show(column, view(line(1, "x" * 65_536, whole=True)))
    expect(column.get_by_role("button", name="show less")).to_be_visible()


def test_the_list_of_who_is_there_opens_and_closes(column: Page) -> None:
    there = [{"name": "bob", "kind": "private", "says": "chat with bob"}]
    show(column, view())
    column.get_by_label("conversation", exact=True).select_option("new chat …")
    show(column, view(list=True, there=there, done=1))
    expect(column.get_by_label("conversation", exact=True)).to_have_value("group:sd")
    column.get_by_role("button", name="chat with bob").click()
    column.get_by_role("button", name="close").click()
    assert [message["do"] for message in sent(column)] == ["look_around", "open", "close_list"]


def test_a_window_is_as_high_as_its_place_however_many_lines_there_are(column: Page) -> None:
    column.evaluate("""() => { // as on a stage
        const row = document.createElement("div");
        row.style = "display: grid; height: 216px";
        const place = document.getElementById("place");
        place.before(row);
        row.append(place);
        place.style = "height: 100%; width: auto";
    }""")
    show(column, view(*map(line, range(60))))
    assert column.locator(".chatlab-column").evaluate("e => e.offsetHeight") == 216
    expect(column.locator(".chatlab-name")).to_be_in_viewport()


def test_names_and_words_without_a_break_stay_inside(column: Page) -> None:
    name = "a" * 64
    lines = [line(1, "x" * 400, who=name), line(2, "漢" * 200, "own", status="✓ 1 of 2 " * 9)]
    choice = {"value": "group:sd", "label": name, "unread": 0}
    show(column, view(*lines, name=name, chats=[choice], away="offline since 12:04", why=""))
    box = column.locator(".chatlab-scroll")
    assert box.evaluate("e => e.scrollWidth <= e.clientWidth")
    head = column.locator(".chatlab-head")
    assert head.evaluate("e => e.scrollWidth <= e.clientWidth")
    expect(column.locator(".chatlab-name")).to_have_attribute("title", name)
