"""What becomes of replies of a former life while the database refuses or the model loads, and of a beginning that the
database did not answer for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.chat.lives import CONVERSATION, DANA, SHIPPED, Open, answered, asks, conversation, end_life, ended

from frontdesk.access.budgets import Budgets
from frontdesk.chat import recovery
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService
from frontdesk.chat.spending import Spending
from frontdesk.chat.talking import Talking
from frontdesk.config import prompts_folder
from frontdesk.errors import Conflict, EngineNotReady, NotFound, StorageFailed
from frontdesk.fleet.pool import Pool
from frontdesk.fleet.registry import card_for_file
from frontdesk.principal import Limits
from frontdesk.store.database import Operation, Result
from frontdesk.store.journal import Journal
from frontdesk.store.records import JournalEntry
from frontdesk.store.store import open_store


@pytest.fixture(autouse=True)
def _without_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RETRY_SECONDS", 0.01)


class Refusing:
    """While it is `on`, no life finds out what was kept of a reply, except in the task `but`. `left`: how often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = True
        self.left = 10**9
        self.but: asyncio.Task[Any] | None = None
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        resume = Journal.resume

        async def refuse(journal: Journal, response: str) -> list[JournalEntry]:
            if self.but is not None and asyncio.current_task() is self.but:
                self.reached.set()
                await self.go.wait()
            elif self.on and self.left:
                self.left -= 1
                raise StorageFailed("connection was closed")
            return await resume(journal, response)

        monkeypatch.setattr(Journal, "resume", refuse)


async def left_unfinished(open_service: Open) -> Reply:
    """A turn of a conversation that was cut off by the end of its life."""
    service = await open_service()
    (reply,) = await service.start(asks(conversation=await conversation(service), max_output_tokens=300), DANA)
    async for _ in reply.log.read():
        if reply.log.text():
            break
    await end_life(service)
    assert not reply.log.ended
    return reply


async def tokens_of(service: ChatService, reply: Reply) -> int:
    """How many of them are kept."""
    return sum(len(entry.tokens) for entry in await service.store.journal.read(reply.id))


async def nothing_waits(service: ChatService) -> None:
    async with asyncio.timeout(30):
        while service._recovery._tasks:  # pyright: ignore[reportPrivateUsage]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def roles(service: ChatService) -> list[str]:
    return [item.message.role for item in await service.store.conversations.all_items(DANA.owner, CONVERSATION)]


async def test_a_refusal_keeps_no_reply_from_its_next_life(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failed call would leave a reply neither running nor ended until the next restart."""
    reply = await left_unfinished(open_service)
    refusing = Refusing(monkeypatch)
    refusing.left = 2
    service = await open_service()
    assert refusing.left == 0
    assert (await ended(await service.open(DANA, reply.id))).usage.completion == 300
    await answered(service, asks("Thanks", conversation=CONVERSATION))
    assert await roles(service) == ["user", "assistant"] * 2


async def test_a_reply_goes_on_whenever_the_database_is_back(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would start without the reply and never look for it again; or a later turn be answered before it, and
    stand before it in the conversation for good."""
    reply = await left_unfinished(open_service)
    refusing = Refusing(monkeypatch)
    service = await open_service()
    with pytest.raises(EngineNotReady):
        await service.open(DANA, reply.id)
    with pytest.raises(Conflict):
        await service.start(asks("Thanks", conversation=CONVERSATION), DANA)
    refusing.on = False
    await nothing_waits(service)
    assert (await ended(await service.open(DANA, reply.id))).usage.completion == 300
    await answered(service, asks("Thanks", conversation=CONVERSATION))
    assert await roles(service) == ["user", "assistant"] * 2


async def test_what_still_waits_is_left_to_another_life(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops before its database is back would fail the reply for good, or never end."""
    reply = await left_unfinished(open_service)
    refusing = Refusing(monkeypatch)
    service = await open_service()
    service.suspend()
    refusing.on = False
    await asyncio.sleep(0.1)  # it would be tried again meanwhile
    await service.pool.close()
    await end_life(service)
    service = await open_service()
    assert (await ended(await service.open(DANA, reply.id))).usage.completion == 300


async def test_a_reply_is_not_gone_on_with_while_it_is_deleted(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be computed after it was deleted, be charged twice, or keep its conversation's turn for ever."""
    reply = await left_unfinished(open_service)
    refusing = Refusing(monkeypatch)
    service = await open_service()
    kept = await tokens_of(service, reply)
    refusing.but = asyncio.create_task(service.delete(DANA, reply.id))
    await asyncio.wait_for(refusing.reached.wait(), 30)
    refusing.on = False
    await asyncio.sleep(0.1)  # it is tried again meanwhile
    refusing.go.set()
    await refusing.but
    await nothing_waits(service)
    assert not service._running  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(NotFound):
        await service.open(DANA, reply.id)
    (row,) = await service.store.ledger.sums(owner=DANA.owner)
    assert (row["requests"], row["prompt"], row["completion"]) == (1, reply.usage.prompt, kept)
    await answered(service, asks("Thanks", conversation=CONVERSATION))


@pytest.mark.parametrize("what", ["response", "conversation"])
async def test_what_is_deleted_though_it_cannot_go_on_is_paid_for(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Tokens that were generated and seen would be in no ledger."""
    reply = await left_unfinished(open_service)

    def broken(*_: Any) -> None:
        raise ValueError("not a token")

    with monkeypatch.context() as patch:
        patch.setattr(Reply, "begin", broken)
        service = await open_service()
    kept = await tokens_of(service, reply)
    if what == "response":
        await service.delete(DANA, reply.id)
    else:
        await service.stop_conversation(DANA, CONVERSATION)
        await service.store.conversations.delete(DANA.owner, CONVERSATION)
    (row,) = await service.store.ledger.sums(owner=DANA.owner)
    assert (row["requests"], row["prompt"], row["completion"]) == (1, reply.usage.prompt, kept)


async def test_what_no_version_can_read_can_be_deleted(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that an upgrade left unreadable would keep its conversation from being deleted."""
    reply = await left_unfinished(open_service)
    monkeypatch.setattr("frontdesk.chat.stored._FORMATS", {})
    service = await open_service()
    await service.delete(DANA, reply.id)
    with pytest.raises(NotFound):
        await service.open(DANA, reply.id)


async def test_nothing_unfinished_is_deleted_while_the_model_loads(open_service: Open, tmp_path: Path) -> None:
    """It would go with its journal, and its tokens be paid by nobody."""
    reply = await left_unfinished(open_service)
    pool, store = Pool(card_for_file(SHIPPED)), await open_store(str(tmp_path / "frontdesk.db"))
    loading = ChatService(pool, load_personas(prompts_folder()), store, Spending(Budgets(), store, Limits()))
    with pytest.raises(EngineNotReady):
        await loading.delete(DANA, reply.id)
    with pytest.raises(EngineNotReady):
        await loading.stop_conversation(DANA, CONVERSATION)
    kept = await tokens_of(loading, reply)
    await end_life(loading)
    service = await open_service()
    await service.delete(DANA, reply.id)
    (row,) = await service.store.ledger.sums(owner=DANA.owner)
    assert row["completion"] >= kept > 0


async def test_a_beginning_that_the_database_did_not_answer_for_is_undone(open_service: Open) -> None:
    """Its caller was told that nothing was begun, yet the next life would answer it, behind turns that came later; and
    up to then a repetition of the request would get 503."""
    limit = 2000
    service = await open_service(conversation_limits=Limits(tokens_total=limit))
    call = asks(conversation=await conversation(service))
    database, lost = service.store._database, True  # pyright: ignore[reportPrivateUsage]
    write = database.write

    async def commit(operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        results = await write(operations)
        if lost:
            raise StorageFailed("connection was closed in the middle of operation")
        return results

    database.write = commit  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(StorageFailed):
        await service.start(call, DANA, idempotency="k")
    with pytest.raises(Conflict):
        await service.start(asks("Thanks", conversation=CONVERSATION), DANA)
    lost = False
    await nothing_waits(service)
    assert await service.store.responses.unfinished() == []
    reply = await answered(service, call, idempotency="k")
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) == limit - reply.usage.prompt - 60
    await answered(service, asks("Thanks", conversation=CONVERSATION))
    assert await roles(service) == ["user", "assistant"] * 2


async def test_a_turn_that_is_being_started_is_stopped_with_its_conversation(open_service: Open) -> None:
    """It would be ended in the database alone, and be computed on for nobody."""
    service = await open_service()
    call = asks(conversation=await conversation(service), max_output_tokens=300)
    database = service.store._database  # pyright: ignore[reportPrivateUsage]
    write, committed, go = database.write, asyncio.Event(), asyncio.Event()

    async def commit(operations: Sequence[Operation[Any]]) -> list[Result[Any]]:
        results = await write(operations)
        committed.set()
        await go.wait()
        return results

    database.write = commit  # pyright: ignore[reportAttributeAccessIssue]
    starting = asyncio.create_task(service.start(call, DANA))
    await asyncio.wait_for(committed.wait(), 30)
    stopping = asyncio.create_task(service.stop_conversation(DANA, CONVERSATION))
    await asyncio.sleep(0.1)  # it finds the turn in the database
    go.set()
    (reply,) = await starting
    await stopping
    assert (await ended(reply)).reason == "cancelled"
    assert not service._running  # pyright: ignore[reportPrivateUsage]


def test_a_conversation_is_free_when_each_has_given_it_back() -> None:
    """Of two unfinished turns the first to end would let a third one in beside the other."""
    talking = Talking()
    for _ in range(2):
        talking.resume("dana", CONVERSATION)
    talking.give_back("dana", CONVERSATION)
    with pytest.raises(Conflict):
        talking.take("dana", CONVERSATION)
    talking.give_back("dana", CONVERSATION)
    talking.take("dana", CONVERSATION)
