"""Summaries that are asked for, and what they and those of idle time cost."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from tests.chat.lives import CONVERSATION, DANA, Commits, Open, answered, asks, conversation
from tests.chat.talks import item

from frontdesk.chat.service import ChatService
from frontdesk.chat.summarising import Summariser
from frontdesk.errors import BudgetExceeded, ContextLengthExceeded, InvalidRequest, NotFound
from frontdesk.generation import Usage
from frontdesk.messages import Item, Message
from frontdesk.principal import Limits, Principal
from frontdesk.store.summaries import both_summaries, put_behind
from frontdesk.wire.openai_responses import OpenAIResponses


async def long_talk(service: ChatService, id: str = CONVERSATION, **context: Any) -> str:
    await conversation(service, id=id, **context)
    said = [item(f"msg_{i:032x}", "assistant" if i % 2 else "user", f"Line {i} of what we said.") for i in range(60)]
    await service.store.conversations.add_items("dana", id, said)
    return id


async def test_summaries_are_no_requests(open_service: Open) -> None:
    """A visitor whose conversation is summed up would be refused the next question, or its summary never be made."""
    service = await open_service(conversation_limits=Limits(requests_per_minute=1))
    id = await long_talk(service, policy="summarise")
    await answered(service, asks(conversation=id, max_output_tokens=5))
    async with asyncio.timeout(30):
        while not (await service.preview(DANA, id))[0].summarised:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_compaction_is_one_request(open_service: Open) -> None:
    """The rounds that it takes would use up the requests of whoever asked for it."""
    service = await open_service(conversation_limits=Limits(requests_per_minute=1))
    compaction = await service.compact(OpenAIResponses().parse({"conversation": await long_talk(service)}), DANA)
    assert len(compaction.items[0].covers) == 60


async def test_idle_time_does_not_undo_a_compaction(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary that was begun before, and stands for less, would take the place of the one that was asked for."""
    service = await open_service()
    id = await long_talk(service, policy="summarise")
    ask, calls, asked, go = Summariser._ask, count(), asyncio.Event(), asyncio.Event()

    async def first_waits(summariser: Summariser, *arguments: Any) -> Any:
        if next(calls) == 0:
            asked.set()
            await go.wait()
        return await ask(summariser, *arguments)

    monkeypatch.setattr(Summariser, "_ask", first_waits)
    await answered(service, asks(conversation=id, max_output_tokens=5))
    await asyncio.wait_for(asked.wait(), 30)
    idle = list(service._summariser._busy.values())
    compaction = await service.compact(OpenAIResponses().parse({"conversation": id}), DANA)
    go.set()
    await asyncio.wait(idle)
    assert (await service.store.conversations.all_items("dana", id))[0] == compaction.items[0]


async def test_compactions_of_one_conversation_wait_for_each_other(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that ends first would leave the other to the summaries of idle time, and the one that ends last could
    put a shorter summary in the place of a longer one, at twice the cost."""
    service = await open_service()
    id = await short_talk(service)
    calls, asked, go = count(), asyncio.Event(), asyncio.Event()

    async def ask(summariser: Summariser, *arguments: Any) -> tuple[str, Usage]:
        next(calls)
        asked.set()
        await go.wait()
        return "They talked.", Usage()

    monkeypatch.setattr(Summariser, "_ask", ask)
    call = OpenAIResponses().parse({"conversation": id})
    first = asyncio.create_task(service.compact(call, DANA))
    await asyncio.wait_for(asked.wait(), 30)
    left, waiting = (asyncio.create_task(service.compact(call, DANA)) for _ in range(2))
    await asyncio.sleep(0.2)
    left.cancel()
    await asyncio.wait([left])
    service._summariser.after(id, DANA)
    assert not service._summariser._busy
    go.set()
    assert (await first).items == (await waiting).items
    assert next(calls) == 1
    service._summariser.after(id, DANA)
    assert service._summariser._busy


async def test_a_compaction_that_the_budget_ends_is_not_lost(open_service: Open) -> None:
    """Whoever paid for most of it would get nothing, or a summary that is taken for what it does not stand for."""
    service = await open_service(conversation_limits=Limits(tokens_total=1000))
    id = await long_talk(service)
    compaction = await service.compact(OpenAIResponses().parse({"conversation": id}), DANA)
    summary, *rest = compaction.items
    assert summary.covers
    assert rest
    assert [*summary.covers, *(one.id for one in rest)] == [f"msg_{i:032x}" for i in range(60)]
    assert (await service.store.conversations.all_items("dana", id))[0] == summary
    with pytest.raises(BudgetExceeded):
        await service.compact(OpenAIResponses().parse({"conversation": id}), DANA)


async def test_a_conversation_keeps_its_compaction(open_service: Open) -> None:
    """The conversation would go on as long as it was, and the summary have been paid for nothing."""
    service = await open_service()
    id = await conversation(service)
    for _ in range(3):
        await answered(service, asks("When are you open on Saturday?", conversation=id, max_output_tokens=10))
    compact = {"conversation": id, "input": "Thanks"}
    await service.compact(OpenAIResponses().parse({**compact, "store": False}), DANA)
    assert not (await service.preview(DANA, id))[0].summarised
    compaction = await service.compact(OpenAIResponses().parse({"conversation": id}), DANA)
    (summary,) = compaction.items
    assert len((await service.preview(DANA, id))[0].summarised) >= 4
    items = await service.store.conversations.all_items("dana", id)
    assert items[0] == summary
    assert summary.covers == tuple(one.id for one in items[1:])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that always has something to say."""
    numbers = count()

    async def ask(summariser: Summariser, *arguments: Any) -> tuple[str, Usage]:
        return f"They talked, part {next(numbers)}.", Usage()

    monkeypatch.setattr(Summariser, "_ask", ask)


async def short_talk(service: ChatService) -> str:
    id = await conversation(service)
    said = [item(f"msg_{i:032x}", "assistant" if i % 2 else "user", f"Line {i}.") for i in range(4)]
    await service.store.conversations.add_items("dana", id, said)
    return id


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("earlier", ["of idle time", "of a client that left"])
async def test_a_compaction_sees_what_is_being_written(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, earlier: str
) -> None:
    """A summary that is on its way to the disk cannot be taken back: the compaction behind it would be paid for what
    that one says already, and then not be kept."""
    service = await open_service()
    id = await long_talk(service, policy="summarise")
    call = OpenAIResponses().parse({"conversation": id})
    queued, replace = asyncio.Event(), service.store.conversations.replace_summary

    async def spied(*arguments: Any) -> bool:
        queued.set()
        return await replace(*arguments)

    monkeypatch.setattr(service.store.conversations, "replace_summary", spied)
    commits = Commits(service.store)
    commits.go.clear()
    other = asyncio.create_task(conversation(service, id="conv_" + "1" * 32))
    await commits.one.wait()  # what comes now waits for this commit
    leaving = asyncio.create_task(service.compact(call, DANA)) if earlier == "of a client that left" else None
    if leaving is None:
        service._summariser.after(id, DANA)
    await asyncio.wait_for(queued.wait(), 30)
    if leaving is not None:
        leaving.cancel()
    compacting = asyncio.create_task(service.compact(call, DANA))
    await asyncio.sleep(0.2)  # it would have read the conversation by now
    commits.go.set()
    compaction = await compacting
    await other
    assert (await service.store.conversations.all_items("dana", id))[0] == compaction.items[0]


@pytest.mark.usefixtures("told")
async def test_a_conversation_keeps_its_part_of_a_compaction(open_service: Open) -> None:
    """With a message beside it that is not in the conversation, this would keep nothing of what was paid for."""
    service = await open_service()
    call = OpenAIResponses().parse({"conversation": await short_talk(service), "input": "Thanks"})
    compaction = await service.compact(call, DANA)
    kept, *items = await service.store.conversations.all_items("dana", CONVERSATION)
    assert (kept.kind, kept.covers) == ("summary", tuple(one.id for one in items))
    (summary,) = compaction.items
    assert len(summary.covers) == len(items) + 1
    assert summary.message.content.startswith(kept.message.content)


@pytest.mark.usefixtures("told")
async def test_a_conversation_keeps_no_summary_of_another(open_service: Open) -> None:
    """Every later turn would be told as said in the conversation what was said elsewhere."""
    service = await open_service()
    elsewhere = {"type": "compaction", "encrypted_content": "Dana moved to Rome."}
    call = OpenAIResponses().parse({"conversation": await short_talk(service), "input": [elsewhere]})
    (summary,) = (await service.compact(call, DANA)).items
    assert summary.message.content.startswith("Dana moved to Rome.")
    items = await service.store.conversations.all_items("dana", CONVERSATION)
    assert [one.kind for one in items] == ["message"] * 4


async def test_nobody_stops_the_summary_of_another(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows the id of somebody's conversation could keep its summary from being made."""
    service = await open_service()
    id = await long_talk(service, policy="summarise")
    asked, go = asyncio.Event(), asyncio.Event()

    async def ask(summariser: Summariser, *arguments: Any) -> tuple[str, Usage]:
        asked.set()
        await go.wait()
        return "They talked.", Usage()

    monkeypatch.setattr(Summariser, "_ask", ask)
    await answered(service, asks(conversation=id, max_output_tokens=5))
    await asyncio.wait_for(asked.wait(), 30)
    (idle,) = service._summariser._busy.values()
    with pytest.raises(NotFound):
        await service.compact(OpenAIResponses().parse({"conversation": id}), Principal(owner="eve"))
    go.set()
    await asyncio.wait([idle])
    assert not idle.cancelled()


async def test_an_idle_time_is_for_one_summary(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """All conversations would ask for theirs at once, stand in line before the next visitor and fill the line."""
    service = await open_service()
    at_once, most, asked = 0, 0, 0

    async def ask(summariser: Summariser, *arguments: Any) -> tuple[str, Usage]:
        nonlocal at_once, most, asked
        at_once, asked = at_once + 1, asked + 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        return "They talked.", Usage()

    monkeypatch.setattr(Summariser, "_ask", ask)
    ids = [await long_talk(service, id=f"conv_{n:032x}", policy="summarise") for n in range(4)]
    for id in ids:
        service._summariser.after(id, DANA)
    await asyncio.wait_for(asyncio.gather(*service._summariser._busy.values()), 60)
    assert asked >= len(ids)
    assert most == 1


async def summed_up(service: ChatService) -> str:
    """A conversation of four items with a summary of the first two."""
    id = await short_talk(service)
    covers = tuple(f"msg_{i:032x}" for i in range(2))
    summary = Item("cmp_" + "0" * 32, "summary", Message("system", "Dana likes tea."), covers=covers)
    await service.store.conversations.replace_summary("dana", id, None, summary)
    return id


ELSEWHERE = {"type": "compaction", "encrypted_content": "Dana moved to Rome."}
THANKS = {"role": "user", "content": "Thanks"}


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(("input", "text", "covers"), [
    ([ELSEWHERE], "Dana likes tea. They talked, part 0.\nDana moved to Rome.", 4),
    ([ELSEWHERE, THANKS], "Dana likes tea. They talked, part 0.\nDana moved to Rome. They talked, part 1.", 5),
    ([THANKS, ELSEWHERE], "Dana likes tea. They talked, part 0. They talked, part 1.\nDana moved to Rome.", 5),
])  # fmt: skip
async def test_a_summary_beside_that_of_the_conversation(
    open_service: Open, input: list[dict[str, str]], text: str, covers: int
) -> None:
    """What was summed up elsewhere would be gone from whatever goes on from here, or the conversation be told it as
    its own."""
    service = await open_service()
    call = OpenAIResponses().parse({"conversation": await summed_up(service), "input": input})
    (summary,) = (await service.compact(call, DANA)).items
    assert (summary.message.content, len(summary.covers)) == (text, covers)
    kept = (await service.store.conversations.all_items("dana", CONVERSATION))[0]
    assert (kept.kind, len(kept.covers)) == ("summary", 4)
    assert kept.message.content == "Dana likes tea. They talked, part 0."
    assert kept.id != summary.id


async def test_a_turn_keeps_the_summary_that_it_was_told(open_service: Open) -> None:
    """A client that brings a summary from elsewhere would destroy the conversation's own, and the next turn be told
    something else than this one."""
    service = await open_service()
    id = await summed_up(service)
    own = (await service.store.conversations.all_items("dana", id))[0]
    for _ in range(2):
        await answered(service, asks(conversation=id, input=[ELSEWHERE, THANKS], max_output_tokens=5))
        kept = (await service.store.conversations.all_items("dana", id))[0]
        assert (kept.kind, kept.covers) == ("summary", own.covers)
        assert kept.message.content == "Dana likes tea.\nDana moved to Rome."


@pytest.mark.parametrize(("own", "given"), [
    ("Dana likes tea.", "Dana moved to Rome."),
    ("Dana likes tea. She is in Rome.", "She is in Rome. Dana likes tea!\nShe paid."),
    ("Line\nline  two. Three", "Three\n\n line  two. "),
    ("Tea", ""),
    ("", "Tea"),
])  # fmt: skip
def test_what_is_kept_of_two_summaries_is_what_a_turn_was_told(own: str, given: str) -> None:
    """The two layers would come to join summaries in different words."""
    first, second = (Item(f"cmp_{text}", "summary", Message("system", text), covers=(text,)) for text in (own, given))
    told, kept = both_summaries(first, second), put_behind(first, second)
    assert kept.message == told.message
    assert kept.covers == (told.covers if kept.message != first.message else first.covers)


async def test_a_summary_beside_one_that_cannot_go_on(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was summed up elsewhere would be lost whenever the model has nothing to say or the budget ends."""

    async def ask(summariser: Summariser, *arguments: Any) -> tuple[str, Usage]:
        return "", Usage()

    monkeypatch.setattr(Summariser, "_ask", ask)
    service = await open_service()
    call = OpenAIResponses().parse({"conversation": await summed_up(service), "input": [ELSEWHERE]})
    summary, *rest = (await service.compact(call, DANA)).items
    assert summary.message.content == "Dana likes tea.\nDana moved to Rome."
    assert [item.id for item in rest] == [f"msg_{i:032x}" for i in range(2, 4)]


async def test_a_model_with_nothing_to_say(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sent a whole conversation would be told that it is empty."""

    async def ask(summariser: Summariser, *arguments: Any) -> tuple[str, Usage]:
        return "<think>never mind", Usage(7, 0, 3)

    monkeypatch.setattr(Summariser, "_ask", ask)
    service = await open_service()
    call = OpenAIResponses().parse({"conversation": await short_talk(service), "input": "Thanks"})
    compaction = await service.compact(call, DANA)
    assert [item.message.content for item in compaction.items] == [*(f"Line {i}." for i in range(4)), "Thanks"]
    assert compaction.usage == Usage(7, 0, 3)


async def test_nothing_to_sum_up(open_service: Open) -> None:
    """The caller would look for the fault in a field that has none, or in a conversation that was never named."""
    service = await open_service()
    with pytest.raises(InvalidRequest, match=r"'input' is empty$") as refused:
        await service.compact(OpenAIResponses().parse({"instructions": "Be brief."}), DANA)
    assert refused.value.param == "input"
    pinned = [f"msg_{i:032x}" for i in range(4)]
    id = await conversation(service, pinned=pinned)
    with pytest.raises(InvalidRequest, match=r"'input' and the conversation are empty$") as refused:
        await service.compact(OpenAIResponses().parse({"conversation": id}), DANA)
    assert refused.value.param == "input"
    await service.store.conversations.add_items("dana", id, [item(one, "user", "Keep this.") for one in pinned])
    with pytest.raises(InvalidRequest, match=r"all of the conversation is pinned$") as refused:
        await service.compact(OpenAIResponses().parse({"conversation": id}), DANA)
    assert refused.value.param == "conversation"


@pytest.mark.parametrize("beside", [{}, {"input": "Thanks"}])
async def test_a_window_too_small_to_sum_up(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, beside: dict[str, str]
) -> None:
    """Whoever sent too much for the model would be told that it was nothing."""
    service = await open_service()
    engine = service.pool.pick(None).engine
    monkeypatch.setattr(type(engine), "window", 40)
    call = OpenAIResponses().parse({"conversation": await short_talk(service), **beside})
    with pytest.raises(ContextLengthExceeded, match="40 tokens") as refused:
        await service.compact(call, DANA)
    error = refused.value
    assert error.param == ("input" if beside else "conversation")
    assert (error.details["n_ctx"], error.details["reserve"]) == (40, 5)
    assert error.details["n_prompt_tokens"] > 40 - 5  # pyright: ignore[reportOperatorIssue]
