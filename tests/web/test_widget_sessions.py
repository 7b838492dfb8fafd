"""The widget's sessions: from which page, for whom, and for how long the server lets a visitor speak."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.async_api import expect
from tests.web.test_lines import NOTE_SOCKETS
from tests.web.widget import Held, Site, create_widget, running_site, until, widgets

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"


async def test_wrong_origin(open_widget: OpenWidget, widget_id: str, server: Server) -> None:
    """If this fails, anybody can put a shop's chat on their page, or a mistake in the setup looks like a bad line."""
    with running_site() as elsewhere:
        widget = await open_widget(url=elsewhere.strict(server.url, widget_id))
        widget.forgiven = ["CORS policy", "net::ERR_FAILED"]
        errors = "window.errors = []; addEventListener('frontdesk:error', event => errors.push(event.detail.code))"
        await widget.page.evaluate(errors)
        await widget.open()
        await expect(widget.notice).to_contain_text("not set up for this website")
        await widget.send(OPENING)
        await expect(widget.input).to_have_value(OPENING)  # not lost
        assert await widget.page.evaluate("errors[0]") == "origin_not_allowed"
        assert await widget.page.evaluate("localStorage.length") == 0


async def test_unknown_widget(open_widget: OpenWidget) -> None:
    """If this fails, a revoked widget looks as if the visitor's line were bad."""
    widget = await open_widget(id="wgt_" + "0" * 12)
    widget.forgiven = ["status of 404"]
    await widget.open()
    await expect(widget.notice).to_contain_text("no longer available")


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_expired_token(
    open_widget: OpenWidget, site: Site, start_server: Callable[..., Server], transport: str
) -> None:
    """If this fails, whoever thinks for longer than a token lives, or whose clock is wrong, gets no more answers."""
    server = start_server(visitor_minutes="0.1")  # a slow machine's first answer comes before its end
    id = create_widget(server, site.url)
    behind = "{ const now = Date.now; Date.now = () => now() - 3600e3; }"  # this clock gives a token an hour more
    widget = await open_widget(chat=server.url, id=id, script=behind, data={"transport": transport})
    widget.forgiven = ["status of 401"]
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    assert widget.sessions == 1
    await widget.page.wait_for_timeout(13_000)  # those seconds, and what the server grants to clocks that differ
    await widget.send("How much is express shipping?")
    await widget.settle(2)
    assert widget.sessions == 2
    assert "12.90" in await widget.answer()
    assert len(await widget.stored()) == 4


async def test_tokens_are_renewed_before_their_end(
    open_widget: OpenWidget, site: Site, start_server: Callable[..., Server]
) -> None:
    """If this fails, every token is used until it is refused, at the cost of a failed request and a pause."""
    server = start_server(visitor_minutes="0.02")
    widget = await open_widget(chat=server.url, id=create_widget(server, site.url))
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.page.wait_for_timeout(7500)
    await widget.send("How much is express shipping?")
    await widget.settle(2)  # and the console stays silent: no 401
    assert widget.sessions >= 2


async def test_who_the_visitor_is_changes_while_a_session_is_asked_for(
    open_widget: OpenWidget, server: Server, widget_id: str
) -> None:
    """If this fails, a customer who signs in stays a stranger, or one who signs out stays in the browser."""
    widget = await open_widget()
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    stranger = await widget.record()
    secret = widgets(server.database, "secret", widget_id)
    identity = jwt.encode({"sub": "in time", "exp": int(time.time()) + 600}, secret, "HS256")
    for change in (f"chat => chat.identify('{identity}')", "chat => chat.reset()"):
        held = await Held().on(widget, "**/v1/widget/sessions")
        await widget.page.reload()
        await widget.open()
        route = await held.came()
        await widget.root.evaluate(change)
        await route.continue_()
        await widget.page.wait_for_timeout(300)
        if "identify" in change:
            await widget.send(OPENING)
            await widget.settle(1)
            known = await widget.record()
            assert (known["identified"], known["visitor"] != stranger["visitor"]) == (True, True)
        else:
            assert "frontdesk" not in await widget.page.evaluate("Object.keys(localStorage).join()")


async def test_a_new_conversation_that_is_slow_to_begin(open_widget: OpenWidget) -> None:
    """If this fails, what is asked right after "New conversation" is said in the old one, or trying again after it
    failed goes back there."""
    widget = await open_widget(forgiven=["status of 429"])
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    beginning = await Held().on(widget, "**/v1/widget/sessions")
    await widget.panel.get_by_role("button", name="New conversation").click()
    route = await beginning.came()
    await widget.send("How much is express shipping?")
    await widget.page.wait_for_timeout(300)
    await expect(widget.questions).to_have_text(["How much is express shipping?"])
    refusal = {"error": {"code": "server_overloaded", "message": "the line is full"}}
    await route.fulfill(status=429, json=refusal, headers={"access-control-allow-origin": "*"})
    await expect(widget.notice).to_contain_text("Too many people")
    await expect(widget.input).to_have_value("How much is express shipping?")
    await expect(widget.questions).to_have_count(0)
    await widget.notice.get_by_role("button", name="Try again").click()
    await expect(widget.notice).to_be_hidden()
    await widget.input.press("Enter")
    await widget.settle(1)
    await expect(widget.questions).to_have_text(["How much is express shipping?"])
    assert len(await widget.stored()) == 2


@pytest.mark.parametrize("storage", ["emptied", "full"])
async def test_a_new_conversation_without_a_record(open_widget: OpenWidget, storage: str) -> None:
    """If this fails, "New conversation" gives the old one back where the browser keeps nothing, or a visitor whose
    token ends becomes somebody else there."""
    full = "Storage.prototype.setItem = () => { throw new Error('full'); };"
    widget = await open_widget(script=full if storage == "full" else "", forgiven=["status of 401"])
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    if storage == "emptied":
        await widget.page.evaluate("localStorage.clear()")
    async with widget.page.expect_response("**/v1/widget/sessions", timeout=15_000) as beginning:
        await widget.panel.get_by_role("button", name="New conversation").click()
    begun = (await (await beginning.value).json())["conversation"]
    await widget.send("How much is express shipping?")
    await expect(widget.questions).to_have_text(["How much is express shipping?"])  # the old answer is off the page
    await widget.settle(1)
    expired = {"error": {"code": "expired_token", "message": "it is over"}}
    await widget.page.route(
        "**/v1/responses",
        lambda route: route.fulfill(status=401, json=expired, headers={"access-control-allow-origin": "*"}),
        times=1,
    )
    async with widget.page.expect_request("**/v1/widget/sessions", timeout=15_000) as renewal:
        await widget.send("And to Norway?")
    assert ((await renewal.value).post_data_json or {}).get("conversation") == begun
    await widget.settle(2)


async def test_sockets_are_closed(open_widget: OpenWidget) -> None:
    """If this fails, a page that goes on for hours leaves sockets open on the server, or one of a visitor who has
    signed out."""
    widget = await open_widget(script=NOTE_SOCKETS, data={"transport": "websocket"})
    await widget.open()
    changes = (("setAttribute('lang', 'fr')", 1), ("reset()", 2), ("remove()", 1))  # answers on view until then
    for opened, (change, answers) in enumerate(changes, 1):
        await widget.send(OPENING)
        await widget.settle(answers)
        assert await widget.page.evaluate("sockets.map(one => one.readyState)") == [3] * (opened - 1) + [1]
        await widget.root.evaluate(f"chat => chat.{change}")
        await until(widget.page, "sockets.every(one => one.readyState === WebSocket.CLOSED)")


async def test_identified_visitors(open_widget: OpenWidget, site: Site, server: Server, widget_id: str) -> None:
    """If this fails, a signed-in customer is a stranger on their phone, or a stranger reads what a customer wrote."""
    secret = widgets(server.database, "secret", widget_id)

    def identity(subject: str) -> str:
        return jwt.encode({"sub": subject, "exp": int(time.time()) + 600, "name": "Dana"}, secret, "HS256")

    laptop = await open_widget()
    await laptop.root.evaluate("(chat, token) => chat.identify(async () => token)", identity("dana@laptop-test"))
    await laptop.open()
    await laptop.send(OPENING)
    await laptop.settle(1)
    phone = await open_widget()
    await phone.root.evaluate("(chat, token) => chat.identify(token)", identity("dana@laptop-test"))
    await phone.open()
    await expect(phone.questions).to_have_text([OPENING])
    await laptop.page.reload()
    await laptop.open()  # by whoever sits there now: the page has not said that it is Dana
    await expect(laptop.greeting).to_be_visible()
    await expect(laptop.questions).to_have_count(0)
    await laptop.root.evaluate("(chat, token) => chat.identify(token)", identity("dana@laptop-test"))
    await expect(laptop.questions).to_have_text([OPENING])
    forged = await open_widget()
    forged.forgiven = ["status of 401"]
    await forged.root.evaluate("chat => chat.identify('e30.e30.e30')")
    await forged.open()
    await expect(forged.notice).to_contain_text("sign in")
