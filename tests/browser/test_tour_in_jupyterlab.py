"""The tour in a real JupyterLab, by mouse."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

PICTURES = (
    "Bob was away: 3 messages waited, 0 were lost",
    "Same absence: bob sees 4 of 7, or all 7 late",
    "30 insults, 10 each: fair",
)


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
    for title in PICTURES:
        picture = page.get_by_alt_text(title)
        expect(picture).to_be_visible(timeout=60_000)
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box is not None
        assert (box["width"], box["height"]) == (900, 440), "shown unscaled"
    expect(page.get_by_text("lab tour (closed)")).to_be_visible(timeout=60_000)
    expect(page.locator(".jp-RenderedText[data-mime-type*='error']")).to_have_count(0)
    page.get_by_alt_text(PICTURES[0]).scroll_into_view_if_needed()
    page.screenshot(path=artifacts / "tour.png")
