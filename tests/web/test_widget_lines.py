"""The support widget on bad lines: proxies that answer while a server restarts, requests that nobody answers, sockets
that are not let through, and answers that were lost on their way."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.async_api import Locator, Route, expect
from tests.web.test_widget_guest import FORBIDDEN, with_policy
from tests.web.widget import Held, Site, Widget, long_answers, until, widgets

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"
SECOND = "How much is express shipping?"
LONG = "Tell me everything about the shop."
IMPATIENT = """{
const later = window.setTimeout;
window.setTimeout = (act, ms, ...more) => later(act, ms === 45000 ? 700 : ms, ...more);
}"""

FOUND = """
window.tried = 0;
window.WebSocket = class extends WebSocket { constructor(...how) { window.tried += 1; super(...how); } };
"""
REFUSED = """
window.tried = 0;
window.WebSocket = class extends WebSocket {
    constructor() { window.tried += 1; throw new DOMException('It is insecure.', 'SecurityError'); }
};
"""
OF_2023 = "delete AbortSignal.any"


def asked(widget: Widget) -> int:
    """How often this tab has sent a question."""
    return sum(url.endswith("/v1/responses") for url in widget.asked)


async def left(widget: Widget, question: str, transport: str) -> str:
    """Leave the record of a question that was sent and of which nothing was heard; the record's name."""
    conversation = (await widget.record())["conversation"]
    name = f"frontdesk.{widget.id}.turn.{conversation}"
    record = {
        "key": "0" * 32, "transport": transport, "conversation": conversation, "tail": "", "response": None, "last": -1,
        "request": {"input": question, "conversation": conversation}, "text": "", "tokens": 0, "began": 0,
        "first": None,
    }  # fmt: skip
    await widget.page.evaluate("([name, text]) => localStorage.setItem(name, text)", [name, json.dumps(record)])
    return name


async def test_a_proxy_answers_while_the_server_restarts(open_widget: OpenWidget) -> None:
    """If this fails, every deployment tells visitors for good that the chat is not set up for the website."""
    widget = await open_widget(forgiven=["CORS policy", "net::ERR_FAILED", "status of 502"])
    unreadable = {"access-control-allow-origin": "https://proxy.example"}  # without any, Playwright adds one
    for path in ("**/v1/**", "**/livez"):
        await widget.page.route(path, lambda route: route.fulfill(status=502, headers=unreadable))
    await widget.open()
    await expect(widget.notice).to_contain_text("cannot be reached")
    await widget.page.wait_for_timeout(1500)  # a few tries
    await expect(widget.notice).to_contain_text("cannot be reached")
    await widget.page.unroute_all()
    await expect(widget.notice).to_be_hidden()
    await widget.send(OPENING)
    await widget.settle(1)


async def test_a_session_that_is_slow_to_begin(open_widget: OpenWidget) -> None:
    """If this fails, the first question stands nowhere on a slow line, and is gone after a reload."""
    widget = await open_widget()
    beginning = await Held().on(widget, "**/v1/widget/sessions")
    await widget.open()
    await widget.send(OPENING)
    await expect(widget.questions).to_have_text([OPENING])
    await expect(widget.answers.last).to_contain_text("Thinking")
    await beginning.came()
    await widget.page.reload()
    await widget.settle(1)
    await widget.open()
    await expect(widget.questions).to_have_text([OPENING])
    assert asked(widget) == 1
    assert len(await widget.stored()) == 2


async def test_browsers_of_2023(open_widget: OpenWidget) -> None:
    """If this fails, visitors whose browser is two or three years old cannot ask anything."""
    widget = await open_widget(script=OF_2023)
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    assert len(await widget.stored()) == 2


async def test_a_new_conversation_that_a_reload_interrupts(open_widget: OpenWidget) -> None:
    """If this fails, what is asked after "New conversation" is said in the old one if the page is left meanwhile."""
    widget = await open_widget()
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    beginning = await Held().on(widget, "**/v1/widget/sessions")
    await widget.panel.get_by_role("button", name="New conversation").click()
    await beginning.came()
    await widget.send(SECOND)
    await widget.page.reload()
    await widget.settle(1)
    await widget.open()
    await expect(widget.questions).to_have_text([SECOND])
    assert len(await widget.stored()) == 2


async def test_nobody_answers(open_widget: OpenWidget) -> None:
    """If this fails, a question that a router swallowed waits for ever, and the sessions of all tabs with it."""
    widget = await open_widget(script=IMPATIENT)
    await widget.page.evaluate("addEventListener('frontdesk:error', event => window.told = event.detail.code)")
    session = await Held().on(widget, "**/v1/widget/sessions")
    await widget.open()
    await session.came()
    await until(widget.page, "window.told === 'unreachable'")  # it is on view for a moment only
    await expect(widget.notice).to_be_hidden()
    question = await Held().on(widget, "**/v1/responses")
    await widget.send(OPENING)
    await question.came()
    await widget.settle(1)
    assert len(await widget.stored()) == 2


async def test_an_element_that_goes_without_a_line(open_widget: OpenWidget) -> None:
    """If this fails, a page that takes the widget away while the server cannot be reached asks it for ever."""
    widget = await open_widget(forgiven=["net::ERR_"])
    session = await Held().on(widget, "**/v1/widget/sessions")
    await widget.open()
    route = await session.came()
    await widget.root.evaluate("chat => chat.remove()")
    await widget.page.context.set_offline(True)
    await route.abort()
    await widget.page.wait_for_timeout(1500)  # a few tries
    assert widget.sessions == 1


async def test_stop_where_nobody_answers(open_widget: OpenWidget) -> None:
    """If this fails, Stop does nothing while a question hangs."""
    widget = await open_widget()
    await widget.open()
    question = await Held().on(widget, "**/v1/responses")
    await widget.send(OPENING)
    await question.came()
    await widget.stop()
    await expect(widget.answers.last).to_contain_text("Stopped.")
    assert asked(widget) == 1


@pytest.mark.parametrize("browser_does", [FOUND, REFUSED], ids=["close it", "throw"])
async def test_sockets_are_not_let_through(
    open_widget: OpenWidget, site: Site, server: Server, widget_id: str, browser_does: str
) -> None:
    """If this fails, a widget that prefers the WebSocket says "Reconnecting" for ever where there is none, or answers
    nothing where the browser throws instead of closing it."""
    strict = site.strict(server.url, widget_id, "/socketless", transport="websocket")
    url = with_policy(site, strict, server.ws_url, "")
    widget = await open_widget(url=url, script=browser_does, forgiven=[FORBIDDEN, "WebSocket"])
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.send(SECOND)
    await widget.settle(2)
    assert await widget.page.evaluate("tried") == 3
    assert len(await widget.stored()) == 4


async def test_an_answer_that_was_lost_on_its_way(open_widget: OpenWidget) -> None:
    """If this fails, a visitor who comes back days later sees a question asked a second time."""
    widget = await open_widget()
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    name = await left(widget, OPENING, "sse")
    await widget.page.reload()
    await widget.open()
    await until(widget.page, f"localStorage.getItem('{name}') === null")
    await widget.settle(1)
    assert asked(widget) == 1


async def test_a_question_that_a_socket_may_have_brought(open_widget: OpenWidget) -> None:
    """If this fails, a question whose socket broke is asked twice where another tab has given up sockets."""
    widget = await open_widget()
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await left(widget, SECOND, "websocket")
    await widget.page.reload()
    await widget.open()
    await expect(widget.panel.get_by_role("button", name="Try again")).to_be_visible()
    assert asked(widget) == 1


async def refuse_next(widget: Widget) -> None:
    """Refuse the next question."""
    refusal = {"error": {"code": "server_overloaded", "message": "the line is full"}}
    await widget.page.route(
        "**/v1/responses",
        lambda route: route.fulfill(status=429, json=refusal, headers={"access-control-allow-origin": "*"}),
        times=1,
    )


async def refused_second(widget: Widget) -> Locator:
    """One question is answered, the next refused; the button to try it again."""
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await refuse_next(widget)
    await widget.send(SECOND)
    again = widget.panel.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    return again


async def test_trying_again_while_something_else_is_asked(open_widget: OpenWidget) -> None:
    """If this fails, a question that was refused is lost to who asks another one right after "Try again"."""
    widget = await open_widget(forgiven=["status of 429"])
    again = await refused_second(widget)
    reading = await Held().on(widget, "**/items?*")
    heard = asyncio.Event()

    async def ask_later(route: Route) -> None:
        await heard.wait()
        await route.continue_()

    await widget.page.route("**/v1/responses", ask_later)
    await again.click()
    route = await reading.came()
    await widget.send("And to Norway?")
    await route.continue_()
    await expect(widget.input).to_have_value(SECOND)
    heard.set()


async def test_trying_again_after_another_question(open_widget: OpenWidget) -> None:
    """If this fails, "Try again" does nothing once a later question was answered."""
    widget = await open_widget(forgiven=["status of 429"])
    again = await refused_second(widget)
    await widget.send("And to Norway?")
    await widget.settle(3)
    await again.click()
    await expect(widget.questions).to_have_text([OPENING, "And to Norway?", SECOND])
    await widget.settle(3)
    await expect(again).to_have_count(0)
    assert len(await widget.stored()) == 6


async def test_double_clicks(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, whoever clicks twice out of habit closes what they opened, and stops what they asked for."""
    widget = await open_widget(script=long_answers(300))
    await widget.launcher.evaluate("launcher => { launcher.click(); launcher.click(); }")
    await expect(widget.panel).to_be_visible()
    await widget.input.fill(LONG)
    with server.held():
        both = "box => box.querySelectorAll('button').forEach(button => button.click())"  # Send, then Stop in its place
        await widget.panel.locator(".box").evaluate(both)
        await widget.grown(20, server)
    await widget.settle(1)
    await expect(widget.answers.last).not_to_contain_text("Stopped.")


async def test_screen_readers_hear_how_an_answer_ends(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, who does not see the screen waits for the rest of an answer that is over."""
    widget = await open_widget(script=long_answers(300))
    live = widget.root.locator("[aria-live=polite]")
    await widget.open()
    with server.held():
        await widget.send(LONG)
        await widget.grown(20, server)
        await widget.stop()
        await widget.settle(1)
    await expect(live).to_contain_text("Stopped.")
    await widget.send(LONG)
    await widget.settle(2)
    await expect(live).to_contain_text("This answer was cut short.")


async def test_the_pages_own_server_is_away(open_widget: OpenWidget, server: Server, widget_id: str) -> None:
    """If this fails, a moment's trouble of the shop's own server leaves a signed-in customer without a chat."""
    secret = widgets(server.database, "secret", widget_id)
    identity = jwt.encode({"sub": "patient", "exp": int(time.time()) + 600}, secret, "HS256")
    widget = await open_widget(forgiven=["identify:"])
    await widget.root.evaluate(
        "(chat, token) => { let left = 4; chat.identify(async () => {"
        "if (left--) throw new TypeError('Failed to fetch'); return token; }) }",
        identity,
    )
    await widget.open()
    await expect(widget.notice).to_contain_text("cannot be reached")
    await expect(widget.notice).to_be_hidden()
    assert (await widget.record())["identified"]
