"""The demo page as a person uses it: write, stop, read. Knows the page's roles and ids, and no test."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
from playwright.async_api import ConsoleMessage, Page, WebSocketRoute, expect
from tests.web.chat import Chat


class Demo(Chat):
    """One tab. `problems` are errors of the console, policy violations included, and of scripts."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        self.forgiven: list[str] = []
        self.input = page.get_by_role("textbox", name="Message")
        self.answers = page.locator(".message.assistant")
        self.finished = page.locator(".message.assistant[aria-busy=false]")
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in self.forgiven):
            self.problems.append(message.text)

    async def open(self, conversation: str = "", *, ready: bool = True) -> None:
        """`ready`: wait until the page knows the server."""
        await self.page.goto(f"{self.url}/{conversation and '#' + conversation}")
        if ready:
            await expect(self.page.locator("#served")).not_to_be_empty()

    async def choose(self, transport: str) -> None:
        await self.page.get_by_text("WebSocket" if transport == "websocket" else "SSE", exact=True).click()

    @property
    def conversation(self) -> str:
        """Id of the open conversation, as the address has it."""
        return self.page.url.partition("#")[2]

    def stored(self) -> list[dict[str, Any]]:
        """The open conversation's items, the oldest first, as the server keeps them."""
        address = f"{self.url}/v1/conversations/{self.conversation}/items?order=asc&limit=100"
        return httpx2.get(address, timeout=30).json()["data"]

    def stored_text(self, number: int = -1) -> str:
        return "".join(part["text"] for part in self.stored()[number]["content"])


class Script:
    """A server's end of the page's WebSocket: the test says each event itself. Call `on` before the page loads."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()  # the page has sent a message
        self.resumed = asyncio.Event()  # it wants the rest of the answer, on another socket
        self.placed = asyncio.Event()  # it wants to know the place in the waiting line
        self.said: list[str] = []  # every event, as it was sent
        self._text = ""
        self._socket: WebSocketRoute | None = None
        self._lane = ""

    async def on(self, page: Page) -> Script:
        await page.route_web_socket("**/v1/responses", self._connected)
        return self

    def begin(self) -> None:
        self._say("response.created", response=self._response("in_progress"))

    def text(self, delta: str) -> None:
        self._text += delta
        self._say("response.output_text.delta", delta=delta)

    def end(self, tokens: int) -> None:
        self._say("response.completed", response=self._response("completed", tokens))

    def refuse(self, code: str) -> None:
        """Says that something cannot be done, which is no event of the answer."""
        assert self._socket
        error = {"code": code, "message": "it cannot be done"}
        self._socket.send(json.dumps({"type": "error", "status": 400, "stream_id": self._lane, "error": error}))

    async def cut(self) -> None:
        assert self._socket
        await self._socket.close()

    def _connected(self, socket: WebSocketRoute) -> None:
        def heard(message: str | bytes) -> None:
            body = json.loads(message)
            heard = {"response.create": self.asked, "response.resume": self.resumed, "response.place": self.placed}
            if body["type"] in ("response.create", "response.resume"):
                self._socket, self._lane = socket, body["stream_id"]
            if event := heard.get(body["type"]):
                event.set()

        socket.on_message(heard)

    def _say(self, type: str, **fields: Any) -> None:
        event = {"type": type, "sequence_number": len(self.said), "stream_id": self._lane, **fields}
        self.said.append(json.dumps(event))  # with spaces, unlike what a browser makes of it
        assert self._socket
        self._socket.send(self.said[-1])

    def _response(self, status: str, tokens: int = 0) -> dict[str, Any]:
        id = "1" * 32
        content = [{"type": "output_text", "text": self._text}]
        item = {"id": f"msg_{id}", "type": "message", "role": "assistant", "status": status, "content": content}
        usage = {"input_tokens": 9, "output_tokens": tokens, "input_tokens_details": {"cached_tokens": 0}}
        whole = status == "completed"
        return {
            "id": f"resp_{id}", "status": status, "model": "scripted", "error": None, "context": None,
            "output": [item] if whole else [], "usage": usage if whole else None,
        }  # fmt: skip


def long_answers(tokens: int) -> str:
    """A script that sets the page's settings: answers of exactly so many tokens, no two words of them the same."""
    chosen = {"temperature": "1.3", "seed": "11", "max_output_tokens": str(tokens), "extra": '{"ignore_eos": true}'}
    return f"localStorage.setItem('frontdesk.settings', {json.dumps(json.dumps(chosen))})"


def letters(text: str) -> str:
    """What markdown does not change."""
    return "".join(character for character in text if character.isalpha())


def made(url: str, *texts: str, title: str = "Talk") -> str:
    """A conversation in which user and assistant said these texts in turns; its id."""
    roles = ["user", "assistant"] * len(texts)
    items = [{"type": "message", "role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    address = f"{url}/v1/conversations"
    id = httpx2.post(address, json={"metadata": {"title": title}}, timeout=30).raise_for_status().json()["id"]
    for at in range(0, len(items), 20):  # as many as one request may bring
        body = {"items": items[at : at + 20]}
        httpx2.post(f"{address}/{id}/items", json=body, timeout=30).raise_for_status()
    return id
