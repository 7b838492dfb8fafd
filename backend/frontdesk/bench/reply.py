"""One streamed reply as a client saw it, and how to read what came in the two formats that are measured.

While a reply runs, only the time and the bytes of each event are noted: the client shares the machine's cores with the
server that it measures. They are read after the end. Knows no connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

NO_TEXT = "the stream ended without text"
NO_END = "the connection ended in the middle of the reply"

ENDS = ("response.completed", "response.incomplete", "response.failed")


@dataclass(slots=True)
class Reply:
    """Times are `perf_counter` seconds; `frames` are the raw events as they came, `arrivals` the times of those with
    text. `asked` is the number of tokens that was asked for; `turn` counts a conversation's from 0.

    `stopped`: the client left before the end, as it had meant to. `error` is empty when all went well.
    """

    kind: str = ""
    turn: int = 0
    asked: int = 0
    sent: float = 0.0
    frames: list[tuple[float, bytes]] = field(default_factory=list)
    error: str = ""
    stopped: bool = False
    arrivals: list[float] = field(default_factory=list)
    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    id: str = ""

    @property
    def good(self) -> bool:
        return not self.error and bool(self.arrivals)

    @property
    def first(self) -> float:
        return self.arrivals[0]

    @property
    def last(self) -> float:
        return self.arrivals[-1]

    @property
    def ttft(self) -> float:
        """Seconds from the request to its first text."""
        return self.first - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between neighbouring frames with text. A frame may hold several tokens."""
        return [b - a for a, b in pairwise(self.arrivals)]

    @property
    def pace(self) -> float:
        """Mean seconds between tokens after the first; 0 for a single one."""
        return (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0


Read = Callable[[Reply], None]


def read_chat(reply: Reply) -> None:
    """Chat Completions' chunks. A server that tells no usage has sent all tokens if the reply was cut at the limit;
    else its frames are counted."""
    parts: list[str] = []
    told, finish = 0, ""
    for when, line in reply.frames:
        if line == b"[DONE]":
            finish = finish or "stop"
            continue
        chunk = _decoded(reply, line)
        if chunk.get("error"):
            reply.error = reply.error or _message(chunk)
        reply.id = reply.id or str(chunk.get("id") or "")
        usage = chunk.get("usage") or {}
        reply.prompt_tokens = usage.get("prompt_tokens", reply.prompt_tokens)
        told = usage.get("completion_tokens", told)
        reply.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", reply.cached_tokens)
        for choice in chunk.get("choices") or ():
            finish = choice.get("finish_reason") or finish
            delta = choice.get("delta") or {}
            if text := delta.get("content") or delta.get("reasoning_content"):
                parts.append(text)
                reply.arrivals.append(when)
    _end(reply, parts, told or (reply.asked if finish == "length" else 0), ended=bool(finish))


def read_responses(reply: Reply) -> None:
    """Events of the Responses API, from a WebSocket or from `data:` lines."""
    parts: list[str] = []
    told, ended = 0, False
    for when, line in reply.frames:
        if line == b"[DONE]":
            continue
        event = _decoded(reply, line)
        kind = event.get("type", "")
        response = event.get("response") or {}
        reply.id = response.get("id", reply.id)
        if kind == "response.output_text.delta" and event.get("delta"):
            parts.append(event["delta"])
            reply.arrivals.append(when)
        elif kind in ("response.failed", "error"):
            reply.error = reply.error or _message(response if kind == "response.failed" else event)
        ended = ended or kind in ENDS
        usage = response.get("usage") or {}
        reply.prompt_tokens = usage.get("input_tokens", reply.prompt_tokens)
        told = usage.get("output_tokens", told)
        reply.cached_tokens = (usage.get("input_tokens_details") or {}).get("cached_tokens", reply.cached_tokens)
    _end(reply, parts, told, ended=ended)


def _end(reply: Reply, parts: Iterable[str], told: int, *, ended: bool) -> None:
    reply.text = "".join(parts)
    reply.tokens = told or len(reply.arrivals)
    if not reply.stopped and not reply.error and not (ended and reply.arrivals):
        reply.error = NO_TEXT if ended else NO_END


def _decoded(reply: Reply, line: bytes) -> dict[str, Any]:
    """What is no JSON object is the reply's error."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    reply.error = reply.error or f"not a JSON object: {line[:80]!r}"
    return {}


def _message(body: dict[str, Any]) -> str:
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else error or body.get("message")
    return " ".join(str(message or "the reply failed").split())[:300]
