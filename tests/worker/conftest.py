"""Real engine processes with the shipped model, and requests that remember what they heard."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from frontdesk.config import engine_environment
from frontdesk.errors import FrontdeskError
from frontdesk.worker.client import EngineClient
from frontdesk.worker.protocol import Load, SamplingParams, SequenceOutput

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
SECONDS = 60  # a safety limit, never a measure


def prompt(seed: int, length: int) -> tuple[int, ...]:
    numbers = random.Random(seed)
    return tuple(numbers.randrange(300, 2000) for _ in range(length))


def sampling(temperature: float = 0.0, seed: int = 0) -> SamplingParams:
    return SamplingParams(temperature, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 1.0, 64, (), seed)


@dataclass
class Heard:
    """All that one request was told, and its end."""

    ticket: int = 0
    tokens: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    finish: str = ""
    error: FrontdeskError | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def output(self, output: SequenceOutput) -> None:
        assert not self.over.is_set(), "spoke after its end"
        self.tokens += output.tokens
        self.cached += [output.cached] if output.cached >= 0 else []
        self.finish = output.finish
        if output.finish:
            self.over.set()

    def failed(self, error: FrontdeskError) -> None:
        assert not self.over.is_set(), "failed after its end"
        self.error = error
        self.over.set()

    async def end(self) -> Heard:
        await asyncio.wait_for(self.over.wait(), SECONDS)
        return self


@dataclass
class Asking:
    """One engine, and how to ask it."""

    client: EngineClient

    def ask(
        self, tokens: tuple[int, ...], most: int = 40, params: SamplingParams | None = None, tenant: int = 0
    ) -> Heard:
        heard = Heard()
        heard.ticket = self.client.submit(
            tokens, sampling=params or sampling(), max_tokens=most, stop_tokens=(), top_logprobs=-1, tenant=tenant,
            on_output=heard.output, on_failed=heard.failed,
        )  # fmt: skip
        return heard

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that must come."""
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.002)


def load(**changes: object) -> Load:
    values: dict[str, object] = {
        "path": str(SHIPPED), "window": 512, "kv_cells": 4096, "slots": 8, "threads": 1, "threads_least": 1,
        "chunk": 64, "chunk_busy": 32, "exact": True, **changes,
    }  # fmt: skip
    return Load(**values)  # pyright: ignore[reportArgumentType]


StartEngine = Callable[..., Awaitable[Asking]]


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    """`await start_engine(slots=…)`: an engine, closed at the test's end."""
    async with AsyncExitStack() as stack:

        async def start(**changes: object) -> Asking:
            client = EngineClient(load(**changes), engine_environment())
            stack.push_async_callback(client.close)
            await client.start()
            return Asking(client)

        yield start
