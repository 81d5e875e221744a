"""The tour in a real JupyterLab, by mouse."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

#: Each with its height; where a guess was asked for, it stands in a line below. How many
#: insults each member got is not the same in every run.
PICTURES: dict[str | re.Pattern[str], int] = {
    "Bob was away: 3 messages waited, 0 were lost": 474,
    "Same absence: bob sees 4 of 7, or all 7 late": 474,
    re.compile(r"^30 insults[,:] "): 440,
}


def test_a_newcomer_runs_the_tour_and_sees_the_pictures(
    page: Page, jupyter: str, artifacts: Path
) -> None:
    page.goto(jupyter.format("00_tour.ipynb"))
    expect(page.get_by_text("lab tour (closed)")).to_be_visible(timeout=60_000)
    page.get_by_role("menuitem", name="Edit", exact=True).click()
    page.get_by_text("Clear Outputs of All Cells").click()
    expect(page.get_by_text("lab tour (closed)")).to_have_count(0)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    for title, height in PICTURES.items():
        picture = page.get_by_alt_text(title)
        expect(picture).to_be_visible(timeout=60_000)
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box is not None
        assert (box["width"], box["height"]) == (900, height), "shown unscaled"
    expect(page.get_by_text("lab tour (closed)")).to_be_visible(timeout=60_000)
    expect(page.locator(".jp-RenderedText[data-mime-type*='error']")).to_have_count(0)
    page.get_by_alt_text(next(iter(PICTURES))).scroll_into_view_if_needed()
    page.screenshot(path=artifacts / "tour.png")


def test_a_newcomer_guesses_and_writes_in_the_windows_of_the_tour(
    page: Page, jupyter: str, artifacts: Path
) -> None:
    page.goto(jupyter.format("00_tour.ipynb"))
    page.get_by_text("HBox(windows)").click(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Above Selected Cell").click()
    page.keyboard.press("Shift+Enter")
    ana = page.get_by_label("chat window of ana")
    bob = page.get_by_label("chat window of bob")
    expect(ana).to_be_visible(timeout=90_000)
    line = ana.get_by_label("message", exact=True)
    line.fill("hola")
    line.press("Enter")
    expect(bob.locator(".chatlab-other").last).to_contain_text("hola", timeout=15_000)
    bob.get_by_label("state", exact=True).select_option("offline")
    line.fill("are you there?")
    line.press("Enter")
    status = ana.locator(".chatlab-status").last
    expect(status).to_contain_text("1 waits", timeout=15_000)
    bob.get_by_label("state", exact=True).select_option("online")
    expect(bob.locator(".chatlab-other").last).to_contain_text("are you", timeout=15_000)
    expect(status).to_contain_text("1 of 1", timeout=15_000)
    page.screenshot(path=artifacts / "tour-windows.png")
    guess = page.get_by_role("button", name="yes, and it waits for him")
    expect(guess).to_have_count(0)  # the run has fixed it
    expect(page.get_by_text("no guess recorded, saw yes").first).to_be_visible()
