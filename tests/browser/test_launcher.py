"""RabbitMQ's own page, opened from JupyterLab's launcher, by mouse and without signing in."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

from chatlab import Lab
from chatlab.jupyter import LOOK
from chatlab.settings import Settings

if TYPE_CHECKING:
    from conftest import Server

#: The process behind the page starts, and takes a lease, within this on a busy machine.
START = 60_000


def test_the_queues_of_an_open_lab_are_seen_from_the_launcher(
    page: Page, server: Server, lab_settings: Settings, artifacts: Path
) -> None:
    assert (lab_settings.folder / "warm.log").exists(), "Jupyter has warmed the services up"
    page.goto(f"{server.url}/lab/workspaces/{secrets.token_hex(4)}?token={server.token}")
    entry = page.locator(".jp-LauncherCard", has_text="RabbitMQ")
    expect(entry.get_by_role("img")).to_be_visible(timeout=START)
    with Lab.start("launcher", fresh=True) as lab:
        ana, bob = lab.users("ana", "bob")
        group = ana.join("sd")
        bob.join("sd")
        bob.offline()
        group.send_many(["one", "two"])
        entry.click()
        rabbitmq = page.frame_locator("iframe[src*='/rabbitmq/']")
        queue = rabbitmq.get_by_role("row").filter(has_text="chatlab/sd/bob")
        expect(queue).to_contain_text(lab.rabbitmq.facts()["virtual host"], timeout=START)
        expect(queue.get_by_role("cell").nth(5)).to_have_text("2", timeout=15_000)
        expect(rabbitmq.get_by_role("note")).to_contain_text("This page only looks.")
        page.screenshot(path=artifacts / "launcher.png")
        queue.get_by_role("link").click()  # a slash in its name, and two proxies in between
        title = rabbitmq.get_by_role("heading", level=1)
        expect(title).to_contain_text("chatlab/sd/bob")
        rabbitmq.get_by_role("heading", name="Delete", exact=True).click()
        page.on("dialog", lambda dialog: dialog.accept())
        rabbitmq.get_by_role("button", name="Delete Queue").click()
        expect(rabbitmq.get_by_text("This page only looks. To break")).to_be_visible()
        page.screenshot(path=artifacts / "launcher-queue.png")
        bob.online()
        assert [m.body for m in bob.group("sd").wait(2)] == ["one", "two"]


def test_later_versions_of_rabbitmqs_page_are_signed_in_too(page: Page) -> None:
    """What 3.12 to 4.3 ask, in place of the cookie that the page above looks for."""
    page.set_content("<script>function has_auth_credentials() { return false }</script>")
    page.add_script_tag(content=(LOOK / "page.js").read_text())
    assert page.evaluate("has_auth_credentials()") is True
    assert page.evaluate("authorization_header()") == ""
