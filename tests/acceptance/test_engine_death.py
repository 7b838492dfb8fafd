"""The engine is killed in the middle of everything: readers notice a pause and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import openai
from tests.acceptance.asking import MODEL, async_client, conversation
from tests.conftest import Server


async def reply(
    client: openai.AsyncOpenAI, index: int, seen: asyncio.Event, lines: int = 6
) -> tuple[str, str, list[int], int]:
    """Stream one Responses reply: joined deltas, final text, sequence numbers, output tokens."""
    messages = conversation(index, lines)
    text, numbers, final = "", [], None
    stream: Any = await client.responses.create(  # pyright: ignore[reportCallIssue]
        model=MODEL,
        input=messages,  # pyright: ignore[reportArgumentType]
        temperature=0 if index % 2 else 0.8,
        max_output_tokens=150,
        stream=True,
        extra_body={"ignore_eos": True, "seed": index},
    )
    async for event in stream:
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            text += event.delta
            seen.set()
        elif event.type in ("response.completed", "response.incomplete"):
            final = event.response  # pyright: ignore[reportAttributeAccessIssue]
    assert final is not None, "the stream ended without an end"
    return text, final.output_text, numbers, final.usage.output_tokens


async def test_kill_9_in_the_middle_of_8_streams(start_server: Callable[..., Server]) -> None:
    """Breaks if the death of the engine loses, repeats or changes a token of a greedy or a sampled reply."""
    server = start_server()
    async with async_client(server) as client:
        quiet = [await reply(client, i, asyncio.Event()) for i in range(8)]
        for _ in range(3):
            pid = server.engine_pid
            seen = [asyncio.Event() for _ in range(8)]
            tasks = [asyncio.create_task(reply(client, i, seen[i])) for i in range(8)]
            await asyncio.gather(*(event.wait() for event in seen[:4]))
            os.kill(pid, signal.SIGKILL)
            disturbed = await asyncio.gather(*tasks)
            assert server.engine_pid != pid
            assert disturbed == quiet
    for text, final, numbers, tokens in quiet:
        assert text == final
        assert numbers == list(range(len(numbers)))
        assert tokens == 150


async def test_kill_9_before_the_first_token(start_server: Callable[..., Server]) -> None:
    """Breaks if a request that was still waiting or in prefill is lost with the engine."""
    server = start_server(chunk="16", chunk_busy="16")
    async with async_client(server) as client:
        tasks = [asyncio.create_task(reply(client, i, asyncio.Event(), lines=100)) for i in range(4)]
        await asyncio.to_thread(server.wait_for, "open", 4)
        os.kill(server.engine_pid, signal.SIGKILL)
        answers = await asyncio.gather(*tasks)
        again = [await reply(client, i, asyncio.Event(), lines=100) for i in range(4)]
    assert answers == again
