"""What `reset()` leaves of a visitor for whoever is next: nothing, be it written, on its way or in another tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import Locator, expect
from tests.web.widget import Held, Widget, long_answers, until

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"
RESET = "chat => chat.reset()"
# The widget hears of the reset after it has written the answer so far once more.
SAVE_FIRST = """
addEventListener('storage', ({key, newValue}) => {
    const visitor = key?.startsWith('frontdesk.') && !key.includes('.turn.');
    if (visitor && newValue === null) dispatchEvent(new Event('pagehide'));
});
"""


async def form(widget: Widget) -> tuple[Locator, Locator]:
    """The fields of the form that asks for a person, once it is on view."""
    await widget.panel.get_by_role("button", name="Talk to a person").click()
    contact = widget.panel.get_by_label("How can we reach you?")
    await expect(contact).to_be_visible()
    return contact, widget.panel.get_by_label("What is it about?")


async def test_what_was_written(open_widget: OpenWidget) -> None:
    """If this fails, the next person at a shared computer reads the last one's address and what they began to write."""
    widget = await open_widget()
    await widget.open()
    await widget.input.fill("My order has not come, it goes to")
    contact, message = await form(widget)
    await contact.fill("dana@example.org")
    await message.fill("My kettle leaks.")
    await widget.root.evaluate(RESET)
    await expect(contact).to_be_hidden()
    await expect(widget.input).to_have_value("")
    assert await widget.focused() == "input"  # it was in the form, and goes no further than it must
    contact, message = await form(widget)
    await expect(contact).to_have_value("")
    await expect(message).to_have_value("")


async def test_what_was_being_sent(open_widget: OpenWidget) -> None:
    """If this fails, a question that was sent while its visitor signed out lies in the next one's box."""
    widget = await open_widget()
    session = await Held().on(widget, "**/v1/widget/sessions")
    await widget.open()
    await widget.send(OPENING)
    route = await session.came()
    await widget.root.evaluate(RESET)
    await route.continue_()
    await widget.page.wait_for_timeout(300)
    await expect(widget.input).to_have_value("")
    await expect(widget.questions).to_have_count(0)
    await widget.send("How much is express shipping?")  # and the next one can ask
    await widget.settle(1)


async def test_requests_for_a_person(open_widget: OpenWidget) -> None:
    """If this fails, the next visitor reads how to reach the last one, or the form that they fill in goes away."""
    widget = await open_widget()
    await widget.page.evaluate("addEventListener('frontdesk:handoff', () => window.told = true)")
    request = widget.panel.locator(".request")
    await widget.open()
    contact, _ = await form(widget)
    await contact.fill("dana@example.org")
    asking = await Held().on(widget, "**/handoff")
    await contact.press("Enter")
    route = await asking.came()
    await widget.root.evaluate(RESET)
    contact, _ = await form(widget)
    await contact.fill("robin@example.org")
    await route.continue_()
    await until(widget.page, "window.told === true")
    await expect(contact).to_have_value("robin@example.org")
    await widget.panel.get_by_role("button", name="Cancel").click()
    await expect(request).to_be_hidden()
    contact, _ = await form(widget)
    await contact.press("Enter")
    await expect(request).to_contain_text("robin@example.org")
    reading = await Held().on(widget, "**/handoff")
    await widget.page.reload()
    await widget.open()
    route = await reading.came()
    await widget.root.evaluate(RESET)
    await route.continue_()
    await widget.page.wait_for_timeout(300)
    await expect(request).to_be_hidden()


async def test_an_answer_that_another_tab_was_reading(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, a question and half of its answer stay in the browser when their visitor signs out elsewhere."""
    first = await open_widget(script=long_answers(1000) + SAVE_FIRST)
    await first.open()
    with server.held():
        await first.send(OPENING)
        await first.grown(20, server)
        second = Widget(await first.page.context.new_page(), first.chat, first.id)
        await second.page.goto(first.page.url)
        await expect(second.launcher).to_be_visible()
        await second.root.evaluate(RESET)
        await expect(first.questions).to_have_count(0)
        assert "frontdesk" not in await first.page.evaluate("Object.keys(localStorage).join()")
