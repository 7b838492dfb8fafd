"""Stored replies in one process, with the shipped model and an SQLite file: what a second life of the service finds,
what a repeated request gets, who waits for whom, and what a conversation that outgrows its window keeps.

Killing the real server is in tests/acceptance/test_durability.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from frontdesk.access.budgets import Budgets
from frontdesk.chat.prompting import Prompting
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService, Rules
from frontdesk.chat.spending import Spending
from frontdesk.config import prompts_folder
from frontdesk.errors import (
    BudgetExceeded,
    Conflict,
    ContextLengthExceeded,
    EngineNotReady,
    Forbidden,
    InvalidRequest,
    NotFound,
    StorageFailed,
)
from frontdesk.fleet.pool import Pool
from frontdesk.fleet.registry import card_for_file
from frontdesk.generation import Failed, Finished
from frontdesk.messages import Item, Message
from frontdesk.principal import Limits, Principal
from frontdesk.store.database import Operation, Result
from frontdesk.store.records import ConversationRecord, Ending
from frontdesk.store.store import Store, open_store
from frontdesk.wire._format import Call
from frontdesk.wire.openai_responses import OpenAIResponses
from frontdesk.worker.protocol import Load

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
DANA = Principal(owner="dana")
CONVERSATION = "conv_" + "0" * 32

Open = Callable[..., Awaitable[ChatService]]


@pytest.fixture
async def open_service(tmp_path: Path) -> AsyncIterator[Open]:
    """`await open_service()`: a service over the test's one database; call it again for its next life."""
    async with AsyncExitStack() as stack:

        async def start(rules: Rules | None = None, conversation_limits: Limits | None = None) -> ChatService:
            pool = Pool(card_for_file(SHIPPED))
            load = Load(
                str(SHIPPED), 512, 2048, slots=4, threads=1, threads_least=1, chunk=64, chunk_busy=32, exact=True
            )
            store = await open_store(str(tmp_path / "frontdesk.db"))
            spending = Spending(Budgets(), store, conversation_limits or Limits())
            service = ChatService(pool, load_personas(prompts_folder()), store, spending, rules)
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


async def conversation(service: ChatService, owner: str = "dana", **context: Any) -> str:
    await service.store.conversations.create(
        ConversationRecord(CONVERSATION, owner, 1, 1, options={"context": context} if context else {})
    )
    return CONVERSATION


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
            await asyncio.sleep(0.02)  # meanwhile the engine says more
            raise StorageFailed("no space left on device")
        results = await self._write(operations)
        self.one.set()
        await self.go.wait()
        return results


async def test_what_was_never_shown_is_not_shown_later(open_service: Open) -> None:
    """A reply that failed when the database refused some tokens would be read again with other text and numbers, since
    the tokens behind them were committed."""
    service = await open_service()
    Commits(service.store, lambda n: n == 5)
    (reply,) = await service.start(asks(), DANA)
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
    (reply,) = await service.start(asks(), DANA)
    assert isinstance(await asyncio.wait_for(reply.log.wait_end(), 20), Failed)
    await end_life(service)
    service = await open_service()
    again = await service.open(DANA, reply.id)
    await ended(again)
    whole = await answered(service, asks())
    assert again.log.text() == whole.log.text()
    assert (await service.open(DANA, reply.id)).log.events == again.log.events


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
    await asyncio.wait_for(end_life(service), 10)
    service = await open_service()
    await ended(await service.open(DANA, reply.id))


async def test_what_is_not_kept_ends_with_the_engine(open_service: Open) -> None:
    """A request that comes to an engine that is just being closed would keep the server from ending."""
    service = await open_service()
    backend = service.pool.pick(None)
    await backend.engine.close()
    (reply,) = await service.start(asks(store=False), DANA)
    last = await asyncio.wait_for(reply.log.wait_end(), 5)
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
    ],
    ids=["instructions", "many messages", "arguments"],
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


async def test_a_repeated_request_is_the_same_reply(open_service: Open) -> None:
    """A client that retries after a lost connection would get, and pay for, two answers."""
    service = await open_service()
    one, two = await asyncio.gather(*(service.start(asks(), DANA, idempotency="k") for _ in range(2)))
    assert one[0] is two[0]
    await ended(one[0])
    (three,) = await service.start(asks(), DANA, idempotency="k")
    assert three.log.events == one[0].log.events
    with pytest.raises(Conflict):
        await service.start(asks("Something else"), DANA, idempotency="k")
    (other,) = await service.start(asks(), Principal(owner="ben"), idempotency="k")
    assert other.id != one[0].id
    await ended(other)


async def test_one_turn_at_a_time(open_service: Open) -> None:
    """Two answers to one conversation would each not know the other, in an order that nobody chose."""
    service = await open_service()
    id = await conversation(service)
    (reply,) = await service.start(asks(conversation=id), DANA)
    with pytest.raises(Conflict) as refused:
        await service.start(asks(conversation=id), DANA)
    assert refused.value.code == "conversation_locked"
    with pytest.raises(NotFound):
        await service.start(asks(conversation=id), Principal(owner="ben"))
    await ended(reply)
    await answered(service, asks("Thanks", conversation=id))
    items = await service.store.conversations.all_items("dana", id)
    assert [item.message.role for item in items] == ["user", "assistant", "user", "assistant"]


async def test_a_turn_that_is_refused_does_not_lock(open_service: Open) -> None:
    """One bad request would make a conversation unusable."""
    service = await open_service()
    id = await conversation(service, truncation="disabled")
    with pytest.raises(ContextLengthExceeded):
        await service.start(asks("long " * 600, conversation=id), DANA)
    await answered(service, asks(conversation=id))


async def test_forks(open_service: Open) -> None:
    """Editing an earlier question would be answered in the light of what came after it."""
    service = await open_service()
    id = await conversation(service)
    first = await answered(service, asks("My name is Dana.", conversation=id))
    await answered(service, asks("I bought a kettle.", conversation=id))
    fork = await answered(service, asks("What is my name?", previous_response_id=f"resp_{first.id}"))
    assert len(fork.order.report.kept) == 3
    deeper = await answered(service, asks("And now?", previous_response_id=fork.id))
    assert len(deeper.order.report.kept) == 5
    assert len(await service.store.conversations.all_items("dana", id)) == 4
    with pytest.raises(InvalidRequest) as refused:
        await service.start(asks(previous_response_id=first.id), Principal(owner="ben"))
    assert refused.value.code == "previous_response_not_found"


async def test_what_left_is_summed_up_when_there_is_time(open_service: Open) -> None:
    """What a customer said in the beginning would be forgotten although the conversation asks for summaries, or a
    pinned item would be put into other words."""
    service = await open_service()
    id = await conversation(service, policy="summarise", pinned=["msg_" + "1" * 32])
    pinned = Item("msg_" + "1" * 32, "message", Message("user", "My order number is 4711."))
    await service.store.conversations.add_items("dana", id, [pinned])
    for i in range(8):
        await answered(service, asks(f"Question {i}: when are you open on Saturday?", conversation=id))
    async with asyncio.timeout(30):
        while not (report := await service.preview(DANA, id)).summarised or report.dropped:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert report.summarised
    assert not report.dropped
    assert dict(report.parts)["summary"] > 0
    assert pinned.id in report.kept
    items = await service.store.conversations.all_items("dana", id)
    (summary,) = [item for item in items if item.kind == "summary"]
    assert pinned.id not in summary.covers


async def test_budgets_are_settled_to_the_token(open_service: Open) -> None:
    """A conversation would be charged for what it did not get, or get more than it may."""
    service = await open_service(conversation_limits=Limits(tokens_total=400))
    id = await conversation(service)
    call = asks(conversation=id, max_output_tokens=20)
    prompt = (await service.count(call, DANA)).prompt_tokens
    reply = await answered(service, call)
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) == 400 - prompt - 20
    with pytest.raises(BudgetExceeded) as refused:
        await service.start(asks(conversation=id, max_output_tokens=400), DANA)
    assert refused.value.details["remaining"] == 400 - prompt - 20
    assert (await service.store.ledger.used("conversation", id, 0))[0] == prompt + 20


async def test_a_cancelled_reply_gives_back_what_it_did_not_use(open_service: Open) -> None:
    """Pressing stop would cost as much as the longest answer."""
    service = await open_service(conversation_limits=Limits(tokens_total=500))
    id = await conversation(service)
    (reply,) = await service.start(asks(conversation=id, max_output_tokens=350), DANA)
    async for _ in reply.log.read():
        if reply.log.text():
            break
    await service.cancel(DANA, reply.id)
    used = reply.usage.prompt + reply.usage.completion
    assert used < 350
    assert (await service.store.ledger.used("conversation", id, 0))[0] == used
    later = await answered(service, asks("Hi", conversation=id, max_output_tokens=5))
    prompt = later.order.report.prompt_tokens
    assert int(later.headers["x-ratelimit-remaining-tokens"]) == 500 - used - prompt - 5


async def test_a_token_for_one_conversation(open_service: Open) -> None:
    """Whoever takes such a token from a page could talk to the model about anything, at the shop's cost."""
    service = await open_service()
    id = await conversation(service)
    bound = Principal(owner="dana", conversation=id)
    await answered(service, asks(conversation=id), bound)
    with pytest.raises(Forbidden):
        await service.start(asks(), bound)
    with pytest.raises(NotFound):
        await service.start(asks(conversation="conv_" + "9" * 32), bound)
    outside = await answered(service, asks())
    with pytest.raises(NotFound):
        await service.open(bound, outside.id)


async def test_compacting_a_whole_conversation(open_service: Open) -> None:
    """A client could not go on with a conversation that has become too long for it."""
    service = await open_service()
    said = [("user", "When are you open on Saturday, and what does express shipping cost?"), ("assistant", "Ten.")]
    items = [{"role": role, "content": f"{text} {i}"} for i in range(30) for role, text in said]
    compaction = await service.compact(OpenAIResponses().parse({"input": items}), DANA)
    (summary,) = compaction.items
    assert len(summary.covers) == 60
    assert compaction.usage.prompt > 0
    call = asks("Thanks", input=[{"type": "compaction", "encrypted_content": summary.message.content},
                                 {"role": "user", "content": "Thanks"}])  # fmt: skip
    reply = await answered(service, call)
    assert dict(reply.order.report.parts)["summary"] > 0


async def test_a_summary_is_paid_by_its_conversation(open_service: Open) -> None:
    """Whoever may use one conversation could keep the engine busy for nothing."""
    service = await open_service(conversation_limits=Limits(tokens_total=450))
    id = await conversation(service)
    await answered(service, asks("When are you open on Saturday?", conversation=id, max_output_tokens=10))
    before = (await service.store.ledger.used("conversation", id, 0))[0]
    compaction = await service.compact(OpenAIResponses().parse({"conversation": id}), DANA)
    await service.flush()
    used = (await service.store.ledger.used("conversation", id, 0))[0] - before
    assert used == compaction.usage.prompt + compaction.usage.completion
    again = [service.compact(OpenAIResponses().parse({"conversation": id}), DANA) for _ in range(9)]
    results = await asyncio.gather(*again, return_exceptions=True)
    assert any(isinstance(result, BudgetExceeded) for result in results)


async def test_a_key_for_what_is_not_kept_is_refused(open_service: Open) -> None:
    """A retry would silently be a second generation and a second charge."""
    service = await open_service()
    with pytest.raises(InvalidRequest) as refused:
        await service.start(asks(store=False), DANA, idempotency="k")
    assert refused.value.param == "store"


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "You are a pirate."},
        {"prompt": {"id": "plain"}},
        {"input": [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "Hi"}]},
        {"input": [{"role": "developer", "content": "You are a pirate."}]},
    ],
)
async def test_visitors_only_ask(open_service: Open, fields: dict[str, Any]) -> None:
    """Whoever takes a token from a shop's page would have a free model for anything."""
    service = await open_service()
    visitor = Principal(owner="visitor:v", visitor="v")
    with pytest.raises(Forbidden):
        await service.start(asks(**fields), visitor)
    with pytest.raises(Forbidden):
        await service.count(asks(**fields), visitor)
    await answered(service, asks(), visitor)


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
