"""The readers of the storms themselves: what they may take for a cut connection, and what they may not."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.acceptance import crashes
from tests.acceptance.crashes import Follower, Plan

BEGUN = b'data: {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1"}}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize("answer", [HEAD + BEGUN, HEAD, b""], ids=["after an event", "before any", "no answer"])
async def test_a_reader_that_is_never_woken_is_told(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """A server that forgets its readers when an engine dies would pass every storm: they would come back by themselves
    after a while, as if their connections had been cut."""
    monkeypatch.setattr(crashes, "SILENT_SECONDS", 0.3)

    async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()  # until the client leaves
        writer.close()

    async with await asyncio.start_server(fall_silent, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        history = await Follower(url, random.Random(1)).follow(Plan("a", 0, 4))
    assert len(history.problems) == len(history.visits) == 1
    assert "silent" in history.problems[0]
