"""Stored replies in one process, with the shipped model and an SQLite file: what a second life of the service finds,
and what becomes of a reply when its start, its commits or its end fail.

Killing the real server is in tests/acceptance/test_durability.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.chat.lives import DANA, Commits, Open, answered, asks, conversation, end_life, ended

from frontdesk.chat.prompting import Prompting
from frontdesk.chat.reply import Reply
from frontdesk.chat.service import Rules
from frontdesk.chat.stored import order_of
from frontdesk.errors import (
    Conflict,
    ContextLengthExceeded,
    EngineNotReady,
    NotFound,
    StorageFailed,
)
from frontdesk.generation import Failed
from frontdesk.messages import Item, Message, item_id
from frontdesk.principal import Limits
from frontdesk.server.retention import retention
from frontdesk.store.records import Ending
from frontdesk.wire.openai_chat import OpenAIChat
from frontdesk.wire.openai_responses import OpenAIResponses


async def test_another_life_goes_on(open_service: Open) -> None:
    """A restart would lose an answer that was promised, repeat a part of it, or charge for it twice."""
    service = await open_service()
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    async for _ in reply.log.read():
        if len(reply.log.events) > 20:
            break
    await end_life(service)
    seen = list(reply.log.events)
    assert not reply.log.ended
    service = await open_service()
    again = await service.open(DANA, reply.id)
    last = await ended(again)
    assert (last.reason, last.usage.completion) == ("length", 300)
    assert again.log.events[: len(seen)] == seen
    whole = await answered(service, asks(max_output_tokens=300))
    assert again.log.text() == whole.log.text()
    (row,) = [row for row in await service.store.ledger.sums(owner="dana") if row]
    assert (row["requests"], row["completion"]) == (2, 600)
    restored = await service.open(DANA, reply.id)
    assert restored.log.events == again.log.events


async def test_what_was_never_shown_is_not_shown_later(open_service: Open) -> None:
    """A reply that failed when the database refused some tokens would be read again with other text and numbers, since
    the tokens behind them were committed."""
    service = await open_service()
    Commits(service.store, lambda n: n == 5)
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)  # too many for four commits
    assert isinstance(await asyncio.wait_for(reply.log.wait_end(), 20), Failed)
    while reply.id in service._running:  # pyright: ignore[reportPrivateUsage]  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    again = await service.open(DANA, reply.id)
    assert again is not reply
    assert again.log.events[:-1] == reply.log.events[:-1]


async def test_a_reply_goes_on_from_before_a_gap(open_service: Open) -> None:
    """Tokens that the database refused would be missing in the middle, for the model and in the text."""
    service = await open_service()
    Commits(service.store, lambda n: n == 5 or n > 6)
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)  # too many for four commits
    assert isinstance(await asyncio.wait_for(reply.log.wait_end(), 20), Failed)
    await end_life(service)
    service = await open_service()
    again = await service.open(DANA, reply.id)
    await ended(again)
    whole = await answered(service, asks(max_output_tokens=300))
    assert again.log.text() == whole.log.text()
    assert (await service.open(DANA, reply.id)).log.events == again.log.events


async def test_a_reply_that_goes_on_shares_the_persona_still(open_service: Open) -> None:
    """After a restart every open reply would compute the persona for itself, and nobody could share it from there."""
    service = await open_service()
    reply = await answered(service, asks(prompt={"id": "demo_shop"}))
    record = await service.store.responses.get("dana", reply.id)
    assert record is not None
    assert order_of(record, service.pool.pick(None)).public == reply.order.public > 100


async def test_what_was_left_out_is_kept_with_its_tokens(open_service: Open) -> None:
    """A response that is read again would tell of another context than its first reader saw, or one that an earlier
    version stored, without these counts, could not be read any more."""
    service = await open_service()
    id = await conversation(service)
    said = [Item(item_id("message"), "message", Message("user", f"Question {i}? " * 20)) for i in range(12)]
    await service.store.conversations.add_items("dana", id, said)
    reply = await answered(service, asks(conversation=id))
    report = reply.order.report
    assert report.dropped_tokens > 0
    record = await service.store.responses.get("dana", reply.id)
    assert record is not None
    assert (await service.open(DANA, reply.id)).identity.context == report
    kept = json.loads(record.context)
    assert kept.pop("dropped_tokens") == report.dropped_tokens
    assert kept.pop("summarised_tokens") == 0
    old = order_of(replace(record, context=json.dumps(kept).encode()), service.pool.pick(None))
    assert old.report == replace(report, dropped_tokens=0)


async def test_a_start_is_not_cut_in_two(open_service: Open) -> None:
    """A caller that leaves while its reply is written down would leave a reply that nobody computes: a repetition would
    get 503 until the next restart, which then would say it into the conversation."""
    service = await open_service()
    id = await conversation(service)
    commits = Commits(service.store)
    commits.go.clear()
    start = asyncio.create_task(service.start(asks(conversation=id), DANA, idempotency="k"))
    await commits.one.wait()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    commits.go.set()
    (again,) = await service.start(asks(conversation=id), DANA, idempotency="k")
    await ended(again)
    await answered(service, asks("Thanks", conversation=id))


@pytest.mark.parametrize("moment", ["before the engine is closed", "after it"])
async def test_a_start_during_the_shutdown_is_left_to_the_next_life(open_service: Open, moment: str) -> None:
    """The reply would fail for good, or the server would wait for its end for ever."""
    service = await open_service()
    commits = Commits(service.store)
    commits.go.clear()
    start = asyncio.create_task(service.start(asks(), DANA))
    await commits.one.wait()
    service.suspend()
    if moment == "after it":
        await service.pool.close()
    commits.go.set()
    (reply,) = await start
    await asyncio.wait_for(end_life(service), 60)
    service = await open_service()
    await ended(await service.open(DANA, reply.id))


async def test_what_is_not_kept_ends_with_the_engine(open_service: Open) -> None:
    """A request that comes to an engine that is just being closed would keep the server from ending."""
    service = await open_service()
    backend = service.pool.pick(None)
    await backend.engine.close()
    (reply,) = await service.start(asks(store=False), DANA)
    last = await asyncio.wait_for(reply.log.wait_end(), 30)
    assert isinstance(last, Failed)
    assert isinstance(last.error, EngineNotReady)


async def test_a_broken_reply_does_not_stop_the_others(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reply that cannot be read any more would keep the server from starting, and end all others for good."""
    service = await open_service()
    replies = [(await service.start(asks(max_output_tokens=300), DANA))[0] for _ in range(3)]
    await end_life(service)
    begin = Reply.begin

    def broken(reply: Reply, *kept: Any) -> None:
        if reply.id == replies[1].id:
            raise ValueError("not a token")
        begin(reply, *kept)

    monkeypatch.setattr(Reply, "begin", broken)
    service = await open_service()
    for reply in (replies[0], replies[2]):
        await ended(await service.open(DANA, reply.id))
    with pytest.raises(EngineNotReady):
        await service.open(DANA, replies[1].id)


@pytest.mark.parametrize(
    "body",
    [
        {"instructions": "Be kind. " * 3000},
        {"input": [{"role": "user", "content": str(i)} for i in range(100)]},
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "[]" * 12_000}]},
        {"prompt": {"id": "demo_shop", "variables": {"shop": "Pots and Pans " * 1400}}},
    ],
    ids=["instructions", "many messages", "arguments", "variables"],
)
async def test_much_work_is_done_beside_the_loop(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    """One request with long instructions, or with many short messages, would hold up every stream for seconds."""
    service = await open_service()
    threads: list[int] = []
    fit = Prompting._fit  # pyright: ignore[reportPrivateUsage]

    def spied(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return fit(*arguments)

    monkeypatch.setattr(Prompting, "_fit", spied)
    with contextlib.suppress(ContextLengthExceeded):
        await service.count(OpenAIResponses().parse({"input": "Hi", "truncation": "auto", **body}), DANA)
    assert threads
    assert threading.get_ident() not in threads


async def test_an_end_that_the_database_refuses_is_written_later(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next turn would be answered before this one is part of the conversation, and this one never be paid."""
    service = await open_service(conversation_limits=Limits(tokens_total=1000))
    id = await conversation(service)
    end, refusals = service.store.journal.end, [1, 2]

    def refusing(ending: Ending, done: Callable[[Exception | None], None]) -> None:
        if refusals:
            refusals.pop()
            done(StorageFailed("the disk is full"))
        else:
            end(ending, done)

    monkeypatch.setattr(service.store.journal, "end", refusing)
    (reply,) = await service.start(asks(conversation=id), DANA)
    last = await asyncio.wait_for(reply.log.wait_end(), 60)
    assert isinstance(last, Failed)
    with pytest.raises(Conflict):
        await service.start(asks(conversation=id), DANA)
    async with asyncio.timeout(20):
        while len(await service.store.conversations.all_items("dana", id)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert (await service.open(DANA, reply.id)).log.text() == reply.log.text()
    usage = reply.usage
    assert (await service.store.ledger.used("conversation", id, 0))[0] == usage.prompt + usage.completion
    await answered(service, asks("Thanks", conversation=id))


async def test_a_chat_is_not_kept_longer_than_its_key(open_service: Open) -> None:
    """Whoever uses an API that keeps nothing would have all that was said kept for ever, for the sake of a retry."""
    service = await open_service(Rules(idempotency_hours=-1))
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    chats = [await answered(service, OpenAIChat().parse(body), idempotency="k") for _ in range(2)]
    response = await answered(service, asks(), idempotency="another")
    async with retention(service.store, None), asyncio.timeout(30):
        while await service.store.responses.get("dana", chats[0].id):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    kept = [await service.store.responses.get("dana", reply.id) for reply in (*chats, response)]
    assert [record is not None for record in kept] == [False, False, True]


async def test_a_chat_that_is_kept_for_its_key_is_no_response(open_service: Open) -> None:
    """What every other route calls unknown could be deleted, and a retry then be answered and charged once more."""
    service = await open_service()
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    chat = await answered(service, OpenAIChat().parse(body), idempotency="k")
    for ask in (service.open, service.cancel, service.input_of, service.delete):
        with pytest.raises(NotFound):
            await ask(DANA, chat.id)
    assert (await answered(service, OpenAIChat().parse(body), idempotency="k")).id == chat.id


async def test_a_turn_that_is_not_kept_is_a_use_of_its_conversation(open_service: Open) -> None:
    """A conversation that is talked in every day would be deleted as one that nobody uses."""
    service = await open_service()
    id = await conversation(service)
    before = await service.store.conversations.get("dana", id)
    await answered(service, asks(conversation=id, store=False))
    await service.flush()
    after = await service.store.conversations.get("dana", id)
    assert before
    assert after
    assert after.updated > before.updated
