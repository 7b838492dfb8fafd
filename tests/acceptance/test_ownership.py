"""What belongs to one key is nobody else's, and what was deleted is gone from the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.acceptance.asking import MODEL, Shop, first_id, loose_client, said
from tests.acceptance.either_client import client_of
from tests.conftest import Server

SHORT: dict[str, Any] = {"model": MODEL, "max_output_tokens": 8, "temperature": 0, "extra_body": {"ignore_eos": True}}
LONG: dict[str, Any] = SHORT | {"max_output_tokens": 1500}


async def test_nobody_else_sees_anything(alice: Any, shop: Shop) -> None:
    """Breaks if any route shows, continues, changes or deletes what belongs to another key; 404 says not even that it
    exists."""
    made = await alice.conversations.create(items=[said("Hello")])
    item = await first_id(alice, made.id)
    reply = await alice.responses.create(input="Hello", background=True, **LONG)
    event = {"type": "response.resume", "response_id": reply.id}
    async with (
        client_of("async", shop.server.url + "/v1", shop.bob) as bob,
        httpx2.AsyncClient(
            base_url=shop.server.url + "/v1", headers={"authorization": f"Bearer {shop.bob}"}, timeout=10
        ) as http,
    ):
        for attempt in (
            bob.conversations.retrieve(made.id),
            bob.conversations.update(made.id, metadata={"a": "b"}),
            bob.conversations.items.create(made.id, items=[said("Mine")]),
            bob.conversations.items.retrieve(item, conversation_id=made.id),
            bob.conversations.items.delete(item, conversation_id=made.id),
            bob.conversations.delete(made.id),
            bob.responses.retrieve(reply.id),
            bob.responses.retrieve(reply.id, stream=True),
            bob.responses.cancel(reply.id),
            bob.responses.delete(reply.id),
            bob.responses.create(conversation=made.id, input="Hello", **SHORT),
            bob.responses.input_tokens.count(model=MODEL, conversation=made.id, input="Hello"),
            bob.responses.create(input=[{"type": "item_reference", "id": item}], **SHORT),
            bob.responses.create(input=[{"type": "item_reference", "id": f"msg_{reply.id[5:]}"}], **SHORT),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
        with pytest.raises(openai.BadRequestError) as unknown:
            await bob.responses.create(previous_response_id=reply.id, input="Hello", **SHORT)
        assert unknown.value.code == "previous_response_not_found"
        for path in (
            f"/conversations/{made.id}/items",
            f"/conversations/{made.id}/context",
            f"/conversations/{made.id}/export",
            f"/responses/{reply.id}/input_items",
            f"/responses/{reply.id}/events",
        ):
            assert (await http.get(path)).status_code == 404, path
        async with bob.responses.connect() as socket:
            await socket.send_raw(json.dumps(event))
            refused = (await socket.recv()).to_dict()
    assert refused["type"] == "error"
    assert refused["error"]["code"] == "not_found"
    assert (await alice.responses.retrieve(reply.id)).status in ("queued", "in_progress", "incomplete")
    await alice.responses.cancel(reply.id)


async def test_no_key_no_answer(shop: Shop) -> None:
    """Breaks if any route that holds or costs something answers without a key."""
    async with httpx2.AsyncClient(base_url=shop.server.url + "/v1", timeout=10) as http:
        for method, path in (
            ("POST", "/responses"),
            ("POST", "/chat/completions"),
            ("POST", "/conversations"),
            ("GET", "/conversations"),
            ("GET", "/responses/resp_" + "0" * 32),
            ("GET", "/usage"),
            ("POST", "/visitors"),
        ):
            for headers in ({}, {"authorization": "Bearer fd_nobody_nothing"}, {"authorization": "Basic eA=="}):
                answer = await http.request(method, path, headers=headers, json={})
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.json()["error"]["code"] in ("invalid_api_key", "missing_api_key")
        assert (await http.get("/responses", params={"api_key": shop.alice})).status_code in (400, 401)


async def test_deletion_leaves_nothing_in_the_file(start_server: Callable[..., Server]) -> None:
    """Breaks if a deleted conversation can still be read from the disk: its items, replies, journal and request."""
    server = start_server()
    canary = "Zanzibar-4711"
    async with loose_client(server) as client:
        kept = await client.conversations.create(items=[said("Stays here")])
        made = await client.conversations.create(items=[said(f"I am {canary}")], metadata={"who": canary})
        turn = await client.responses.create(conversation=made.id, input=f"Call me {canary}", **SHORT)
        alone = await client.responses.create(input=f"Only {canary}", **SHORT)
        await client.conversations.delete(made.id)
        await client.responses.delete(alone.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(turn.id)
        assert (await client.conversations.retrieve(kept.id)).id == kept.id
    server.stop()
    folder = Path(server.database).parent
    found = [file.name for file in folder.iterdir() if canary.encode() in file.read_bytes()]
    assert found == []
    assert any(b"Stays here" in file.read_bytes() for file in folder.iterdir())
