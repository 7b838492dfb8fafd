"""One conversation in windows side by side, of which one knows more than the other: what counts as seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect
from tests.web.widget import Held, Widget, add_talk, until

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"
COUNT = "window.told = 0; addEventListener('storage', () => window.told += 1)"
DEAF = "addEventListener('storage', event => event.stopImmediatePropagation(), true)"
HEARS_OF_A_REPLY = "addEventListener('storage', ({newValue}) => window.heard ||= /\"resp_/.test(newValue))"


async def visited(open_widget: OpenWidget) -> Widget:
    """A window whose visitor has asked one question, with the panel open."""
    widget = await open_widget()
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    return widget


async def beside(first: Widget) -> Widget:
    """Another window of the same visitor, with the panel open."""
    second = Widget(await first.page.context.new_page(), first.chat, first.id)
    await second.page.goto(first.page.url)
    await second.open()
    await expect(second.questions).to_have_text([OPENING])
    return second


async def elsewhere(server: Server, widget: Widget, *texts: str) -> None:
    """The same visitor talks on another device."""
    record = await widget.record()
    add_talk(server, widget.id, record["visitor"], record["conversation"], *texts)


async def test_an_answer_that_one_window_has_not_read(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, two windows side by side tell each other without end what was seen, thousands of times a second,
    and one of them never shows what was said on another device."""
    first = await visited(open_widget)
    second = await beside(first)
    await elsewhere(server, first, "From the phone", "Answered on the phone.")
    await first.page.reload()
    await second.page.evaluate(COUNT)
    await first.open()
    await expect(first.questions).to_have_text([OPENING, "From the phone"])
    await expect(second.questions).to_have_text([OPENING, "From the phone"])
    await second.page.wait_for_timeout(500)
    assert await second.page.evaluate("told") < 20
    assert (await first.record())["seen"] == (await first.stored())[-1]["id"]
    assert not second.problems


async def test_a_window_that_is_behind_takes_nothing_back(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, a window that has missed an answer, and is used, makes it unread in all of them."""
    first = await visited(open_widget)
    second = await beside(first)
    await second.page.evaluate(DEAF)
    await elsewhere(server, first, "From the phone", "Answered on the phone.")
    await first.page.reload()
    await first.open()
    await expect(first.questions).to_have_text([OPENING, "From the phone"])
    await second.input.blur()
    await second.input.focus()
    await expect(second.questions).to_have_text([OPENING, "From the phone"])
    assert (await first.record())["seen"] == (await first.stored())[-1]["id"]
    assert not second.problems


async def test_seen_long_ago(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, who comes back to more than the widget reads at once never gets rid of the button's number."""
    widget = await visited(open_widget)
    await widget.panel.get_by_role("button", name="Close the chat").click()
    for _ in range(3):
        await elsewhere(server, widget, *["Asked", "Answered"] * 10)  # as many as one request may bring
    await widget.page.reload()
    await expect(widget.badge).to_have_text("9+")
    await widget.open()
    newest = (await widget.stored())[-1]["id"]
    await until(widget.page, f"JSON.parse(localStorage.getItem('frontdesk.{widget.id}')).seen === '{newest}'")
    await widget.panel.get_by_role("button", name="Close the chat").click()
    await expect(widget.panel).to_be_hidden()
    await expect(widget.badge).to_be_hidden()
    await widget.page.reload()
    await expect(widget.launcher).to_have_accessible_name("Open the chat")


async def test_a_question_that_is_asked_while_another_window_reads(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, a tab on a slow device or line that is just opening never shows what was asked in another one
    meanwhile, until its answer comes."""
    first = await open_widget()
    await first.open()
    await until(first.page, f"localStorage.getItem('frontdesk.{first.id}') !== null")
    second = Widget(await first.page.context.new_page(), first.chat, first.id)
    reading = await Held().on(second, "**/items?*")
    await second.page.goto(first.page.url)
    await second.page.evaluate(HEARS_OF_A_REPLY)
    await second.open()
    route = await reading.came()
    nothing = await route.fetch()
    with server.held():
        await first.send(OPENING)
        await until(second.page, "window.heard === true")
        await route.fulfill(response=nothing)
        await expect(second.questions).to_have_text([OPENING])
    await second.settle(1)
    assert len(await second.stored()) == 2
    assert not second.problems
