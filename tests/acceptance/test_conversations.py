"""Every stateful route, driven by the OpenAI package as it is, sync and async."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest
from tests.acceptance.asking import MODEL, Shop, first_id, said
from tests.acceptance.either_client import client_of

SHORT: dict[str, Any] = {"model": MODEL, "max_output_tokens": 8, "temperature": 0, "extra_body": {"ignore_eos": True}}
LONG: dict[str, Any] = SHORT | {"max_output_tokens": 2500}
GREEDY: dict[str, Any] = {"model": MODEL, "max_output_tokens": 60, "temperature": 0}


@pytest.fixture
async def http(shop: Shop) -> AsyncIterator[httpx2.AsyncClient]:
    """For the routes that the package has no method for."""
    headers = {"authorization": f"Bearer {shop.alice}"}
    async with httpx2.AsyncClient(base_url=shop.server.url + "/v1", headers=headers, timeout=30) as opened:
        yield opened


def texts(items: list[Any]) -> list[str]:
    return [item.content[0].text for item in items]


async def test_a_conversation_is_created_read_changed_and_deleted(alice: Any) -> None:
    """Breaks if the package cannot manage conversations here as it does at OpenAI."""
    made = await alice.conversations.create(metadata={"shop": "one"}, items=[said("Hello"), said("Hi!", "assistant")])
    assert made.id.startswith("conv_")
    assert made.object == "conversation"
    assert abs(made.created_at - time.time()) < 60
    assert (await alice.conversations.retrieve(made.id)).metadata == {"shop": "one"}
    changed = await alice.conversations.update(made.id, metadata={"shop": "two"})
    assert changed.metadata == (await alice.conversations.retrieve(made.id)).metadata == {"shop": "two"}
    assert [item.role async for item in alice.conversations.items.list(made.id, order="asc")] == ["user", "assistant"]
    gone = await alice.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError):
        await alice.conversations.retrieve(made.id)


async def test_items_are_added_paged_read_and_deleted(alice: Any) -> None:
    """Breaks if paging skips, repeats or turns items around, or a deleted one stays."""
    made = await alice.conversations.create()
    wanted = [f"line {i}" for i in range(45)]
    for first in range(0, 45, 20):
        added = await alice.conversations.items.create(made.id, items=[said(t) for t in wanted[first : first + 20]])
        assert texts(added.data) == wanted[first : first + 20]
        assert (added.first_id, added.last_id) == (added.data[0].id, added.data[-1].id)
    page = await alice.conversations.items.list(made.id, limit=10)
    assert texts(page.data) == wanted[:-11:-1], "the default order is newest first"
    assert page.has_more
    assert texts([item async for item in alice.conversations.items.list(made.id, limit=7)]) == wanted[::-1]
    items = [item async for item in alice.conversations.items.list(made.id, order="asc", limit=10)]
    assert texts(items) == wanted
    one = await alice.conversations.items.retrieve(items[3].id, conversation_id=made.id)
    assert texts([one]) == ["line 3"]
    await alice.conversations.items.delete(items[3].id, conversation_id=made.id)
    with pytest.raises(openai.NotFoundError):
        await alice.conversations.items.retrieve(items[3].id, conversation_id=made.id)
    left = [item async for item in alice.conversations.items.list(made.id, order="asc")]
    assert texts(left) == wanted[:3] + wanted[4:]


async def test_tool_calls_live_in_a_conversation(alice: Any) -> None:
    """Breaks if a tool call or its result loses a field on its way through the store."""
    call = {"type": "function_call", "call_id": "c1", "name": "stock", "arguments": '{"item": "pan"}'}
    result = {"type": "function_call_output", "call_id": "c1", "output": "7 left"}
    made = await alice.conversations.create(items=[said("Any pans?"), call, result])
    _, first, second = [item async for item in alice.conversations.items.list(made.id, order="asc")]
    assert call.items() <= first.to_dict().items()
    assert result.items() <= second.to_dict().items()
    assert first.id.startswith("fc_")
    answer = await alice.responses.create(conversation=made.id, input="Thanks", **SHORT)
    assert first.id in answer.context["kept"]
    assert second.id in answer.context["kept"]


async def test_turns_join_their_conversation(alice: Any) -> None:
    """Breaks if a turn does not see the ones before it, or its input and output do not join the conversation."""
    made = await alice.conversations.create()
    first = await alice.responses.create(conversation=made.id, input="Hello, my name is Rosa.", **GREEDY)
    stream = await alice.responses.create(
        conversation={"id": made.id}, input="What is my name?", stream=True, **GREEDY
    )
    events = [event async for event in stream]
    second = events[-1].response
    assert second.conversation.id == first.conversation.id == made.id
    assert "Rosa" in second.output_text
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    items = [item async for item in alice.conversations.items.list(made.id, order="asc")]
    assert texts(items) == ["Hello, my name is Rosa.", first.output_text, "What is my name?", second.output_text]
    assert [item.id for item in items][1::2] == [first.output[0].id, second.output[0].id]


async def test_forks_edit_and_regenerate(alice: Any) -> None:
    """Breaks if a fork changes what it came from, sees its sibling, or sees anything but previous input and output."""
    first = await alice.responses.create(input="Hello, my name is Rosa.", **GREEDY)
    asked = await alice.responses.create(previous_response_id=first.id, input="What is my name?", **GREEDY)
    edited = await alice.responses.create(previous_response_id=first.id, input="When are you open?", **GREEDY)
    again = await alice.responses.create(previous_response_id=first.id, input="What is my name?", **GREEDY)
    assert asked.previous_response_id == edited.previous_response_id == first.id
    assert again.output_text == asked.output_text
    assert again.id != asked.id
    spelled = [
        said("Hello, my name is Rosa."),
        said(first.output_text, "assistant"),
        said("When are you open?"),
    ]
    whole = await alice.responses.create(input=spelled, store=False, **GREEDY)
    assert (edited.output_text, edited.usage.input_tokens) == (whole.output_text, whole.usage.input_tokens)
    deep = await alice.responses.create(previous_response_id=edited.id, input="What is my name?", **GREEDY)
    assert deep.usage.input_tokens > edited.usage.input_tokens
    assert (await alice.responses.retrieve(first.id)).output_text == first.output_text


async def test_instructions_are_not_inherited(alice: Any) -> None:
    """Breaks if the instructions of one turn still steer the next, which OpenAI's protocol excludes."""
    instructions = "The shop is closed on all days but Sunday, from 3:15 to 4:15."
    first = await alice.responses.create(input="Hello", instructions=instructions, **SHORT)
    second = await alice.responses.create(input="Hello", previous_response_id=first.id, **SHORT)
    spelled = [said("Hello"), said(first.output_text, "assistant"), said("Hello")]
    plain = await alice.responses.create(input=spelled, store=False, **SHORT)
    assert (first.instructions, second.instructions) == (instructions, None)
    assert second.usage.input_tokens == plain.usage.input_tokens


async def test_what_is_not_stored_cannot_be_read(alice: Any) -> None:
    """Breaks if `store: false` keeps a customer's words all the same."""
    secret = await alice.responses.create(input="Hello", store=False, **SHORT)
    assert secret.store is False
    for refused in (
        alice.responses.retrieve(secret.id),
        alice.responses.create(input="And?", previous_response_id=secret.id, **SHORT),
    ):
        with pytest.raises(openai.APIStatusError) as error:
            await refused
        assert error.value.status_code in (400, 404)
        assert secret.id in error.value.message


async def test_a_stored_response_is_read_and_deleted(alice: Any) -> None:
    """Breaks if a response read again differs from the one answered, or a deleted one can still be read or followed."""
    made = await alice.responses.create(input="Hello", metadata={"order": "17"}, **SHORT)
    assert made.store is True
    assert made.metadata == {"order": "17"}
    assert (await alice.responses.retrieve(made.id)).to_dict() == made.to_dict()
    await alice.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await alice.responses.retrieve(made.id)
    with pytest.raises(openai.APIStatusError):
        await alice.responses.create(input="And?", previous_response_id=made.id, **SHORT)


async def test_background_replies_are_polled_and_cancelled(alice: Any) -> None:
    """Breaks if work without a reader is not done, cannot be followed, or cannot be stopped."""
    begun = await alice.responses.create(input="Hello", background=True, **SHORT)
    assert begun.background is True
    while (done := await alice.responses.retrieve(begun.id)).status in ("queued", "in_progress"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert done.status == "incomplete"
    assert done.usage.output_tokens == 8
    endless = await alice.responses.create(input="Hello", background=True, **LONG)
    while not (await alice.responses.retrieve(endless.id)).output_text:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    stopped = await alice.responses.cancel(endless.id)
    while stopped.status in ("queued", "in_progress"):
        await asyncio.sleep(0.02)
        stopped = await alice.responses.retrieve(endless.id)
    assert stopped.status == "cancelled"
    assert stopped.usage.output_tokens < 2500
    assert (await alice.responses.cancel(endless.id)).status == "cancelled", "cancelling twice is no error"


async def test_cancelling_ends_the_stream(alice: Any) -> None:
    """Breaks if the stop button does not reach a reader, or takes away what had been written."""
    text, id = "", ""
    last: Any = None
    async for event in await alice.responses.create(input="Hello", stream=True, **LONG):
        last = event
        if event.type == "response.created":
            id = event.response.id
        elif event.type == "response.output_text.delta":
            text += event.delta
            if event.sequence_number == 40:
                await alice.responses.cancel(id)
    assert last.type == "response.incomplete"
    assert last.response.status == "cancelled"
    assert last.response.output_text == text
    kept = await alice.responses.retrieve(id)
    assert (kept.status, kept.output_text) == ("cancelled", text)


async def test_input_items_and_counts(alice: Any) -> None:
    """Breaks if the count told before differs from the one that is charged, or a response forgets what was asked."""
    items = [said("Hello"), said("Hi!", "assistant"), said("When are you open?")]
    counted = await alice.responses.input_tokens.count(model=MODEL, input=items)
    made = await alice.responses.create(input=items, **SHORT)
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == made.usage.input_tokens
    listed = [item async for item in alice.responses.input_items.list(made.id, order="asc", limit=2)]
    assert texts(listed) == ["Hello", "Hi!", "When are you open?"]
    assert texts((await alice.responses.input_items.list(made.id)).data)[0] == "When are you open?"
    turn = {"model": MODEL, "input": "And on Sunday?", "previous_response_id": made.id}
    follow = await alice.responses.input_tokens.count(**turn)
    asked = await alice.responses.create(**SHORT | turn)
    assert follow.input_tokens == asked.usage.input_tokens


async def test_compaction_keeps_the_thread(alice: Any) -> None:
    """Breaks if what `/v1/responses/compact` gives cannot be sent back as the beginning of a conversation."""
    items = [
        said("Hi, my name is Oskar"),
        said("Nice to meet you, Oskar! How can I help?", "assistant"),
        said("How long can I return something?"),
        said("You can return items within 40 days.", "assistant"),
    ]
    compacted = await alice.responses.compact(model=MODEL, input=items)
    assert compacted.object == "response.compaction"
    assert compacted.output[-1].type == "compaction"
    assert compacted.usage.output_tokens > 0
    back = [item.to_dict() for item in compacted.output]
    answer = await alice.responses.create(input=[*back, said("When are you open?")], **GREEDY)
    assert "9:30" in answer.output_text


async def test_an_answer_is_named_instead_of_said(alice: Any, shop: Shop) -> None:
    """Breaks if a client that sends the ids of earlier answers, as some do by default, gets no second turn, on any of
    the ways to ask."""
    first = await alice.responses.create(input="When are you open?", **GREEDY)
    talk = [said("When are you open?"), first.output[0].to_dict(), said("And on Sunday?")]
    named = [talk[0], {"type": "item_reference", "id": first.output[0].id}, talk[2]]
    whole = await alice.responses.create(input=talk, **GREEDY)
    second = await alice.responses.create(input=named, **GREEDY)
    assert second.output_text == whole.output_text
    counted = await alice.responses.input_tokens.count(model=MODEL, input=named)
    assert counted.input_tokens == second.usage.input_tokens == whole.usage.input_tokens
    listed = await alice.responses.input_items.list(second.id, order="asc")
    assert texts(listed.data) == [talk[0]["content"], first.output_text, talk[2]["content"]]
    async with (
        client_of("async", shop.server.url + "/v1", shop.alice) as client,
        client.responses.connect() as socket,
    ):
        await socket.send_raw(json.dumps({"type": "response.create", "input": named, "store": False, **GREEDY}))
        while (frame := (await socket.recv()).to_dict())["type"] != "response.completed":
            assert frame["type"] != "error", frame
    assert frame["response"]["output"][0]["content"][0]["text"] == second.output_text
    await alice.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        await alice.responses.create(input=named, **GREEDY)
    assert gone.value.param == "input.1.id"


async def test_prompts_of_the_server(alice: Any) -> None:
    """Breaks if a stored prompt is not found by name and version, or its variables do not reach the model."""
    prompt = {"id": "demo_shop", "version": "2", "variables": {"shop": "Brindle Garden"}}
    made = await alice.responses.create(prompt=prompt, input="When are you open?", **GREEDY)
    plain = await alice.responses.create(prompt={"id": "demo_shop"}, input="When are you open?", **GREEDY)
    assert "9:30" in made.output_text
    assert made.prompt.id == "demo_shop"
    assert made.usage.input_tokens != plain.usage.input_tokens
    for wrong, named in (
        ({"id": "nobody"}, "nobody"),
        ({"id": "demo_shop", "version": "99"}, "99"),
        ({"id": "plain", "variables": {"shop": "x"}}, "shop"),
    ):
        with pytest.raises(openai.APIStatusError, match=named) as error:
            await alice.responses.create(prompt=wrong, input="Hello", **SHORT)
        assert error.value.status_code in (400, 404)


async def test_a_prompt_over_the_window(alice: Any) -> None:
    """Breaks if too long a history is cut in silence, or refused without the numbers that tell what to do."""
    made = await alice.conversations.create()
    lines = [said("word " * 150, role) for _ in range(15) for role in ("user", "assistant")]
    for first in range(0, 30, 20):
        await alice.conversations.items.create(made.id, items=lines[first : first + 20])
    with pytest.raises(openai.BadRequestError) as refused:
        await alice.responses.create(conversation=made.id, input="Hello", truncation="disabled", **SHORT)
    error = refused.value.body
    assert error["code"] == "context_length_exceeded"  # pyright: ignore
    assert str(error["n_prompt_tokens"]) in refused.value.message  # pyright: ignore
    assert str(error["n_ctx"]) in refused.value.message  # pyright: ignore
    cut = await alice.responses.create(conversation=made.id, input="Hello", **SHORT)
    context = cut.context
    assert cut.truncation == "auto"
    assert context["dropped"]
    assert cut.usage.input_tokens == context["prompt_tokens"] <= context["window"] - context["reserve"]
    assert sum(context["parts"].values()) == context["prompt_tokens"]
    items = [item.id async for item in alice.conversations.items.list(made.id, order="asc", limit=100)]
    assert context["dropped"] + context["kept"] == items[: len(items) - 2] + items[-2:-1], "and nothing is forgotten"


async def test_both_ways_to_go_on_exclude_each_other(alice: Any) -> None:
    """Breaks if a request that names two histories gets one of them, whichever."""
    made = await alice.conversations.create()
    first = await alice.responses.create(input="Hello", **SHORT)
    with pytest.raises(openai.BadRequestError) as refused:
        await alice.responses.create(conversation=made.id, previous_response_id=first.id, input="Hello", **SHORT)
    assert refused.value.param == "conversation"


async def test_the_preview_tells_the_next_turn(alice: Any, http: httpx2.AsyncClient) -> None:
    """Breaks if the meter shows other numbers than the next turn will have."""
    made = await alice.conversations.create(items=[said("Hello"), said("Hi! How can I help?", "assistant")])
    preview = (await http.get(f"/conversations/{made.id}/context")).raise_for_status().json()
    assert sum(preview["parts"].values()) == preview["prompt_tokens"]
    assert len(preview["kept"]) == 2
    assert preview["window"] > preview["prompt_tokens"] > 0
    turn = await alice.responses.create(conversation=made.id, input="When are you open?", model=MODEL)
    assert turn.context["parts"]["history"] == preview["parts"]["history"]
    assert turn.context["parts"]["system"] == preview["parts"]["system"]
    assert turn.context["reserve"] == preview["reserve"]


async def test_export_holds_everything(alice: Any, http: httpx2.AsyncClient) -> None:
    """Breaks if a shop cannot give a customer what it keeps of him, to read and for programs."""
    lines = [f"line {i} *with* marks" for i in range(30)]
    made = await alice.conversations.create(metadata={"customer": "17"}, items=[said(text) for text in lines[:20]])
    await alice.conversations.items.create(made.id, items=[said(text, "assistant") for text in lines[20:]])
    whole = (await http.get(f"/conversations/{made.id}/export")).raise_for_status().json()
    assert whole["conversation"]["id"] == made.id
    assert whole["conversation"]["metadata"] == {"customer": "17"}
    assert json.dumps(whole).count("*with* marks") == 30
    answer = await http.get(f"/conversations/{made.id}/export", params={"format": "markdown"})
    assert answer.headers["content-type"].startswith("text/markdown")
    places = [answer.text.index(f"line {i} ") for i in range(30)]
    assert places == sorted(places)


async def test_conversations_are_listed(alice: Any, http: httpx2.AsyncClient) -> None:
    """Breaks if a person's conversations cannot be found again: OpenAI has no such route, people ask for it."""
    made = [(await alice.conversations.create(metadata={"n": str(i)})).id for i in range(5)]
    seen: list[str] = []
    page = (await http.get("/conversations", params={"limit": 2})).raise_for_status().json()
    while len(seen) < 5:
        seen += [each["id"] for each in page["data"]]
        page = (await http.get("/conversations", params={"limit": 2, "after": page["last_id"]})).json()
    assert seen[:5] == made[::-1]


async def test_pins_stay_when_turns_leave(alice: Any, http: httpx2.AsyncClient) -> None:
    """Breaks if an item that was pinned leaves the prompt with its turn."""
    made = await alice.conversations.create(items=[said("My customer number is 48213."), said("Noted.", "assistant")])
    pinned = await first_id(alice, made.id)
    answer = await http.post(f"/conversations/{made.id}", json={"context": {"pinned": [pinned]}})
    assert answer.raise_for_status().json()["context"]["pinned"] == [pinned]
    lines = [said("word " * 150, role) for _ in range(10) for role in ("user", "assistant")]
    await alice.conversations.items.create(made.id, items=lines)
    await alice.conversations.items.create(made.id, items=lines)
    turn = await alice.responses.create(conversation=made.id, input="Hello", **SHORT)
    assert turn.context["parts"]["pinned"] > 0
    assert pinned in turn.context["kept"]
    assert turn.context["dropped"]
    for wrong in ({"pinned": "all"}, {"keep_last": -1}, {"policy": "guess"}):
        refused = await http.post(f"/conversations/{made.id}", json={"context": wrong})
        assert refused.status_code == 400, (wrong, refused.text)


async def test_numbers_of_one_stream_are_gapless(alice: Any) -> None:
    """Breaks if the numbers that readers come back with have holes."""
    stream = await alice.responses.create(input="Hello", stream=True, **SHORT)
    numbers = [event.sequence_number async for event in stream]
    assert numbers[0] == 0
    assert all(b == a + 1 for a, b in pairwise(numbers))
