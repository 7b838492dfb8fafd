"""Where the widget's focus goes when what had it goes away, and in which direction its fields are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import Locator, expect
from tests.web.test_widget_page import say
from tests.web.widget import Site, create_widget

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"
SECOND = "How much is express shipping?"


async def direction(field: Locator) -> str:
    return await field.evaluate("field => getComputedStyle(field).direction")


async def test_trying_again_after_a_notice(open_widget: OpenWidget) -> None:
    """If this fails, whoever presses Try again with the keyboard starts anew at the top of the shop's page, or a screen
    reader repeats what is wrong with every try."""
    widget = await open_widget()
    widget.forgiven = ["net::ERR_INTERNET_DISCONNECTED"]
    await widget.page.context.set_offline(True)
    await widget.open()
    again = widget.notice.get_by_role("button", name="Try again")
    await again.focus()
    await widget.notice.evaluate(
        "notice => new MutationObserver(() => window.told = true).observe(notice, {childList: true})"
    )
    async with widget.page.expect_event("requestfailed", timeout=15_000):
        await again.press("Enter")
    await widget.page.wait_for_timeout(1500)  # a few tries
    await expect(again).to_be_focused()
    assert await widget.page.evaluate("window.told") is None
    await widget.page.context.set_offline(False)
    await expect(widget.notice).to_be_hidden(timeout=15_000)
    assert await widget.focused() == "input"


async def test_trying_again_after_a_refusal(open_widget: OpenWidget, site: Site, server: Server) -> None:
    """If this fails, the focus falls out of the chat when a question is asked once more."""
    widget = await open_widget(id=create_widget(server, site.url, "--visitor-tokens-total", "500"))
    widget.forgiven = ["status of 429"]
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.send(SECOND)
    again = widget.answers.last.get_by_role("button", name="Try again")
    await again.focus()
    await again.press("Enter")
    await expect(again).not_to_be_focused()
    assert await widget.focused() == "input"
    await expect(again).to_be_visible()  # refused once more
    assert await widget.focused() == "input"


async def test_buttons_that_have_done_their_work(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, reading on, going to the end or beginning anew by keyboard ends outside of the chat."""
    widget = await open_widget()
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    for part in range(3):
        await say(server, widget, *(f"{part}.{number} {OPENING * 4}" for number in range(20)))
    earlier = widget.panel.get_by_role("button", name="Earlier messages")
    await earlier.press("Enter")
    await expect(widget.questions).to_have_count(31)
    await expect(earlier).to_be_hidden()
    assert await widget.focused() == "scroll"
    await widget.panel.locator(".scroll").evaluate("scroll => scroll.scrollTop = 0")
    jump = widget.panel.get_by_role("button", name="To the newest message")
    await jump.press("Enter")
    await expect(jump).to_be_hidden()
    assert await widget.focused() == "scroll"
    await widget.panel.get_by_role("button", name="New conversation").press("Enter")
    assert await widget.focused() == "input"
    await expect(widget.greeting).to_be_visible()
    assert await widget.focused() == "input"


async def test_a_request_that_is_refused(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, who asked for a person by keyboard has to look for the form to send it again."""
    widget = await open_widget()
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.panel.get_by_role("button", name="Talk to a person").click()
    await widget.panel.get_by_label("How can we reach you?").fill("dana@example.org")
    widget.forgiven = ["net::ERR_FAILED"]
    await widget.page.route("**/handoff", lambda route: route.abort())
    await widget.panel.get_by_role("button", name="Send the request").press("Enter")
    await expect(widget.panel.get_by_role("alert").last).to_contain_text("cannot be reached")
    await expect(widget.panel.get_by_label("How can we reach you?")).to_be_focused()


async def test_fields_of_a_page_from_the_right(open_widget: OpenWidget) -> None:
    """If this fails, an Arabic visitor's caret and hints stand at the wrong end, or what they write is mixed up."""
    widget = await open_widget(direction="rtl")
    await widget.open()
    assert await direction(widget.input) == "rtl"
    await widget.input.fill("Hello!")
    assert await direction(widget.input) == "ltr"
    await widget.input.fill("مرحبًا!")
    assert await direction(widget.input) == "rtl"
    await widget.input.fill("")
    assert await direction(widget.input) == "rtl"
    await widget.panel.get_by_role("button", name="Talk to a person").click()
    contact = widget.panel.get_by_label("How can we reach you?")
    assert await direction(contact) == "rtl"
    await contact.fill("dana@example.org")
    assert await direction(contact) == "ltr"
    ltr = await open_widget()
    await ltr.open()
    assert await direction(ltr.input) == "ltr"
    await ltr.input.fill("مرحبًا!")
    assert await direction(ltr.input) == "rtl"
