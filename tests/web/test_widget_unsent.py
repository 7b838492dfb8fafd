"""Questions that wait for a conversation to be asked in: whose they are, where they are kept, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jwt
from playwright.async_api import Route, expect
from tests.web.test_widget_lines import asked
from tests.web.widget import Held, Widget, widgets

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"
SECOND = "How much is express shipping?"
KEPT = "JSON.stringify(localStorage)"


async def waiting(widget: Widget, question: str) -> Route:
    """Ask before there is a conversation; the request that would begin one."""
    beginning = await Held().on(widget, "**/v1/widget/sessions")
    await widget.open()
    await widget.send(question)
    await expect(widget.questions).to_have_text([question])
    return await beginning.came()


async def nothing_is_asked(widget: Widget) -> None:
    """Reload the page, as the next one at this browser does: nothing waits there."""
    await widget.page.reload()
    await widget.open()
    await expect(widget.input).to_be_visible()
    await widget.send(SECOND)
    await widget.settle(1)
    await expect(widget.questions).to_have_text([SECOND])
    assert asked(widget) == 1


async def test_who_is_signed_in(open_widget: OpenWidget, server: Server, widget_id: str) -> None:
    """If this fails, what a customer asked on a slow line is shown to the next person at this computer, and asked as
    theirs."""
    secret = widgets(server.database, "secret", widget_id)
    identity = jwt.encode({"sub": "dana@unsent", "exp": int(time.time()) + 600}, secret, "HS256")
    widget = await open_widget()
    await widget.root.evaluate("(chat, token) => chat.identify(token)", identity)
    await waiting(widget, OPENING)
    assert OPENING not in await widget.page.evaluate(KEPT)
    await nothing_is_asked(widget)


async def test_who_is_signed_in_on_a_page_that_changes(
    open_widget: OpenWidget, server: Server, widget_id: str
) -> None:
    """If this fails, what a customer asked on a slow line is lost when the page changes its language."""
    secret = widgets(server.database, "secret", widget_id)
    identity = jwt.encode({"sub": "robin@unsent", "exp": int(time.time()) + 600}, secret, "HS256")
    widget = await open_widget()
    await widget.root.evaluate("(chat, token) => chat.identify(token)", identity)
    route = await waiting(widget, OPENING)
    await widget.root.evaluate("chat => chat.setAttribute('title', 'Larkfield')")
    await expect(widget.panel).to_have_accessible_name("Larkfield")
    await expect(widget.questions).to_have_text([OPENING])
    await route.continue_()
    await widget.settle(1)
    assert asked(widget) == 1


async def test_what_was_asked_long_ago(open_widget: OpenWidget) -> None:
    """If this fails, a page asks what somebody wanted to know weeks ago, before its tab was closed."""
    widget = await open_widget()
    await waiting(widget, OPENING)
    assert OPENING in await widget.page.evaluate(KEPT)
    name = f"frontdesk.{widget.id}.unsent"
    long_ago = "name => localStorage.setItem(name, localStorage[name].replace(/\"at\":\\d+/, '\"at\":1'))"
    await widget.page.evaluate(long_ago, name)
    await nothing_is_asked(widget)


async def test_two_tabs_with_two_questions(open_widget: OpenWidget) -> None:
    """If this fails, of two questions that were asked in two tabs on a slow line one is lost."""
    first = await open_widget()
    second = Widget(await first.page.context.new_page(), first.chat, first.id)
    await second.page.goto(first.page.url)
    await waiting(first, OPENING)
    await second.open()
    await second.send(SECOND)
    await expect(second.questions).to_have_text([SECOND])
    await second.page.close()
    await first.page.reload()
    await first.settle(1)
    await expect(first.questions).to_have_text([OPENING])
    await first.page.reload()
    await first.settle(2)
    await expect(first.questions).to_have_text([OPENING, SECOND])
    assert "unsent" not in await first.page.evaluate(KEPT)


async def test_what_another_tab_has_taken(open_widget: OpenWidget) -> None:
    """If this fails, a tab whose question was asked by another one thinks for ever where its own session is refused."""
    widget = await open_widget(forgiven=["status of 429"])
    route = await waiting(widget, OPENING)
    await widget.page.evaluate(f"localStorage.removeItem('frontdesk.{widget.id}.unsent')")
    refusal = {"error": {"code": "server_overloaded", "message": "the line is full"}}
    await route.fulfill(status=429, json=refusal, headers={"access-control-allow-origin": "*"})
    await expect(widget.notice).to_be_visible()
    await expect(widget.answers).to_have_count(0)
    await expect(widget.input).to_have_value("")
    await expect(widget.panel.get_by_role("button", name="Send", exact=True)).to_be_visible()
