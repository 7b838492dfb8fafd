"""The page with deep-chat, from an origin of its own, in a real Chromium: what is seen is what the server keeps."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, Route, expect
from tests.acceptance.crashes import Phoenix
from tests.web.demo import letters
from tests.web.engine import strides
from tests.web.widget import add_talk

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.examples.conftest import MakeWidget, Serve

PATIENCE = 60_000  # milliseconds that a slow machine gets for one answer
QUESTION = "When are you open?"
HOSTILE = '<img src=x onerror="window.stolen=1"> ![](https://evil.example/x.png) [run](javascript:window.stolen=2)'
HOSTILE_ANSWER = [
    {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_" + "1" * 32}},
    {"type": "response.output_text.delta", "sequence_number": 1, "delta": HOSTILE},
    {"type": "response.completed", "sequence_number": 2},
]


class Chat:
    """The page as a visitor uses it. `problems` are errors of the console and of scripts; `asked` are all addresses."""

    def __init__(self, page: Page, server: str) -> None:
        self.page = page
        self.server = server
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.token = self.visitor = self.conversation = ""
        self.bubbles = page.locator(".message-bubble")
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfinished", self._finished)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    async def _finished(self, request: Request) -> None:
        if (
            request.url.endswith("/v1/widget/sessions")
            and request.method == "POST"
            and (reply := await request.response())
        ):
            session = await reply.json()
            self.token, self.conversation = session["token"], session["conversation"]
            self.visitor = session["visitor"]["id"]

    async def begun(self) -> None:
        """Wait until the session is known here too."""
        for _ in range(PATIENCE // 20):
            if self.token:
                return
            await self.page.wait_for_timeout(20)
        raise AssertionError("the page got no session")

    async def send(self, text: str) -> None:
        await self.page.locator("#text-input").click()
        await self.page.keyboard.type(text)
        await self.page.keyboard.press("Enter")

    async def grown(self, characters: int, held: Server) -> None:
        """Let a server that is held write until the newest message has so many characters."""

        async def long_enough() -> bool:
            return len(await self.bubbles.last.inner_text()) >= characters

        await strides(held, long_enough)

    async def ended(self) -> None:
        """Wait until another message can be sent."""
        await expect(self.page.locator("#submit-icon")).to_be_visible(timeout=PATIENCE)
        await expect(self.page.locator(".deep-chat-loading-message-bubble")).to_have_count(0)

    def stored(self) -> list[dict[str, Any]]:
        """The conversation's items, the oldest first, as the visitor's token gets them."""
        address = f"{self.server}/v1/conversations/{self.conversation}/items?order=asc&limit=100"
        return httpx2.get(address, headers={"authorization": f"Bearer {self.token}"}, timeout=30).json()["data"]

    def stored_text(self, number: int = -1) -> str:
        return "".join(part["text"] for part in self.stored()[number]["content"])

    async def lengthen(self, tokens: int) -> None:
        """From now on answers have exactly so many tokens, no two words of them the same."""
        chosen = {"ignore_eos": True, "max_output_tokens": tokens, "temperature": 1.3, "seed": 12}

        async def longer(route: Route) -> None:
            await route.continue_(post_data=json.dumps(json.loads(route.request.post_data or "") | chosen))

        await self.page.route("**/v1/responses", longer)


OpenChat = Callable[..., Awaitable[Chat]]


@pytest.fixture
async def open_chat(
    browser: Browser, installed: Callable[[str], Path], serve: Serve, make_widget: MakeWidget
) -> AsyncIterator[OpenChat]:
    """`await open_chat(server)`: the page in a browser of its own, registered with the server unless `origin` is
    another one than the page's."""
    folder = installed("deep-chat")
    async with AsyncExitStack() as stack:

        async def opened(server: Server, origin: str | None = None) -> Chat:
            edits: dict[str, str] = {}
            home = serve(folder, edits)
            edits["http://127.0.0.1:8000"] = server.url
            edits["wgt_000000000000"] = make_widget(server, origin or home)
            context = await browser.new_context()
            stack.push_async_callback(context.close)
            chat = Chat(await context.new_page(), server.url)
            await chat.page.goto(home)
            await expect(chat.bubbles.first).to_have_text(re.compile(r"\S"))  # the greeting, or why there is none
            return chat

        yield opened


async def test_a_conversation(open_chat: OpenChat, server: Server) -> None:
    """If this fails, deep-chat shows something else than was said, forgets it at a reload, or asks strangers."""
    chat = await open_chat(server)
    await chat.send(QUESTION)
    await expect(chat.bubbles).to_have_count(3, timeout=PATIENCE)
    await chat.ended()
    await chat.send("And on Sunday?")
    await expect(chat.bubbles).to_have_count(5, timeout=PATIENCE)
    await chat.ended()
    seen = [text.strip() for text in await chat.bubbles.all_inner_texts()]
    roles = [item["role"] for item in chat.stored()]
    assert roles == ["user", "assistant"] * 2
    assert seen[1:] == [chat.stored_text(number) for number in range(4)]
    await chat.page.reload()
    await expect(chat.bubbles).to_have_count(5)
    assert [text.strip() for text in await chat.bubbles.all_inner_texts()] == seen
    origin = await chat.page.evaluate("location.origin")
    assert not [url for url in chat.asked if not url.startswith((origin, server.url))]
    assert not chat.problems


async def test_stop(open_chat: OpenChat, server: Server) -> None:
    """If this fails, a stopped answer is computed on, and the next message finds its conversation locked."""
    chat = await open_chat(server)
    await chat.lengthen(3000)
    with server.held():
        await chat.send(QUESTION)
        await chat.grown(200, server)
        await chat.page.locator(".input-button").last.click()
        await chat.ended()
        server.wait_idle()
    assert chat.stored()[-1]["status"] == "incomplete"
    assert len(chat.stored_text()) < 10_000
    await chat.page.unroute("**/v1/responses")
    await chat.send(QUESTION)
    await expect(chat.bubbles).to_have_count(5, timeout=PATIENCE)
    await chat.ended()
    assert [item["role"] for item in chat.stored()] == ["user", "assistant"] * 2
    assert not chat.problems


async def test_the_server_is_killed(open_chat: OpenChat, tmp_path: Path) -> None:
    """If this fails, an answer that a crash interrupts ends there on the page, or shows a part of it twice."""
    with Phoenix(tmp_path) as phoenix:
        chat = await open_chat(phoenix.server)
        await chat.lengthen(1000)
        with phoenix.server.held():
            await chat.send(QUESTION)
            await chat.grown(200, phoenix.server)
            await asyncio.to_thread(phoenix.kill, "server")
        await chat.ended()
        assert chat.stored()[-1]["status"] == "incomplete"  # it reached its 1,000 tokens
        seen = letters(await chat.bubbles.last.inner_text())
        assert len(seen) > 1000
        assert seen == letters(chat.stored_text())
    assert not [problem for problem in chat.problems if "net::ERR_" not in problem and "503" not in problem]


async def test_hostile_text(open_chat: OpenChat, server: Server) -> None:
    """If this fails, the example teaches a page in which a model's text runs scripts or calls strangers."""
    chat = await open_chat(server)
    await chat.begun()
    let_through: list[str] = []

    async def stranger(route: Route) -> None:
        let_through.append(route.request.url)
        await route.fulfill()

    await chat.page.route("https://evil.example/**", stranger)
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in HOSTILE_ANSWER)
    head = {"content-type": "text/event-stream", "access-control-allow-origin": "*"}
    await chat.page.route("**/v1/responses", lambda route: route.fulfill(body=body, headers=head))
    await chat.send(QUESTION)
    await chat.ended()
    widget = await chat.page.locator("main").get_attribute("data-widget")
    assert widget
    for _ in ("as it comes", "as it is read again"):
        await chat.bubbles.last.get_by_text("run", exact=True).click()
        await chat.page.wait_for_timeout(200)
        assert not any([await page.evaluate("window.stolen") for page in chat.page.context.pages])
        assert not let_through
        add_talk(server, widget, chat.visitor, chat.conversation, QUESTION, HOSTILE)
        await chat.page.reload()


async def test_another_origin(open_chat: OpenChat, server: Server) -> None:
    """If this fails, a page that nobody registered may use the widget, or its visitor is not told why it cannot."""
    chat = await open_chat(server, "https://shop.example")
    await chat.send(QUESTION)
    await expect(chat.bubbles.last).to_have_text("The chat cannot be reached.")
    assert not chat.token
