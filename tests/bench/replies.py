"""Replies as a client would have noted them, made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from frontdesk.bench.reply import Reply


def reply(*arrivals: float, sent: float = 0.0, kind: str = "", tokens: int | None = None, error: str = "") -> Reply:
    """One frame at each time, each of one token unless `tokens` says so."""
    number = len(arrivals) if tokens is None else tokens
    return Reply(kind, sent=sent, arrivals=list(arrivals), tokens=number, error=error, asked=number)


def chat_lines(parts: Sequence[str], finish: str | None = "stop", usage: dict[str, Any] | None = None) -> list[bytes]:
    """The payloads of a Chat Completions stream."""
    deltas = [{"choices": [{"index": 0, "delta": {"content": part}, "finish_reason": None}]} for part in parts]
    last = [{"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}] if finish else []
    counted = [{"choices": [], "usage": usage}] if usage else []
    return [json.dumps(chunk).encode() for chunk in [*deltas, *last, *counted]] + [b"[DONE]"] * bool(finish)
