"""Three chat windows in a real JupyterLab, by mouse and by keyboard.

One notebook, opened once; each test runs its first cell again, which begins a new scene and
puts new windows in place of the old ones.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version
from playwright.sync_api import Browser, Locator, Page, expect

BAD = "<img src=x onerror=alert(1)>"
CELLS = (
    """\
import threading, time
import ipywidgets
from chatlab import Lab, panels
lab = Lab.start("columns")
ana, bob, eva = lab.users("ana", "bob", "eva")
scene = lab.scene("chat")
room = ana.join("sd", "rabbitmq-durable")
handles = [room, bob.join("sd"), eva.join("sd")]
columns = ipywidgets.HBox([panels.chat(handle.user, handle) for handle in handles])
columns""",
    """\
threading.Timer(1, lambda: room.send("meanwhile")).start()
time.sleep(6)
print("awake")""",
    """\
def flood(seconds=5, a_second=1_000):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tick = time.monotonic()
        room.send_many([f"message {n}" for n in range(a_second // 10)])
        time.sleep(max(0, 0.1 - (time.monotonic() - tick)))
threading.Thread(target=flood).start()
print("flooding")""",
    "lab.close()",
)
#: What a click may take while messages pour in: a look and a drawing each 50 ms, a state that
#: RabbitMQ, Redis and the chat server are told of, all on two cores that others use as well.
#: A page that does not keep up would fall behind by as long as the flood lasts, and more.
CLICK_SECONDS = 10.0


@pytest.fixture(scope="module")
def lab_page(browser: Browser, notebook: Callable[..., str]) -> Iterator[Page]:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.goto(notebook("columns.ipynb", *CELLS))
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(CELLS), timeout=60_000)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_have_count(
        1, timeout=60_000
    )
    yield page
    page.context.close()


@pytest.fixture
def columns(lab_page: Page) -> list[Locator]:
    """The windows of ana, bob and eva, in a new scene."""
    run(lab_page, 0)
    return [lab_page.get_by_label(f"chat window of {name}") for name in ("ana", "bob", "eva")]


def run(page: Page, number: int, *, wait: bool = True) -> Locator:
    """Run a cell; returns it."""
    cell = page.locator(".jp-Notebook .jp-Cell").nth(number)
    before = cell.locator(".jp-InputArea-prompt").inner_text()
    prompt = cell.locator(".jp-InputArea-prompt")
    deadline = time.monotonic() + 60
    while prompt.inner_text() == before:  # a page that has just opened may miss it
        assert time.monotonic() < deadline, "the cell does not run"
        cell.locator(".jp-InputArea-editor .cm-line").first.click()
        page.keyboard.press("Control+Enter")
        with suppress(AssertionError):
            expect(prompt).not_to_have_text(before)
    if wait:
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=60_000)
        expect(cell.locator("[data-mime-type*='error']")).to_have_count(0)
    return cell


def write(column: Locator, text: str) -> None:
    line = column.get_by_label("message", exact=True)
    line.fill(text)
    line.press("Enter")


def status(column: Locator) -> Locator:
    return column.locator(".chatlab-own .chatlab-status").last


def test_what_ana_writes_is_read_by_bob_as_text_and_waits_for_him_when_he_is_off(
    lab_page: Page, columns: list[Locator], artifacts: Path
) -> None:
    anas, bobs, evas = columns
    hurt: list[str] = []
    lab_page.on("dialog", lambda dialog: (hurt.append(dialog.message), dialog.dismiss()))
    write(anas, BAD)
    expect(bobs.locator(".chatlab-other .chatlab-text")).to_have_text(f"ana {BAD}")
    expect(status(anas)).to_contain_text("✓✓ 2 of 2")
    bobs.get_by_label("state", exact=True).select_option("offline")
    expect(bobs).to_have_class(re.compile("chatlab-hatched"))
    expect(bobs.get_by_label("message", exact=True)).to_be_disabled()
    write(anas, "bob?")
    expect(status(anas)).to_contain_text("✓ 1 of 2 · 1 waits")
    expect(bobs.get_by_text("1 message waits")).to_be_visible()
    expect(evas.locator(".chatlab-other").last).to_contain_text("bob?")
    lab_page.screenshot(path=artifacts / "columns.png")
    bobs.get_by_label("state", exact=True).select_option("online")
    expect(bobs.locator(".chatlab-other").last).to_contain_text("waited since")
    expect(status(anas)).to_contain_text("✓✓ 2 of 2")
    assert hurt == []
    for column in columns:
        box = column.bounding_box()
        assert box is not None
        assert box["width"] >= 190


def test_by_keyboard_alone_and_without_harm_to_the_notebook(
    lab_page: Page, columns: list[Locator]
) -> None:
    anas, bobs, _ = columns
    cells = lab_page.locator(".jp-Notebook .jp-Cell").count()
    anas.get_by_label("message", exact=True).focus()
    lab_page.keyboard.type("hola dd")
    lab_page.keyboard.press("Enter")
    expect(bobs.get_by_text("hola dd")).to_be_visible()
    expect(anas.get_by_label("message", exact=True)).to_be_focused()
    lab_page.keyboard.press("Tab")
    expect(anas.get_by_role("button", name="Send")).to_be_focused()
    lab_page.keyboard.press("Tab")
    expect(anas.get_by_label("state", exact=True)).to_be_focused()
    for key in "ddbx":  # shortcuts of a notebook: delete, insert, cut a cell
        lab_page.keyboard.press(key)
    assert lab_page.locator(".jp-Notebook .jp-Cell").count() == cells
    lab_page.wait_for_timeout(1_500)  # the menu takes letters together as a word
    lab_page.keyboard.press("f")
    expect(anas).to_have_class(re.compile("chatlab-hatched"))
    expect(anas.get_by_label("state", exact=True)).to_have_value("freeze")
    lab_page.keyboard.press("Tab")
    expect(anas.get_by_label("conversation", exact=True)).to_be_focused()


@pytest.mark.skipif(
    Version(version("jupyterlab")) < Version("4.4")
    or Version(version("ipykernel")) < Version("7"),
    reason="clicks reach a kernel past a running cell from JupyterLab 4.4 and ipykernel 7 on",
)
def test_messages_come_in_and_clicks_are_done_while_a_cell_runs(
    lab_page: Page, columns: list[Locator]
) -> None:
    anas, bobs, _ = columns
    cell = run(lab_page, 1, wait=False)
    prompt = cell.locator(".jp-InputArea-prompt")
    expect(prompt).to_have_text("[*]:")
    expect(bobs.get_by_text("meanwhile")).to_be_visible()
    bobs.get_by_label("state", exact=True).select_option("offline")
    expect(bobs).to_have_class(re.compile("chatlab-hatched"))
    write(anas, "now")
    expect(status(anas)).to_contain_text("1 waits")
    expect(prompt).to_have_text("[*]:")  # all of that before it ended
    expect(cell.get_by_text("awake")).to_be_visible(timeout=20_000)


def test_a_thousand_messages_a_second_leave_the_page_at_work(
    lab_page: Page, columns: list[Locator], artifacts: Path
) -> None:
    _anas, bobs, evas = columns
    run(lab_page, 2)
    expect(bobs.locator(".chatlab-other")).to_have_count(60, timeout=30_000)
    bobs.locator(".chatlab-scroll").evaluate("e => { e.scrollTop = 100; }")
    shown = bobs.locator(".chatlab-other .chatlab-text").nth(10)
    before = shown.inner_text()
    began = time.monotonic()
    evas.get_by_label("state", exact=True).select_option("offline")
    expect(evas).to_have_class(re.compile("chatlab-hatched"), timeout=CLICK_SECONDS * 1000)
    assert time.monotonic() - began < CLICK_SECONDS
    expect(bobs.locator(".chatlab-unread")).to_be_visible()
    assert shown.inner_text() == before, "who reads old lines is not moved"
    lab_page.screenshot(path=artifacts / "columns-flooded.png")
    assert bobs.locator(".chatlab-line").count() < 600
    bobs.locator(".chatlab-unread").click()
    expect(bobs.locator(".chatlab-other").last).to_be_in_viewport(timeout=30_000)


def test_when_the_lab_is_closed_the_windows_say_so(
    lab_page: Page, columns: list[Locator]
) -> None:
    run(lab_page, 3)
    for column in columns:
        expect(column.get_by_text("The lab columns has been closed.")).to_be_visible()
        expect(column.get_by_label("message", exact=True)).to_be_disabled()
        expect(column.get_by_label("state", exact=True)).to_be_disabled()
