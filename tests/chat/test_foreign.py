"""Replies of a model that is not served any more, or of one whose file was replaced: their texts can be read, and those
that wait for it be ended."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.chat.lives import DANA, SHIPPED, Open, answered, asks, conversation, end_life, ended

from frontdesk.chat.reply import Reply
from frontdesk.chat.service import ChatService
from frontdesk.errors import EngineNotReady, ModelNotFound, NotFound
from frontdesk.fleet.gguf import read_metadata
from frontdesk.generation import Finished
from frontdesk.principal import Limits, Principal
from frontdesk.server.generate import RequestLimits
from frontdesk.server.responses import Responses
from frontdesk.server.websocket import Connection
from frontdesk.wire.openai_responses import response_object_of
from frontdesk.wire.responses_socket import Resume

LIMITS = Limits(tokens_total=2000)


def shown(reply: Reply) -> object:
    return response_object_of(reply.call, reply.identity, reply.log.events)


async def left_unfinished(open_service: Open) -> tuple[ChatService, Reply, int]:
    """A service of another model, a reply in a conversation that the former one left, and how many tokens it had."""
    service = await open_service(conversation_limits=LIMITS)
    call = asks(conversation=await conversation(service), max_output_tokens=400)
    (reply,) = await service.start(call, DANA)
    async for _ in reply.log.read():
        if reply.log.text():
            break
    await end_life(service)
    service = await open_service(model="another", conversation_limits=LIMITS)
    return service, reply, sum(len(entry.tokens) for entry in await service.store.journal.read(reply.id))


async def test_an_answer_outlives_its_model(open_service: Open) -> None:
    """Every answer that was given before an operator took a better model would be gone, and a retry be a 404."""
    service = await open_service()
    reply = await answered(service, asks(conversation=await conversation(service)), idempotency="k")
    stopped = await answered(service, asks(max_output_tokens=5))
    await end_life(service)
    service = await open_service(model="another")
    for was in (reply, stopped):
        assert shown(await service.open(DANA, was.id, anew=True)) == shown(was)
        assert shown(await service.cancel(DANA, was.id)) == shown(was)
    call = asks(conversation=reply.order.conversation)
    (again,) = await service.start(call, DANA, idempotency="k")
    assert shown(again) == shown(reply)
    with pytest.raises(ModelNotFound):  # its events had other numbers
        await service.open(DANA, reply.id)
    assert (await answered(service, asks("Thanks", conversation=reply.order.conversation))).log.text()


async def test_its_stream_is_told_anew_but_not_gone_on_with(open_service: Open) -> None:
    """A reader that comes back behind an event number would miss a part of the text, or get it twice."""
    service = await open_service()
    reply = await answered(service, asks())
    await end_life(service)
    service = await open_service(model="another")

    def ask(scope: Any, receive: Any, send: Any) -> Any:
        return routes({**scope, "state": {"principal": DANA}}, receive, send)

    routes = Starlette(routes=Responses(service, RequestLimits(1000, 5.0)).routes)
    path = f"/v1/responses/resp_{reply.id}"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ask), base_url="http://x") as client:
        assert (await client.get(path)).json()["output"][0]["content"][0]["text"] == reply.log.text()
        for stream in (f"{path}?stream=true", f"{path}/events"):
            frames = [line[6:] for line in (await client.get(stream)).text.splitlines() if line.startswith("data: {")]
            events = [json.loads(frame) for frame in frames]
            assert "".join(event["delta"] for event in events if "delta" in event) == reply.log.text()
            assert events[-1]["type"] == "response.incomplete"
        for stream in (f"{path}?stream=true&starting_after=3", f"{path}/events?last_event_id=3"):
            with pytest.raises(ModelNotFound):
                await client.get(stream)


async def test_a_socket_is_told_it_anew_too(open_service: Open) -> None:
    """On the WebSocket every answer of the former model would be gone, though over HTTP it can be read."""
    service = await open_service()
    reply = await answered(service, asks())
    await end_life(service)
    service = await open_service(model="another")

    async def identify() -> Principal:
        return DANA

    socket: Any = SimpleNamespace(state=SimpleNamespace(identify=identify))
    unused: Any = None
    connection = Connection(socket, service, unused, unused)
    again = await connection._reply(Resume(1, reply.id, anew=True))
    assert again.log.text() == reply.log.text()
    with pytest.raises(ModelNotFound):
        await connection._reply(Resume(1, reply.id, anew=False))


async def test_a_reply_of_another_model_is_cancelled(open_service: Open) -> None:
    """It would be in progress for ever, its tokens never be charged, or be charged twice."""
    service, reply, kept = await left_unfinished(open_service)
    id = reply.order.conversation
    assert id
    with pytest.raises(EngineNotReady, match="is served again"):
        await service.open(DANA, reply.id, anew=True)
    ends = await asyncio.gather(*(service.cancel(DANA, reply.id) for _ in range(2)))
    for each in (*ends, await service.open(DANA, reply.id, anew=True)):
        last = each.log.events[-1]
        assert isinstance(last, Finished)
        assert (last.reason, last.usage.prompt, last.usage.completion) == ("cancelled", reply.usage.prompt, kept)
    used = reply.usage.prompt + kept
    assert kept > 0
    assert await service.store.ledger.used("conversation", id, 0) == (used, 1)
    later = await answered(service, asks("Hi", conversation=id, max_output_tokens=5))
    assert int(later.headers["x-ratelimit-remaining-tokens"]) == 2000 - used - later.usage.prompt - 5


@pytest.mark.parametrize("what", ["response", "conversation"])
async def test_what_is_deleted_while_it_waits_is_paid_for(open_service: Open, what: str) -> None:
    """Tokens that were generated and seen would be in no ledger, and the budget have them twice."""
    service, reply, kept = await left_unfinished(open_service)
    id = reply.order.conversation
    assert id
    if what == "response":
        await service.delete(DANA, reply.id)
        assert not await service.store.conversations.all_items("dana", id)  # a turn with no answer
        later = await answered(service, asks("Hi", conversation=id, max_output_tokens=5))
        left = 2000 - reply.usage.prompt - kept - later.usage.prompt - 5
        assert int(later.headers["x-ratelimit-remaining-tokens"]) == left
    else:
        await service.stop_conversation(DANA, id)
        await service.store.conversations.delete(DANA.owner, id)
    with pytest.raises(NotFound):
        await service.open(DANA, reply.id, anew=True)
    used = {row["model"]: row for row in await service.store.ledger.sums(owner=DANA.owner, by=["model"])}
    assert kept > 0
    assert used[reply.order.backend.card.name] == {
        "model": reply.order.backend.card.name, "prompt": reply.usage.prompt, "cached": reply.usage.cached,
        "completion": kept, "requests": 1,
    }  # fmt: skip


async def test_it_goes_on_when_its_model_is_back(open_service: Open) -> None:
    """Serving another model for a moment would end what was promised."""
    service = await open_service()
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    await end_life(service)
    await end_life(await open_service(model="another"))
    service = await open_service()
    assert (await ended(await service.open(DANA, reply.id))).usage.completion == 300


def other_words(folder: Path, token: int) -> Path:
    """The shipped model's file, in which this token and one as long have changed places."""
    texts: Any = read_metadata(SHIPPED)["tokenizer.ggml.tokens"]
    pair = [texts[token]]
    pair += [next(text for text in texts if text not in pair and len(text.encode()) == len(pair[0].encode()))]
    first, second = (struct.pack("<Q", len(text.encode())) + text.encode() for text in pair)
    mark = b"\xff" * len(first)
    data = SHIPPED.read_bytes().replace(first, mark, 1).replace(second, first, 1)
    return written(folder, data.replace(mark, second, 1))


def other_weights(folder: Path) -> Path:
    """The shipped model's file, in which some weights are a little different."""
    data = SHIPPED.read_bytes()
    return written(folder, data[:-500_000] + bytes(byte ^ 1 for byte in data[-500_000:]))


def written(folder: Path, data: bytes) -> Path:
    file = folder / SHIPPED.name
    file.write_bytes(data)
    return file


async def test_what_was_answered_stays_when_the_file_is_replaced(open_service: Open, tmp_path: Path) -> None:
    """Answers that were given would say something else, since their tokens are other words in the new file."""
    service = await open_service()
    reply = await answered(service, asks())
    (token, *_) = (await service.store.journal.read(reply.id))[0].tokens
    await end_life(service)
    service = await open_service(file=other_words(tmp_path, token))
    assert service.pool.pick(None).card.name == reply.order.backend.card.name
    assert shown(await service.open(DANA, reply.id, anew=True)) == shown(reply)
    with pytest.raises(ModelNotFound):
        await service.open(DANA, reply.id)


async def test_new_weights_end_no_reply_that_others_began(open_service: Open, tmp_path: Path) -> None:
    """A reply would be half one model's and half another's, or an ended one lose its events though they can be read."""
    service = await open_service()
    whole = await answered(service, asks())
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    await end_life(service)
    service = await open_service(file=other_weights(tmp_path))
    assert (await service.open(DANA, whole.id)).log.events == whole.log.events
    with pytest.raises(EngineNotReady, match="is served again"):
        await service.open(DANA, reply.id)
    await end_life(service)
    service = await open_service()
    assert (await ended(await service.open(DANA, reply.id))).usage.completion == 300


async def test_replies_of_former_versions_go_on(open_service: Open, tmp_path: Path) -> None:
    """An update of the server would end what it should go on with: it was not yet written down who began it."""
    service = await open_service()
    (reply,) = await service.start(asks(max_output_tokens=300), DANA)
    await end_life(service)
    with closing(sqlite3.connect(tmp_path / "frontdesk.db")) as database, database:
        ((kept,),) = database.execute("SELECT parameters FROM responses")
        former = {name: value for name, value in json.loads(kept).items() if name != "sameness"}
        assert former != json.loads(kept)
        database.execute("UPDATE responses SET parameters = ?", [json.dumps(former).encode()])
    service = await open_service(file=other_weights(tmp_path))
    assert (await ended(await service.open(DANA, reply.id))).usage.completion == 300
