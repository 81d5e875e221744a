"""The stage in front of a class: RabbitMQ is killed and comes back with nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

CELL = """\
from chatlab import Lab, panels
lab = Lab.start("stage", breakable=True)
lab.scene("in front of the class")
stage = panels.stage(lab)
stage"""
#: The start of a breakable pair, and of RabbitMQ after a kill, on a busy machine.
BOOT = 90_000
#: Its height is a promise: what a projector leaves.
WIDTH, HEIGHT = 900, 530


def column(page: Page, name: str) -> Locator:
    return page.get_by_label(f"chat window of {name}")


def write(column: Locator, text: str) -> None:
    line = column.get_by_label("message", exact=True)
    line.fill(text)
    line.press("Enter")


def kill_and_see_it_come_back(page: Page, picture: Path) -> None:
    """Bob is away, RabbitMQ is killed; when both are back, he reads what was confirmed."""
    ana, bob = column(page, "ana"), column(page, "bob")
    expect(ana).to_be_visible(timeout=BOOT)
    write(ana, "before")
    expect(bob.locator(".chatlab-other").last).to_contain_text("before", timeout=15_000)
    bob.get_by_label("state", exact=True).select_option("offline")
    expect(bob).to_have_class(re.compile("chatlab-hatched"), timeout=15_000)
    write(ana, "while bob is away")
    expect(ana.locator(".chatlab-status").last).to_contain_text("1 waits", timeout=15_000)
    page.get_by_role("button", name="kill RabbitMQ").click()
    services = page.get_by_label("services")
    expect(services.locator("[data-state=up]")).to_have_count(2, timeout=15_000)
    page.screenshot(path=picture.with_stem(picture.stem + "-killed"))
    expect(services.locator("[data-state=up]")).to_have_count(3, timeout=BOOT)
    bob.get_by_label("state", exact=True).select_option("online")
    expect(bob.locator(".chatlab-other").last).to_contain_text(
        "while bob is away", timeout=BOOT
    )
    expect(ana.locator(".chatlab-status").last).to_contain_text("✓✓ 2 of 2", timeout=15_000)
    write(ana, "after")
    expect(bob.locator(".chatlab-other").last).to_contain_text("after", timeout=BOOT)
    page.screenshot(path=picture)


def test_a_killed_broker_comes_back_and_nothing_confirmed_is_lost(
    page: Page, server: object, notebook: Callable[..., str], artifacts: Path
) -> None:
    page.goto(notebook("stage.ipynb", CELL))
    cell = page.locator(".jp-Notebook .jp-Cell").first
    cell.wait_for(timeout=60_000)
    prompt = cell.locator(".jp-InputArea-prompt")
    deadline = time.monotonic() + 60
    while prompt.inner_text().strip() == "[ ]:":
        assert time.monotonic() < deadline, "the cell does not run"
        cell.locator(".cm-line").first.click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(2_000)
    kill_and_see_it_come_back(page, artifacts / "stage.png")
    box = page.locator(".chatlab-stage").bounding_box()
    assert box is not None
    assert box["width"] <= WIDTH
    assert box["height"] == HEIGHT
    expect(page.locator(".jp-RenderedText[data-mime-type*='error']")).to_have_count(0)


@pytest.fixture
def lecture() -> Iterator[str]:
    """``chatlab stage``; the URL that it prints."""
    argv = [sys.executable, "-m", "chatlab", "stage", "--no-browser", "--port", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ})
    urls: list[str] = []

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            urls.extend(re.findall(r"http://127\.0\.0\.1:\d+/\S*", line))

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + 120
        while not urls:
            assert process.poll() is None, "the command ended"
            assert time.monotonic() < deadline, "no URL was printed"
            time.sleep(0.1)
        yield urls[0]
    finally:
        process.terminate()
        process.wait(60)
        reader.join(10)
        assert process.stdout is not None
        process.stdout.close()


def test_the_stage_alone_through_voila(browser: Browser, lecture: str, artifacts: Path) -> None:
    context = browser.new_context(viewport={"width": 960, "height": 600})
    page = context.new_page()
    page.goto(lecture)
    kill_and_see_it_come_back(page, artifacts / "stage-voila.png")
    context.close()
