"""Single sentences of docs/conversations.md that no other test holds the server to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from tests.acceptance.asking import MODEL, loose_client, said
from tests.conftest import Server

# The package's own use of deprecated calls is not ours to judge.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LONG: dict[str, Any] = {"model": MODEL, "max_output_tokens": 2500, "extra_body": {"ignore_eos": True}}
WINDOW = 1024


# --- "`background: true` never stops" ------------------------------------------------------------------------------


@pytest.mark.parametrize("abandon", ["at_once", "grace"])
async def test_a_background_reply_needs_no_reader(start_server: Callable[..., Server], abandon: str) -> None:
    """Breaks if work in the background is stopped as soon as somebody looks at it and leaves: whoever polls later would
    find half an answer. A reply in the foreground, left in the same moment, shows that the setting is in force."""
    server = start_server(abandon=abandon, abandon_seconds="0.1")
    async with loose_client(server) as client:
        ids: list[str] = []
        for background in (True, False):
            stream = await client.responses.create(**LONG, input="Talk.", background=background, stream=True)
            first = await anext(aiter(stream))
            ids.append(first.response.id)
            if background:  # and one who comes back leaves, too
                again = await client.responses.retrieve(ids[0], stream=True, starting_after=0)
                await anext(aiter(again))
                await again.close()
            await stream.close()
        kept, stopped = [await _ended(client, id) for id in ids]
    assert (kept.background, stopped.background) == (True, False)
    assert kept.status == "incomplete"
    assert kept.incomplete_details.reason == "max_output_tokens"
    assert kept.usage.output_tokens == 2500
    assert stopped.status == "cancelled"


async def _ended(client: Any, id: str) -> Any:
    """The response when it has ended. Reads it whole, which makes nobody its reader."""
    while (response := await client.responses.retrieve(id)).status in ("queued", "in_progress"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return response


# --- what a conversation says of its context ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """A window that a few dozen messages fill."""
    with launch("--ctx", str(WINDOW), persona="plain") as running:
        yield running


@pytest.fixture
async def http(small: Server) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=small.url + "/v1", timeout=60) as opened:
        yield opened


async def created(http: httpx2.AsyncClient, **context: Any) -> str:
    answer = await http.post("/conversations", json={"context": context} if context else {})
    return answer.raise_for_status().json()["id"]


async def add_turn(http: httpx2.AsyncClient, conversation: str, number: int) -> list[str]:
    """A question and an answer of about 45 tokens together; their ids."""
    words = "word " * 15
    items = [said(f"Question {number}: {words}"), said(words, "assistant")]
    answer = await http.post(f"/conversations/{conversation}/items", json={"items": items})
    return [item["id"] for item in answer.raise_for_status().json()["data"]]


async def preview(http: httpx2.AsyncClient, conversation: str) -> dict[str, Any]:
    return (await http.get(f"/conversations/{conversation}/context")).raise_for_status().json()


async def test_a_long_message_is_refused_or_cut(http: httpx2.AsyncClient) -> None:
    """Breaks if `long_message: cut` refuses, if it cuts where nobody asked for it, if `context.cut` is not exactly what
    is missing, if the beginning or the end of the message goes instead of its middle, or if the conversation keeps
    less than what was said."""
    turn = {"prompt": {"id": "demo_shop"}, "max_output_tokens": 40, "temperature": 0}
    for question, fact in (("What is my name?", "Rosa"), ("When are you open?", "9:30")):
        long = "Hello, my name is Rosa. " + "It is raining again and the bus was late. " * 260 + question
        for context in ({}, {"long_message": "refuse"}):
            body = turn | {"input": long, "conversation": await created(http, **context)}
            refused = await http.post("/responses", json=body)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "context_length_exceeded"
        whole = refused.json()["error"]["n_prompt_tokens"]
        conversation = await created(http, long_message="cut")
        body = turn | {"input": long, "conversation": conversation}
        answer = (await http.post("/responses", json=body)).raise_for_status().json()
        context = answer["context"]
        assert context["cut"] == whole - context["prompt_tokens"] > 0
        assert answer["usage"]["input_tokens"] == context["prompt_tokens"] <= WINDOW - context["reserve"]
        assert sum(context["parts"].values()) == context["prompt_tokens"]
        assert fact in answer["output"][0]["content"][0]["text"], "the name stands at the beginning, what is asked last"
        kept = (await http.get(f"/conversations/{conversation}/items", params={"order": "asc"})).json()["data"]
        assert kept[0]["content"][0]["text"] == long
    short = turn | {"input": "Hello", "conversation": await created(http, long_message="cut")}
    assert (await http.post("/responses", json=short)).raise_for_status().json()["context"]["cut"] == 0


@pytest.mark.parametrize("keep_last", [1, 14])
async def test_the_last_turns_stay(http: httpx2.AsyncClient, keep_last: int) -> None:
    """Breaks if a turn leaves that `keep_last` protects, though it fits: only half of the window stays full after a
    drop. With one protected turn the same conversation does lose more, so the option and nothing else makes it."""
    conversation = await created(http, keep_last=keep_last)
    turns: list[list[str]] = []
    fewest = 1000
    for number in range(40):
        turns.append(await add_turn(http, conversation, number))
        context = await preview(http, conversation)
        kept = [turn for turn in turns if {*turn} & {*context["kept"]}]
        assert context["kept"] == [id for turn in kept for id in turn], "a turn left by half"
        assert context["prompt_tokens"] <= WINDOW - context["reserve"]
        assert kept == turns[len(turns) - len(kept) :]
        assert len(kept) >= min(len(turns), keep_last)
        if context["dropped"]:
            fewest = min(fewest, len(kept))
    assert fewest == 14 if keep_last == 14 else fewest < 14


async def test_the_reserve_is_exactly_what_stays_free(http: httpx2.AsyncClient) -> None:
    """Breaks if a conversation's `reserve` is only an echo: a turn must leave when one token less than that is free,
    and none before; and `max_output_tokens` of a turn must come first."""
    conversation = await created(http, reserve=1)
    number = 0
    while (context := await preview(http, conversation))["prompt_tokens"] < WINDOW * 4 // 5:
        assert (context["reserve"], context["dropped"]) == (1, [])
        await add_turn(http, conversation, number := number + 1)
    free = WINDOW - context["prompt_tokens"]
    for reserve in (free, free + 1):
        await http.post(f"/conversations/{conversation}", json={"context": {"reserve": reserve}})
        context = await preview(http, conversation)
        assert context["reserve"] == reserve
        assert bool(context["dropped"]) == (reserve > free)
    assert context["prompt_tokens"] < WINDOW - free
    turn = {"conversation": conversation, "input": "Hello", "temperature": 0, "store": False}
    plain = (await http.post("/responses", json=turn)).raise_for_status().json()
    asked = (await http.post("/responses", json=turn | {"max_output_tokens": 8})).raise_for_status().json()
    assert (plain["context"]["reserve"], asked["context"]["reserve"]) == (free + 1, 8)
    assert len(asked["context"]["dropped"]) < len(plain["context"]["dropped"])
