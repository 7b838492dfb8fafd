"""The widget's sessions: from which page, for whom, and for how long the server lets a visitor speak."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.async_api import Route, expect
from tests.web.widget import Site, create_widget, running_site, widgets

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
    server = start_server(visitor_minutes="0.02")
    id = create_widget(server, site.url)
    behind = "{ const now = Date.now; Date.now = () => now() - 3600e3; }"  # this clock gives a token an hour more
    widget = await open_widget(chat=server.url, id=id, script=behind, data={"transport": transport})
    widget.forgiven = ["status of 401"]
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    assert widget.sessions == 1
    await widget.page.wait_for_timeout(7500)  # a second or so, and what the server grants to clocks that differ
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
    held: asyncio.Queue[Route] = asyncio.Queue()

    def take(route: Route) -> None:
        held.put_nowait(route)

    for change in (f"chat => chat.identify('{identity}')", "chat => chat.reset()"):
        await widget.page.route("**/v1/widget/sessions", take, times=1)
        await widget.page.reload()
        await widget.open()
        route = await held.get()
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
