"""Lives of the chat service within one process: how one begins and ends, and what is said in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.processes import standing_still

from frontdesk.access.budgets import Budgets
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService, Rules
from frontdesk.chat.spending import Spending
from frontdesk.config import prompts_folder
from frontdesk.errors import StorageFailed
from frontdesk.fleet.pool import Pool
from frontdesk.fleet.registry import card_for_file
from frontdesk.generation import Finished
from frontdesk.principal import Limits, Principal
from frontdesk.store.database import Operation, Result
from frontdesk.store.records import ConversationRecord
from frontdesk.store.store import Store, open_store
from frontdesk.telemetry.recent import Recent
from frontdesk.wire._format import Call
from frontdesk.wire.openai_responses import OpenAIResponses
from frontdesk.worker.protocol import Load

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
DANA = Principal(owner="dana")
CONVERSATION = "conv_" + "0" * 32

Open = Callable[..., Awaitable[ChatService]]


@asynccontextmanager
async def lives(database: Path) -> AsyncIterator[Open]:
    """A function that begins a life of the service over this database. At the end all are over."""
    async with AsyncExitStack() as stack:

        async def start(
            rules: Rules | None = None,
            conversation_limits: Limits | None = None,
            recent: Recent | None = None,
            model: str | None = None,
            file: Path = SHIPPED,
        ) -> ChatService:
            card = card_for_file(file)
            pool = Pool(replace(card, name=model or card.name))
            load = Load(
                str(file), 512, 2048, slots=4, threads=1, threads_least=1, chunk=64, chunk_busy=32, exact=True
            )
            store = await open_store(str(database))
            spending = Spending(Budgets(), store, conversation_limits or Limits())
            service = ChatService(pool, load_personas(prompts_folder()), store, spending, rules, recent)
            await pool.start(load, prepare=service.recover)
            stack.push_async_callback(end_life, service)
            return service

        yield start


async def end_life(service: ChatService) -> None:
    """As the server's shutdown does it. A second call does nothing."""
    service.suspend()
    await service.pool.close()
    await service.close()
    await service.store.close()


class Commits:
    """The store's commits: number `n` fails if `fails(n)`; all wait for `go`. `one` is set when one was made."""

    def __init__(self, store: Store, fails: Callable[[int], bool] = lambda n: False) -> None:
        self._database = store._database  # pyright: ignore[reportPrivateUsage]
        self._write = self._database.write
        self._fails = fails
        self._made = 0
        self.one = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self._database.write = self._commit  # pyright: ignore[reportAttributeAccessIssue]

    async def _commit(self, operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        self._made += 1
        if self._fails(self._made):
            await asyncio.sleep(0.2)  # meanwhile the engine says more, also on a busy machine
            raise StorageFailed("no space left on device")
        results = await self._write(operations)
        self.one.set()
        await self.go.wait()
        return results


def held(service: ChatService) -> AbstractContextManager[None]:
    """The engine stands still meanwhile: no reply goes on or ends by itself, however fast the machine is."""
    pid = service.pool.pick(None).engine.pid
    assert pid is not None
    return standing_still(pid)


def asks(text: str = "Hello", **fields: Any) -> Call:
    body = {"input": text, "temperature": 0, "max_output_tokens": 60, "ignore_eos": True, **fields}
    return OpenAIResponses().parse(body)


async def ended(reply: Reply) -> Finished:
    last = await asyncio.wait_for(reply.log.wait_end(), 60)
    assert isinstance(last, Finished)
    return last


async def answered(service: ChatService, call: Call, principal: Principal = DANA, **options: Any) -> Reply:
    (reply,) = await service.start(call, principal, **options)
    await ended(reply)
    return reply


async def conversation(
    service: ChatService, owner: str = "dana", id: str = CONVERSATION, **context: Any
) -> str:
    await service.store.conversations.create(
        ConversationRecord(id, owner, 1, 1, options={"context": context} if context else {})
    )
    return id
