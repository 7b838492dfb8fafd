"""The service's end of a process that measures (`worker/lab`). Used from one event loop, for one question at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from frontdesk.errors import ModelLoadFailed
from frontdesk.worker.protocol import (
    LoadFailed,
    Loading,
    Open,
    Opened,
    Quantize,
    Quantized,
    Timed,
    ToChild,
    Trial,
)
from frontdesk.worker.spawn import DAMAGED, Child, how_it_ended, spawn

Answer = TypeVar("Answer")


class Lab:
    """An open process. What it is asked may kill it: then every question raises `ModelLoadFailed`."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def open(self, path: str, on_progress: Callable[[float], None] | None = None) -> str:
        """Open a model; returns llama.cpp's line on it. Raises `ModelLoadFailed` with its reason."""
        answer = await self._ask(Open(path), (Opened, LoadFailed), on_progress)
        if isinstance(answer, LoadFailed):
            raise ModelLoadFailed(answer.message)
        return answer.description

    async def run(self, trial: Trial) -> Timed:
        return await self._ask(trial, (Timed,))

    async def quantize(self, job: Quantize, on_progress: Callable[[float], None] | None = None) -> str:
        """Returns why it failed, or ""."""
        return (await self._ask(job, (Quantized,), on_progress)).reason

    async def _ask(
        self,
        question: ToChild,
        answers: tuple[type[Answer], ...],
        on_progress: Callable[[float], None] | None = None,
    ) -> Answer:
        try:
            self._child.send(question)
            while not isinstance(message := await self._child.receive(), answers):
                if isinstance(message, Loading) and on_progress:
                    on_progress(message.progress)
        except (asyncio.IncompleteReadError, ConnectionError):
            how = how_it_ended(await self._child.exit_code(), DAMAGED)
            raise ModelLoadFailed(f"the measuring process died: {how}") from None
        return message


@asynccontextmanager
async def laboratory(environment: Mapping[str, str] | None = None) -> AsyncIterator[Lab]:
    """A process that is gone afterwards, whatever happens."""
    child = await spawn("frontdesk.worker.lab", environment)
    try:
        yield Lab(child)
    finally:
        await child.kill()
