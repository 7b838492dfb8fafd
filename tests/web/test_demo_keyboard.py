"""The demo without a pointer: every part of it can be reached, and the focus never falls off the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
from playwright.async_api import Locator, expect
from tests.web.demo import Demo, made

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

OPENING = "When are you open on Saturday?"
MOST_STOPS = 200  # the list of the shared server may be long


async def tab_to(demo: Demo, place: Locator, key: str = "Tab") -> None:
    """Presses Tab until the focus is there, as somebody without a pointer does."""
    for _ in range(MOST_STOPS):
        await demo.page.keyboard.press(key)
        if await place.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{MOST_STOPS} times Tab did not lead to {place}")


async def test_keyboard_only(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, somebody who cannot point cannot choose a transport, ask, edit, rate, read the meter, rename, or
    go to another conversation."""
    other = made(server.url, "Where are you?", "In Thornby.", title="Whereabouts")
    demo = await open_demo()
    page = demo.page
    await expect(demo.input).to_be_focused()
    await tab_to(demo, page.get_by_role("radio", name="SSE"), "Shift+Tab")
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("radio", name="WebSocket")).to_be_checked()
    await tab_to(demo, demo.input)
    await page.keyboard.type(OPENING)
    await page.keyboard.press("Enter")
    await demo.settle(1)
    await expect(demo.answers.locator(".facts")).to_contain_text("WebSocket")

    await tab_to(demo, page.get_by_role("button", name="Good answer"), "Shift+Tab")
    await page.keyboard.press("Enter")
    comment = page.get_by_role("textbox", name="Comment")
    await tab_to(demo, comment)
    await page.keyboard.type("Right")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Change the comment")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(comment).to_be_focused()

    await tab_to(demo, page.locator("#meter"), "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#meter-panel")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#meter-panel")).to_be_hidden()

    await tab_to(demo, page.get_by_role("button", name="More", exact=True))
    await page.keyboard.press("Enter")
    await tab_to(demo, page.locator("#rename"))
    await page.keyboard.press("Enter")
    await page.keyboard.type("Hours")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hours")
    await expect(page.get_by_role("button", name="More", exact=True)).to_be_focused()

    conversation = demo.conversation
    await tab_to(demo, page.get_by_role("button", name="Edit"))
    await page.keyboard.press("Enter")
    await expect(demo.input).to_be_focused()
    await tab_to(demo, page.get_by_role("button", name="Cancel").first, "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(demo.input).to_be_focused()
    await expect(demo.input).to_be_empty()
    assert demo.conversation == conversation

    await tab_to(demo, page.locator(f"#list a[href='#{other}']"), "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(demo.answers.locator(".body")).to_have_text("In Thornby.")
    await tab_to(demo, page.get_by_role("link", name="Skip to the message field"), "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(demo.input).to_be_focused()
    assert httpx2.get(f"{server.url}/v1/conversations/{conversation}").json()["metadata"]["title"] == "Hours"


async def test_buttons_that_go_away_leave_the_focus(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, whoever presses a button that goes away begins at the top of the page again, and a screen reader
    loses its place."""
    demo = await open_demo()
    page = demo.page
    reading = page.get_by_role("region", name="Conversation")
    await page.get_by_role("button", name=OPENING).press("Enter")
    await expect(reading).to_be_focused()
    await demo.settle(1)

    await page.get_by_role("button", name="Answer again").press("Enter")
    await expect(demo.input).to_be_focused()
    await demo.settle(1)

    demo.forgiven = ["status of 500"]
    error = {"error": {"code": "server_error", "message": "out of order"}}
    await page.route("**/v1/responses", lambda route: route.fulfill(status=500, json=error))
    await demo.send("And on Sunday?")
    again = page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await page.unroute_all()
    await again.press("Enter")
    await expect(again).to_have_count(0)
    await expect(demo.input).to_be_focused()
    await demo.settle(2)

    await demo.open(made(server.url, *[f"Line {number}: {'many words ' * 12}" for number in range(120)]))
    await expect(page.locator(".message")).to_have_count(100)
    await page.get_by_role("button", name="earlier messages").press("Enter")
    await expect(page.locator(".message")).to_have_count(120)
    await expect(reading).to_be_focused()
    await page.keyboard.press("Home")
    await expect(reading).to_have_js_property("scrollTop", 0)  # the browser glides there, and would go on gliding
    newest = page.get_by_role("button", name="To the newest message")
    await newest.press("Enter")
    await expect(newest).to_be_hidden()
    await expect(reading).to_be_focused()
