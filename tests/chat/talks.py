"""Conversations for the tests of `chat`, and the shipped model's chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frontdesk.fleet.gguf import read_metadata
from frontdesk.messages import Item, Message, Role

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
CHATML = str(read_metadata(SHIPPED)["tokenizer.chat_template"])


def item(id: str, role: Role, text: str, **more: Any) -> Item:
    return Item(id, "message", Message(role, text), **more)


def turns(count: int, words: int = 8) -> list[Item]:
    """`count` turns: u0, a0, u1, a1, …"""
    return [
        item(f"{role[0]}{i}", role, f"{role} says {i}: " + "one more word " * words)
        for i in range(count)
        for role in ("user", "assistant")
    ]  # fmt: skip
