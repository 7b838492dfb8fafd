"""A message goes where it was written, or nowhere: others are opened meanwhile, and requests take long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.async_api import Page, Route, expect
from tests.web.demo import Demo, long_answers, made

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

OPENING = "When are you open on Saturday?"
SUNDAY = "And on Sunday?"
REFUSED = "localStorage.setItem('frontdesk.settings', JSON.stringify({extra: '{\"temperature\": 9}'}))"
ACCEPTED = "localStorage.removeItem('frontdesk.settings')"


class Held:
    """Requests that wait on their way to the server: those with this method and these parts in their address. `late`:
    the server is asked at once, and its answers wait; `lost`: the server never hears of them."""

    def __init__(
        self, method: str, *parts: str, but: tuple[str, ...] = (), late: bool = False, lost: bool = False
    ) -> None:
        self._method = method
        self._parts = parts
        self._but = but
        self._late = late
        self._lost = lost
        self.count = 0
        self.came = asyncio.Event()
        self.free = asyncio.Event()

    async def on(self, page: Page) -> Held:
        await page.route("**/v1/**", self._hold)
        return self

    async def _hold(self, route: Route) -> None:
        url = route.request.url
        wanted = all(part in url for part in self._parts) and not any(part in url for part in self._but)
        if not wanted or route.request.method != self._method:
            await route.continue_()
            return
        self.count += 1
        answer = await route.fetch() if self._late else None
        self.came.set()
        await self.free.wait()
        if answer:
            await route.fulfill(response=answer)
        elif self._lost:
            await route.abort()
        else:
            await route.continue_()


def texts(server: Server, conversation: str) -> list[str]:
    """What was said in a conversation, as the server keeps it."""
    answer = httpx2.get(f"{server.url}/v1/conversations/{conversation}/items?order=asc", timeout=30)
    items: list[dict[str, Any]] = answer.json()["data"]
    return [item["content"][0]["text"] for item in items]


async def click(demo: Demo, conversation: str) -> None:
    await demo.page.locator(f"#list a[href='#{conversation}']").click()


async def shown(demo: Demo, *said: str) -> None:
    """Wait until the page shows a conversation in which this was said."""
    await expect(demo.page.locator(".message .body")).to_have_text(said)


@pytest.mark.parametrize("way", ["click", "back"])
async def test_an_edited_message_whose_fork_was_left(open_demo: OpenDemo, server: Server, way: str) -> None:
    """If this fails, an edited message is sent into whichever conversation was opened while its fork came."""
    other = made(server.url, "Do you ship to Norway?", "We do.")
    source = made(server.url, "Hi!", "Hello.", OPENING, "From 10:00.")
    demo = await open_demo(other)
    await shown(demo, "Do you ship to Norway?", "We do.")
    await click(demo, source)
    await shown(demo, "Hi!", "Hello.", OPENING, "From 10:00.")
    held = await Held("GET", "/items", but=(source, other)).on(demo.page)
    message = demo.page.locator(".message.user").last
    await message.hover()
    await message.get_by_role("button", name="Edit").click()
    await demo.send(SUNDAY)
    await held.came.wait()
    if way == "click":
        await click(demo, other)
    else:
        await demo.page.go_back()
    await shown(demo, "Do you ship to Norway?", "We do.")
    held.free.set()
    await expect(demo.input).to_have_value(SUNDAY)
    await shown(demo, "Do you ship to Norway?", "We do.")
    assert demo.conversation == other
    assert texts(server, other) == ["Do you ship to Norway?", "We do."]
    assert texts(server, source) == ["Hi!", "Hello.", OPENING, "From 10:00."]
    await expect(demo.page.get_by_role("button", name="Send")).to_be_enabled()


async def test_a_message_while_its_conversation_loads(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, who writes before a slow page is there speaks in a new conversation, without what was said."""
    conversation = made(server.url, "Hi!", "Hello.")
    demo = await open_demo(conversation)
    await shown(demo, "Hi!", "Hello.")
    held = await Held("GET", conversation, "/items").on(demo.page)
    await demo.page.reload()
    await held.came.wait()
    await demo.send(OPENING)
    await demo.page.wait_for_timeout(300)
    held.free.set()
    await demo.settle(2)
    assert demo.conversation == conversation
    assert texts(server, conversation)[:3] == ["Hi!", "Hello.", OPENING]
    assert len(texts(server, conversation)) == 4
    assert await demo.answer() == demo.stored_text()


async def test_a_message_while_another_conversation_loads(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a message goes to the conversation that was left, though the list and the address name another."""
    left = made(server.url, "Hi!", "Hello.")
    conversation = made(server.url, "Do you ship to Norway?", "We do.")
    demo = await open_demo(left)
    await shown(demo, "Hi!", "Hello.")
    held = await Held("GET", conversation, "/items").on(demo.page)
    await click(demo, conversation)
    await held.came.wait()
    await demo.send(OPENING)
    held.free.set()
    await demo.settle(2)
    assert demo.conversation == conversation
    assert texts(server, left) == ["Hi!", "Hello."]
    assert texts(server, conversation)[2] == OPENING


async def test_a_message_whose_conversation_cannot_be_loaded(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a message meant for a conversation that is gone begins a new one, or is lost."""
    conversation = made(server.url, "Hi!", "Hello.")
    demo = await open_demo(conversation)
    demo.forgiven = ["status of 404"]
    await shown(demo, "Hi!", "Hello.")
    held = await Held("GET", conversation).on(demo.page)  # all of it: one answer alone that it is gone would do
    await demo.page.reload()
    await held.came.wait()
    httpx2.delete(f"{server.url}/v1/conversations/{conversation}").raise_for_status()
    await demo.send(OPENING)
    held.free.set()
    await expect(demo.input).to_have_value(OPENING)
    await expect(demo.page.locator("#notice")).to_be_visible()
    await expect(demo.answers).to_have_count(0)
    assert not demo.conversation


async def test_a_new_conversation_that_was_left(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a first message tears the page away from what was opened meanwhile, or is lost."""
    other = made(server.url, "Do you ship to Norway?", "We do.")
    demo = await open_demo()
    held = await Held("POST", "/v1/conversations").on(demo.page)
    await demo.send(OPENING)
    await held.came.wait()
    await click(demo, other)
    await shown(demo, "Do you ship to Norway?", "We do.")
    await demo.input.fill("Something else")
    async with demo.page.expect_response(lambda answer: answer.request.method == "DELETE") as gone:
        held.free.set()
    assert (await gone.value).ok  # nobody spoke in the new one
    await expect(demo.input).to_have_value(f"{OPENING}\n\nSomething else")
    await shown(demo, "Do you ship to Norway?", "We do.")
    assert demo.conversation == other
    assert texts(server, other) == ["Do you ship to Norway?", "We do."]


async def test_back_while_another_conversation_loads(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a slow conversation appears after the reader went back to the one before."""
    before = made(server.url, "Hi!", "Hello.")
    slow = made(server.url, "Do you ship to Norway?", "We do.")
    demo = await open_demo(before)
    await shown(demo, "Hi!", "Hello.")
    held = await Held("GET", slow, "/items").on(demo.page)
    await click(demo, slow)
    await held.came.wait()
    await demo.page.go_back()
    async with demo.page.expect_response(lambda answer: slow in answer.url and "/items" in answer.url):
        held.free.set()
    await demo.page.wait_for_timeout(200)
    await shown(demo, "Hi!", "Hello.")
    assert demo.conversation == before


async def test_try_again_after_the_answer_came(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, trying again asks a question a second time that the server has answered meanwhile."""
    demo = await open_demo(script=long_answers(1000))
    demo.forgiven = ["status of 500"]

    async def refuse(route: Route) -> None:
        await route.fulfill(status=500, json={"error": {"code": "server_error", "message": "out of order"}})

    again = demo.page.get_by_role("button", name="Try again")
    with server.held():
        await demo.send(OPENING)
        await demo.grown(100, server)
        await demo.page.route("**/v1/responses/*?stream=true*", refuse)
        await demo.page.reload()
        await expect(again).to_be_visible()
    conversation = demo.conversation
    while len(texts(server, conversation)) < 2:
        await demo.page.wait_for_timeout(100)
    await again.click()
    await expect(again).to_have_count(0)
    await demo.settle(1)
    await demo.page.wait_for_timeout(300)
    await expect(demo.answers).to_have_count(1)
    await expect(demo.page.get_by_role("button", name="Send")).to_be_visible()
    assert len(texts(server, conversation)) == 2


async def test_try_again_while_the_server_is_away(open_demo: OpenDemo) -> None:
    """If this fails, a message that was refused is lost by trying again at the wrong moment."""
    demo = await open_demo(script=REFUSED)
    demo.forgiven = ["status of 400", "net::ERR_"]
    await demo.send(OPENING)
    again = demo.page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    conversation = demo.conversation
    await demo.page.route("**/v1/conversations/**", lambda route: route.abort())
    await again.click()
    await expect(demo.page.locator(".failure")).to_contain_text("cannot be reached")
    await expect(demo.answers).to_have_count(0)
    assert demo.conversation == conversation
    await demo.page.unroute_all()
    await again.click()
    await expect(demo.page.locator(".message.user .body")).to_have_text(OPENING)
    await expect(again).to_be_visible()


async def test_try_an_older_message_again_while_the_server_is_away(open_demo: OpenDemo) -> None:
    """If this fails, a message that was refused some questions ago is lost by trying again at the wrong moment."""
    demo = await open_demo(script=REFUSED)
    demo.forgiven = ["status of 400", "net::ERR_"]
    await demo.send(SUNDAY)
    again = demo.page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await demo.page.evaluate(ACCEPTED)
    await demo.send(OPENING)
    await demo.settle(2)
    await demo.page.route("**/v1/conversations/**", lambda route: route.abort())
    await again.click()
    await expect(demo.page.locator(".failure")).to_contain_text("cannot be reached")
    await demo.page.unroute_all()
    await again.click()
    await expect(demo.page.locator(".message.user .body")).to_have_text([OPENING, SUNDAY])
    await expect(demo.answers.last).to_contain_text("not known whether")
    await expect(again).to_be_visible()


async def test_try_again_while_something_else_is_asked(open_demo: OpenDemo) -> None:
    """If this fails, a message that was refused is lost to who writes another one right after "Try again"."""
    demo = await open_demo(script=REFUSED)
    demo.forgiven = ["status of 400"]
    await demo.send(SUNDAY)
    again = demo.page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await demo.page.evaluate(ACCEPTED)
    reading = await Held("GET", "/items").on(demo.page)
    asked = asyncio.Event()

    async def ask_later(route: Route) -> None:
        await asked.wait()
        await route.continue_()

    await demo.page.route("**/v1/responses", ask_later)
    await again.click()
    await reading.came.wait()
    await demo.send(OPENING)
    reading.free.set()
    await expect(demo.input).to_have_value(SUNDAY)
    asked.set()
    await demo.settle(1)


async def refused_once(demo: Demo, text: str) -> None:
    """Sends what the server refuses, and tries again when it would take it."""
    demo.forgiven = ["status of 400", "net::ERR_"]
    before = await demo.answers.count()
    await demo.page.evaluate(REFUSED)
    await demo.send(text)
    again = demo.answers.nth(before).get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await demo.page.evaluate(ACCEPTED)
    await again.click()
    await expect(again).to_have_count(0)


async def test_try_again_after_two_refusals(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, who writes on below a message that was refused loses the next one by trying it again."""
    conversation = made(server.url, "Hi!", "Hello.")
    demo = await open_demo(conversation, script=REFUSED)
    demo.forgiven = ["status of 400"]
    await shown(demo, "Hi!", "Hello.")
    await demo.send(OPENING)
    await expect(demo.page.get_by_role("button", name="Try again")).to_have_count(1)
    await refused_once(demo, SUNDAY)
    await expect(demo.page.locator(".message.user .body")).to_have_text(["Hi!", SUNDAY])
    await demo.settle(2)
    assert texts(server, conversation)[:3] == ["Hi!", "Hello.", SUNDAY]
    assert await demo.answer() == demo.stored_text()


@pytest.mark.parametrize("what", ["the next message", "another answer"])
async def test_try_again_when_the_list_did_not_come(open_demo: OpenDemo, server: Server, what: str) -> None:
    """If this fails, a line that broke behind an answer makes the next thing that is tried again get lost."""
    demo = await open_demo()
    demo.forgiven = ["net::ERR_"]
    await demo.page.route("**/items?limit=6", lambda route: route.abort())
    await demo.send(OPENING)
    await demo.settle(1)
    await expect(demo.page.locator("#notice")).to_contain_text("cannot be reached")
    if what == "the next message":
        await refused_once(demo, SUNDAY)
        await demo.settle(2)
        assert texts(server, demo.conversation)[0::2] == [OPENING, SUNDAY]
        assert len(texts(server, demo.conversation)) == 4
        return
    demo.forgiven.append("status of 400")
    await demo.page.evaluate(REFUSED)
    await demo.page.get_by_role("button", name="Answer again").click()
    again = demo.page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await demo.page.evaluate(ACCEPTED)
    assert texts(server, demo.conversation) == [OPENING]
    await again.click()
    await expect(again).to_have_count(0)
    await demo.settle(1)
    assert await demo.answer() == demo.stored_text()
    assert len(texts(server, demo.conversation)) == 2


@pytest.mark.parametrize("way", ["refused", "cut"])
async def test_a_conversation_that_cannot_be_read_for_a_moment(
    open_demo: OpenDemo, server: Server, way: str
) -> None:
    """If this fails, who opens a conversation while the server restarts is put into a new one, loses the address, and
    what they write then is said in the wrong place."""
    before = made(server.url, "Hi!", "Hello.")
    conversation = made(server.url, "Do you ship to Norway?", "We do.")
    demo = await open_demo(before)
    demo.forgiven = ["status of 503", "net::ERR_"]
    await shown(demo, "Hi!", "Hello.")

    async def fail(route: Route) -> None:
        if way == "cut":
            await route.abort()
            return
        error = {"code": "unavailable", "message": "the server is starting"}
        await route.fulfill(status=503, json={"error": error}, headers={"retry-after": "1"})

    await demo.page.route(f"**/v1/conversations/{conversation}**", fail)
    await click(demo, conversation)
    failure = demo.page.locator(".failure")
    await expect(failure).to_contain_text("starting" if way == "refused" else "cannot be reached")
    assert demo.conversation == conversation
    await expect(demo.page.locator("#rename")).to_be_disabled()
    await demo.send(OPENING)
    await expect(demo.input).to_have_value(OPENING)
    assert texts(server, before) == ["Hi!", "Hello."]
    again = failure.get_by_role("button", name="Try again")
    await again.click()
    await expect(failure).to_be_visible()
    await demo.page.unroute_all()
    await again.focus()
    await demo.page.keyboard.press("Enter")
    await shown(demo, "Do you ship to Norway?", "We do.")
    await expect(demo.input).to_be_focused()
    await demo.input.press("Enter")
    await demo.settle(2)
    assert texts(server, conversation)[:3] == ["Do you ship to Norway?", "We do.", OPENING]
    await expect(demo.page.locator("#rename")).to_be_enabled()


async def test_an_edit_outlives_a_conversation_that_cannot_be_read(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, an edited message is lost because the server was away when another tab began an answer."""
    conversation = made(server.url, OPENING, "From 10:00.", "Thanks", "You are welcome.")
    demo = await open_demo(conversation)
    demo.forgiven = ["net::ERR_"]
    await shown(demo, OPENING, "From 10:00.", "Thanks", "You are welcome.")
    message = demo.page.locator(".message.user").first
    await message.hover()
    await message.get_by_role("button", name="Edit").click()
    await demo.input.fill(SUNDAY)
    await demo.page.route(f"**/v1/conversations/{conversation}/items**", lambda route: route.abort())
    ended = f"new StorageEvent('storage', {{key: 'frontdesk.turn.{conversation}', storageArea: localStorage}})"
    await demo.page.evaluate(f"dispatchEvent({ended})")
    again = demo.page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await expect(demo.input).to_have_value(SUNDAY)
    await demo.page.unroute_all()
    await again.click()
    await shown(demo, OPENING, "From 10:00.", "Thanks", "You are welcome.")
    await demo.input.press("Enter")
    await demo.settle(1)
    assert demo.conversation != conversation
    assert texts(server, demo.conversation)[0] == SUNDAY
