"""A streaming client that costs little: it shares the machine's cores with the server that it measures.

While a stream runs it only notes when each `data:` line came; JSON is parsed after the end. One event must not be cut
by two HTTP chunks, which holds for every server that writes whole events. Reads OpenAI's Chat Completions; the lines of
other formats are the caller's to read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit


@dataclass(slots=True)
class Answer:
    """One streamed reply. Times are `perf_counter` seconds; `lines` are the raw `data:` payloads as they came."""

    sent: float
    lines: list[tuple[float, bytes]] = field(default_factory=list)
    error: str = ""
    arrivals: list[float] = field(default_factory=list)  # of every frame with text
    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0

    @property
    def first(self) -> float:
        return self.arrivals[0]

    @property
    def last(self) -> float:
        return self.arrivals[-1]

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in pairwise(self.arrivals)]

    def parse(self) -> None:
        """Read what came. A stream without usage or text is an error."""
        parts: list[str] = []
        for when, line in self.lines:
            if line == b"[DONE]":
                continue
            chunk = json.loads(line)
            if "error" in chunk:
                self.error = self.error or str(chunk["error"])[:200]
            self._take_usage(chunk.get("usage") or {})
            for choice in chunk.get("choices", ()):
                if text := choice["delta"].get("content"):
                    parts.append(text)
                    self.arrivals.append(when)
        self.text = "".join(parts)
        if not self.tokens or not self.arrivals:
            self.error = self.error or "the stream ended without text or usage"

    def _take_usage(self, usage: dict[str, Any]) -> None:
        self.prompt_tokens = usage.get("prompt_tokens", self.prompt_tokens)
        self.tokens = usage.get("completion_tokens", self.tokens)
        self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", self.cached_tokens)


@dataclass(frozen=True, slots=True)
class Client:
    """Where the server is, and the model to ask for."""

    url: str
    model: str | None = None

    async def chat(
        self,
        messages: list[dict[str, str]],
        new_tokens: int,
        on_line: Callable[[Answer], None] | None = None,
        **more: object,
    ) -> Answer:
        """Stream one greedy reply of exactly `new_tokens`. Errors are in the answer, never raised."""
        answer = await self.stream("/v1/chat/completions", self._body(messages, new_tokens) | more, on_line)
        if not answer.error or answer.lines:
            answer.parse()
        return answer

    async def stream(
        self, path: str, body: dict[str, object], on_line: Callable[[Answer], None] | None = None
    ) -> Answer:
        """POST to any streaming route and keep the lines as they came, unread."""
        answer = Answer(perf_counter())
        try:
            reader, writer = await self._connect("POST", path, json.dumps(body).encode())
        except OSError as error:
            answer.error = str(error)
            return answer
        try:
            await _collect(reader, answer, on_line)
        except OSError as error:
            answer.error = str(error)
        finally:
            writer.close()
        return answer

    async def get(self, path: str) -> dict[str, Any]:
        reader, writer = await self._connect("GET", path, b"")
        try:
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return json.loads(body)
        finally:
            writer.close()

    def _body(self, messages: list[dict[str, str]], new_tokens: int) -> dict[str, object]:
        body: dict[str, object] = {
            "messages": messages,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body | ({"model": self.model} if self.model else {})

    async def _connect(self, method: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        return reader, writer


async def _collect(reader: asyncio.StreamReader, answer: Answer, on_line: Callable[[Answer], None] | None) -> None:
    status = await reader.readline()
    if b" 200 " not in status:
        answer.error = (status + await reader.read())[:300].decode("utf-8", "replace")
        return
    rest = b""
    while data := await reader.read(65536):
        now = perf_counter()
        *whole, rest = (rest + data).split(b"\n")
        found = [(now, line[6:].rstrip()) for line in whole if line.startswith(b"data: ")]
        answer.lines += found
        if found and on_line:
            on_line(answer)
