"""The demo page as a person uses it: write, stop, read. Knows the page's roles and ids, and no test."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from playwright.async_api import ConsoleMessage, Page, expect

PATIENCE = 60_000  # milliseconds that a slow machine gets for one answer


class Demo:
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

    async def send(self, text: str) -> None:
        await self.input.fill(text)
        await self.input.press("Enter")

    async def choose(self, transport: str) -> None:
        await self.page.get_by_text("WebSocket" if transport == "websocket" else "SSE", exact=True).click()

    async def settle(self, answers: int) -> None:
        """Wait until there are so many answers and all are whole."""
        await expect(self.finished).to_have_count(answers, timeout=PATIENCE)
        await expect(self.answers).to_have_count(answers)

    async def grown(self, characters: int) -> None:
        """Wait until the newest answer has so many characters, and still grows."""
        body = self.answers.last.locator(".body")
        for _ in range(PATIENCE // 20):
            if await body.count() and len(await body.inner_text()) >= characters:
                break
            await self.page.wait_for_timeout(20)
        else:
            raise AssertionError(f"the answer did not reach {characters} characters")
        assert await self.answers.last.get_attribute("aria-busy") == "true", "the answer ended too soon for this test"

    async def answer(self, number: int = -1) -> str:
        """Text of an answer as it is seen."""
        return await self.answers.nth(number).locator(".body").inner_text()

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
