"""Browsers that forbid a page its storage, as where cookies are blocked, and storage that is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tests.acceptance.asking import create_key

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo, OpenWidget

OPENING = "When are you open on Saturday?"
# As Chromium does it: who names the storage is refused, and so is who asks for a lock.
FORBIDDEN = """{
    const refuse = () => { throw new DOMException('Access is denied for this document.', 'SecurityError'); };
    for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, {get: refuse});
    if (navigator.locks) navigator.locks.request = async () => refuse();
}"""
FULL = "Storage.prototype.setItem = () => { throw new DOMException('It is full.', 'QuotaExceededError'); }"
BOTH = pytest.mark.parametrize("script", [FORBIDDEN, FULL], ids=["forbidden", "full"])


@BOTH
async def test_widget(open_widget: OpenWidget, script: str) -> None:
    """If this fails, visitors who block cookies cannot ask anything, or are somebody else with each question."""
    widget = await open_widget(script=script)
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    assert "10:00 to 16:00" in await widget.answer()
    await widget.send("How much is express shipping?")
    await widget.settle(2)
    assert "12.90" in await widget.answer()
    assert widget.sessions == 1
    await widget.root.evaluate("chat => chat.setAttribute('title', 'Help!')")  # all of it is made anew
    await expect(widget.questions).to_have_text([OPENING, "How much is express shipping?"])
    await widget.panel.get_by_role("button", name="New conversation").click()
    await expect(widget.questions).to_have_count(0)
    await widget.send("How long is the warranty?")
    await widget.settle(1)
    await widget.root.evaluate("chat => chat.reset()")
    await widget.send(OPENING)
    await widget.settle(1)


async def test_a_session_that_is_refused(open_widget: OpenWidget) -> None:
    """If this fails, a browser without locks asks for a session twice where the server has refused it once."""
    widget = await open_widget(script=FORBIDDEN, id="wgt_" + "0" * 12, forgiven=["status of 404"])
    await widget.open()
    await expect(widget.notice).to_contain_text("no longer available")
    assert widget.sessions == 1


@BOTH
async def test_demo(open_demo: OpenDemo, script: str) -> None:
    """If this fails, the page is dead where cookies are blocked, or its settings cannot be closed where storage is
    full."""
    demo = await open_demo(script=script)
    await demo.choose("websocket")
    await demo.page.get_by_role("button", name="Settings").click()
    await demo.page.get_by_label("Most tokens of an answer").fill("3")
    await demo.page.get_by_role("button", name="Save").click()
    await expect(demo.page.locator("#settings")).to_be_hidden()
    await demo.page.locator("#theme").click()
    await expect(demo.page.locator("html")).to_have_attribute("data-theme", "dark")
    await demo.send(OPENING)
    await demo.settle(1)
    await expect(demo.answers.last).to_contain_text("WebSocket")
    assert demo.stored()[-1]["status"] == "incomplete"  # after three tokens, as was chosen


async def test_a_key_that_cannot_be_kept(start_server: Callable[..., Server], open_demo: OpenDemo) -> None:
    """If this fails, who blocks cookies is asked for the server's key again and again."""
    server = start_server(auth="on")
    demo = await open_demo(url=server.url, script=FORBIDDEN, ready=False)
    demo.forgiven = ["status of 401"]
    await demo.page.get_by_role("dialog").get_by_label("Key").fill(create_key(server, "demo"))
    await demo.page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    await expect(demo.page.locator("#served")).not_to_be_empty()
    await demo.send(OPENING)
    await demo.settle(1)
    assert "10:00 to 16:00" in await demo.answer()
