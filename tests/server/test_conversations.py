"""The Conversations routes over a real store, driven by the `openai` client, and what they refuse."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from frontdesk.access import visitors
from frontdesk.access.gatekeeper import Gatekeeper
from frontdesk.access.keys import new_key
from frontdesk.errors import FrontdeskError
from frontdesk.messages import Item, Message, item_id
from frontdesk.principal import ALL_SCOPES, Limits, Principal
from frontdesk.server.access import Access
from frontdesk.server.conversations import Conversations
from frontdesk.server.errors import on_frontdesk_error, on_http_exception
from frontdesk.server.pacing import MOST_WRITES, Writes
from frontdesk.store.records import KeyRecord
from frontdesk.store.store import Store, open_store

if TYPE_CHECKING:
    from tests.conftest import Server

SECRET = b"s" * 32
NOBODY = f"conv_{'0' * 32}"
PATH = "/v1/conversations"


class House:
    """The routes with real keys in front of a real store. `stopped` notes whose replies had to stop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.stopped: list[tuple[str, str]] = []
        gatekeeper = Gatekeeper(store.keys, SECRET, required=False, visitor_limits=Limits())
        app = Starlette(
            routes=Conversations(store, self._stop, 100_000, Writes()).routes,
            middleware=[Middleware(Access, gatekeeper=lambda: gatekeeper)],
            exception_handlers={FrontdeskError: on_frontdesk_error, HTTPException: on_http_exception},
        )
        self.transport = httpx2.ASGITransport(app=app)  # pyright: ignore[reportArgumentType]

    async def _stop(self, principal: Principal, conversation: str) -> None:
        assert await self.store.conversations.get(principal.owner, conversation), "stopped after it was deleted"
        self.stopped.append((principal.owner, conversation))

    async def key(self) -> str:
        key = new_key()
        await self.store.keys.add(KeyRecord(key.id, "test", key.hash, ALL_SCOPES, Limits(), created=int(time.time())))
        return key.text

    @asynccontextmanager
    async def client(self, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
        http = httpx2.AsyncClient(transport=self.transport)
        async with openai.AsyncOpenAI(
            base_url="http://test/v1", api_key=key, http_client=http, max_retries=0, _strict_response_validation=True
        ) as client:
            yield client

    async def ask(self, method: str, path: str, body: object = None, key: str = "none") -> httpx2.Response:
        async with httpx2.AsyncClient(transport=self.transport, base_url="http://test") as http:
            return await http.request(
                method, path, json=body, headers={"authorization": f"Bearer {key}"} if key else None
            )

    async def error(self, method: str, path: str, body: object = None, key: str = "none") -> tuple[int, Any]:
        answer = await self.ask(method, path, body, key)
        return answer.status_code, answer.json()["error"]["param"]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await open_store("memory")
    yield House(store)
    await store.close()


def user(content: object) -> Any:
    return {"type": "message", "role": "user", "content": content}


async def test_life_of_a_conversation(house: House) -> None:
    """If this fails, the `openai` client cannot keep a conversation here."""
    async with house.client() as client:
        made = await client.conversations.create(metadata={"shop": "7"}, items=[user("Hi")])
        assert re.fullmatch("conv_[0-9a-f]{32}", made.id)
        assert abs(made.created_at - time.time()) < 60
        assert (await client.conversations.retrieve(made.id)) == made
        changed = await client.conversations.update(made.id, metadata={"shop": "8", "open": "yes"})
        assert changed.metadata == {"shop": "8", "open": "yes"}
        assert (await house.ask("POST", PATH)).json()["metadata"] == {}  # as `curl -X POST` sends it
        gone = await client.conversations.delete(made.id)
        assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
        assert house.stopped == [("", made.id)]
        for call in (client.conversations.retrieve, client.conversations.delete):
            with pytest.raises(openai.NotFoundError):
                await call(made.id)


async def test_every_kind_of_item_is_kept_exactly(house: House) -> None:
    """If this fails, the client cannot read what it added, or gets other words back."""
    text = " Grüße\r\n\u2028🙂 \t"
    given: list[Any] = [
        user([{"type": "input_text", "text": text}, {"type": "input_text", "text": "!"}]),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "", "annotations": []}],
         "status": "incomplete", "id": "msg_1"},
        {"type": "function_call", "call_id": "c1", "name": "track", "arguments": '{"id": 7}'},
        {"type": "function_call_output", "call_id": "c1", "output": "Bremen"},
        {"role": "developer", "content": "Be brief."},
        {"type": "compaction", "encrypted_content": "They said hello."},
    ]  # fmt: skip
    async with house.client() as client:
        made = await client.conversations.create()
        added: Any = await client.conversations.items.create(made.id, items=given)
        listed: Any = await client.conversations.items.list(made.id, order="asc", limit=100)
        assert len(added.data) == 6
        assert listed.data == [added.data[5], *added.data[:5]]  # a summary stands for what came before
        spoken, answer, call, result, developer, summary = added.data
        assert (spoken.role, [part.text for part in spoken.content]) == ("user", [text + "!"])
        assert (answer.status, answer.content[0].type, answer.content[0].text) == ("incomplete", "output_text", "")
        assert answer.id != "msg_1"
        assert (call.call_id, call.name, call.arguments) == ("c1", "track", '{"id": 7}')
        assert (result.call_id, result.output) == ("c1", "Bremen")
        assert (developer.role, developer.content[0].text) == ("developer", "Be brief.")
        assert (summary.type, summary.encrypted_content) == ("compaction", "They said hello.")
        for item in added.data:
            assert await client.conversations.items.retrieve(item.id, conversation_id=made.id) == item
        left = await client.conversations.items.delete(call.id, conversation_id=made.id)
        assert left.id == made.id
        for method in (client.conversations.items.retrieve, client.conversations.items.delete):
            with pytest.raises(openai.NotFoundError):
                await method(call.id, conversation_id=made.id)


async def test_pages(house: House) -> None:
    """If this fails, a long conversation is read with gaps, twice, or in another order than it was written."""
    async with house.client() as client:
        made = await client.conversations.create()
        added: list[str] = []
        for start in range(0, 45, 15):
            page = await client.conversations.items.create(
                made.id, items=[user(str(i)) for i in range(start, start + 15)]
            )
            added += [str(item.id) for item in page.data]
        for order, expected in (("asc", added), ("desc", added[::-1])):
            read = [item.id async for item in client.conversations.items.list(made.id, order=order, limit=7)]  # type: ignore[arg-type]
            assert read == expected
        default = await client.conversations.items.list(made.id)
        assert ([item.id for item in default.data], default.has_more) == (added[:-21:-1], True)
        assert default.last_id == added[-20]
        last = await client.conversations.items.list(made.id, order="asc", after=added[39])
        assert ([item.id for item in last.data], last.has_more) == (added[40:], False)
        empty = await client.conversations.items.list(made.id, order="asc", after=added[-1])
        assert (empty.data, empty.last_id) == ([], "")


async def test_list_of_one_s_own(house: House) -> None:
    """If this fails, one customer's list shows another's conversations, or not all of their own."""
    keys = [await house.key(), await house.key()]
    made: list[list[str]] = [[], []]
    for _ in range(3):
        for ids, key in zip(made, keys, strict=True):
            ids.append((await house.ask("POST", PATH, {}, key)).json()["id"])
    for ids, key in zip(made, keys, strict=True):
        page = (await house.ask("GET", f"{PATH}?limit=2", key=key)).json()
        assert [entry["id"] for entry in page["data"]] == ids[:0:-1]
        assert (page["has_more"], page["first_id"], page["last_id"]) == (True, ids[2], ids[1])
        rest = (await house.ask("GET", f"{PATH}?after={ids[1]}", key=key)).json()
        assert ([entry["id"] for entry in rest["data"]], rest["has_more"]) == (ids[:1], False)
        oldest = (await house.ask("GET", f"{PATH}?order=asc", key=key)).json()
        assert [entry["id"] for entry in oldest["data"]] == ids
    assert (await house.ask("GET", PATH)).json()["data"] == []


async def test_nobody_reaches_another_owner_s_conversation(house: House) -> None:
    """If this fails, whoever knows an id reads, changes or deletes what a customer said."""
    mine, other = await house.key(), await house.key()
    made = (await house.ask("POST", PATH, {"items": [user("secret")]}, mine)).json()["id"]
    item = (await house.ask("GET", f"{PATH}/{made}/items", key=mine)).json()["data"][0]["id"]
    for key in (other, "none"):
        for method, path, body in (
            ("GET", "", None), ("POST", "", {"metadata": {}}), ("DELETE", "", None), ("GET", "/items", None),
            ("POST", "/items", {"items": [user("x")]}), ("GET", f"/items/{item}", None),
            ("DELETE", f"/items/{item}", None), ("GET", "/export", None), ("GET", "/export?format=markdown", None),
        ):  # fmt: skip
            answer = await house.ask(method, f"{PATH}/{made}{path}", body, key)
            assert answer.status_code == 404, (method, path)
            assert "secret" not in answer.text
    assert (await house.ask("GET", f"{PATH}?after={made}", key=other)).status_code == 404
    assert house.stopped == []
    assert len((await house.ask("GET", f"{PATH}/{made}/items", key=mine)).json()["data"]) == 1


async def test_a_visitor_of_one_conversation(house: House) -> None:
    """If this fails, a page's visitor reads other conversations with the token of one, or raises their own budget."""
    visitor = visitors.visitor_id(SECRET, None, None)

    def token(conversation: str | None) -> str:
        return visitors.issue(SECRET, visitors.VisitorToken(visitor, None, conversation, Limits()), 60)[0]

    first, second = [(await house.ask("POST", PATH, {}, token(None))).json()["id"] for _ in range(2)]
    bound = token(first)
    assert (await house.ask("GET", f"{PATH}/{first}", key=bound)).status_code == 200
    for method, path in (("GET", f"/{second}"), ("GET", ""), ("POST", ""), ("DELETE", f"/{second}")):
        answer = await house.ask(method, PATH + path, {} if method == "POST" else None, bound)
        assert answer.status_code in (403, 404)
    for path in ("", f"/{first}"):
        assert await house.error("POST", PATH + path, {"budget": None}, token(None)) == (403, "budget")


async def test_options(house: House) -> None:
    """If this fails, pins, policy or budget of a conversation are lost or cannot be taken back."""
    body = {"context": {"policy": "summarise"}, "budget": {"tokens_total": 9}, "items": [user("Hi")]}
    made = (await house.ask("POST", PATH, body)).json()
    assert (made["context"], made["budget"], made["metadata"]) == ({"policy": "summarise"}, {"tokens_total": 9}, {})
    path = f"{PATH}/{made['id']}"
    (item,) = (await house.ask("GET", f"{path}/items")).json()["data"]
    pins = {"pinned": [item["id"]], "keep_last": 2, "reserve": 100, "truncation": "disabled",
            "long_message": "cut"}  # fmt: skip
    changed = (await house.ask("POST", path, {"context": pins, "metadata": {"a": "b"}})).json()
    assert (changed["context"], changed["budget"], changed["metadata"]) == (pins, {"tokens_total": 9}, {"a": "b"})
    record = await house.store.conversations.get("", made["id"])
    assert record is not None
    assert record.options == {"context": pins, "budget": {"tokens_total": 9}}
    changed = (await house.ask("POST", path, {"context": None, "metadata": None, "budget": {}})).json()
    assert (changed["context"], changed["budget"], changed["metadata"]) == (None, None, {})
    assert (await house.ask("GET", path)).json() == changed


async def test_only_what_is_there_is_pinned(house: House) -> None:
    """If this fails, a mistyped pin is taken without a word, and what should stay leaves; or a list of pins can not be
    sent again once one of its items was deleted."""
    made, other = [(await house.ask("POST", PATH, {"items": [user("Hi")]})).json()["id"] for _ in range(2)]
    ids = [(await house.ask("GET", f"{PATH}/{id}/items")).json()["data"][0]["id"] for id in (made, other)]
    for id in (ids[1], item_id("message")):
        assert await house.error("POST", f"{PATH}/{made}", {"context": {"pinned": [id]}}) == (400, "context.pinned")
    assert await house.error("POST", PATH, {"context": {"pinned": [ids[0]]}}) == (400, "context.pinned")
    pins = {"context": {"pinned": [ids[0]]}}
    assert (await house.ask("POST", f"{PATH}/{made}", pins)).status_code == 200
    await house.ask("DELETE", f"{PATH}/{made}/items/{ids[0]}")
    assert (await house.ask("POST", f"{PATH}/{made}", pins)).status_code == 200


async def test_options_set_at_the_same_time(house: House) -> None:
    """If this fails, a conversation's budget vanishes when somebody else sets its pins at that moment."""
    made = (await house.ask("POST", PATH, {})).json()
    path = f"{PATH}/{made['id']}"
    await asyncio.gather(
        house.ask("POST", path, {"context": {"keep_last": 2}}), house.ask("POST", path, {"budget": {"tokens_total": 9}})
    )
    changed = (await house.ask("GET", path)).json()
    assert (changed["context"], changed["budget"]) == ({"keep_last": 2}, {"tokens_total": 9})


async def test_export(house: House) -> None:
    """If this fails, a customer who asks for their data gets less of it, or a text that somebody could have forged."""
    items = [user("Hi\n## Assistant\nforged"), {"role": "assistant", "content": "Hello"},
             {"type": "function_call", "call_id": "c", "name": "f`\nx", "arguments": "{}"}]  # fmt: skip
    made = (await house.ask("POST", PATH, {"items": items, "metadata": {"shop": "7"}})).json()
    path = f"{PATH}/{made['id']}/export"
    answer = await house.ask("GET", path)
    assert answer.headers["content-disposition"] == f'attachment; filename="{made["id"]}.json"'
    exported = answer.json()
    assert exported["conversation"] == made
    listed = (await house.ask("GET", f"{PATH}/{made['id']}/items?order=asc")).json()["data"]
    assert [{**item, "created_at": made["created_at"]} for item in listed] == exported["items"]
    answer = await house.ask("GET", f"{path}?format=markdown")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    headings = [line for line in answer.text.split("\n") if line.startswith("#")]
    assert [re.sub(" · .* UTC$", "", line) for line in headings] == [
        f"# Conversation {made['id']}", "## User", "## Assistant", "## Tool call `f’ x`",
    ]  # fmt: skip
    assert "> Hi\n> ## Assistant\n> forged\n" in answer.text
    assert await house.error("GET", f"{path}?format=pdf") == (400, "format")


async def test_summary_of_a_conversation_is_shown(house: House) -> None:
    """If this fails, what the server made of old turns is hidden, or breaks the client's list."""
    async with house.client() as client:
        made = await client.conversations.create(items=[user("Hi")])
        (said,) = (await client.conversations.items.list(made.id)).data
        summary = Item(item_id("summary"), "summary", Message("system", "A greeting."), covers=(str(said.id),))
        await house.store.conversations.replace_summary("", made.id, None, summary)
        listed: list[Any] = (await client.conversations.items.list(made.id, order="asc")).data
        assert [item.type for item in listed] == ["compaction", "message"]
        assert listed[0].to_dict()["covers"] == [said.id]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [user("x")] * 21}, "items"),
        ({"items": [{"type": "item_reference", "id": f"msg_{'0' * 32}"}]}, "items.0"),
        ({"items": [{"role": "user"}]}, "items.0.content"),
        ({"items": [user([{"type": "input_image", "image_url": "x"}])]}, "items.0.content.0.type"),
        ({"items": "x"}, "items"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"context": {"policy": "forget"}}, "context.policy"),
        ({"context": {"pinned": ["x"]}}, "context.pinned.0"),
        ({"context": {"pinned": [f"msg_{'0' * 32}"] * 65}}, "context.pinned"),
        ({"context": {"keep_last": 0}}, "context.keep_last"),
        ({"context": {"keep_lsat": 2}}, "context.keep_lsat"),
        ({"budget": {"tokens": 2}}, "budget.tokens"),
        ({"context": {"reserve": 2**20 + 1}}, "context.reserve"),
        ({"context": "drop"}, "context"),
        ({"budget": {"tokens_total": 0}}, "budget.tokens_total"),
        ({"budget": {"tokens_total": True}}, "budget.tokens_total"),
    ],
)
async def test_bodies_that_are_refused(house: House, body: Any, param: str) -> None:
    """If this fails, something is kept that no later turn can use, or a typing error goes unnoticed."""
    assert await house.error("POST", PATH, body) == (400, param)
    assert (await house.ask("GET", PATH)).json()["data"] == []


async def test_items_that_are_refused(house: House) -> None:
    """If this fails, half of a list of items is kept."""
    made = (await house.ask("POST", PATH, {})).json()["id"]
    for body, param in (
        ({}, "items"), ({"items": []}, "items"), ({"items": [user("x")] * 21}, "items"),
        ({"items": [user("x"), {"role": "user"}]}, "items.1.content"),
    ):  # fmt: skip
        assert await house.error("POST", f"{PATH}/{made}/items", body) == (400, param)
    assert (await house.ask("GET", f"{PATH}/{made}/items")).json()["data"] == []
    assert (await house.error("POST", f"{PATH}/{NOBODY}/items", {"items": [user("x")]}))[0] == 404


async def test_queries_and_ids_that_are_refused(house: House) -> None:
    """If this fails, a client's typing error looks like an empty list, or reaches the database."""
    made = (await house.ask("POST", PATH, {})).json()["id"]
    for path in (PATH, f"{PATH}/{made}/items"):
        for query, param in (
            ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=-1", "limit"),
            ("limit=", "limit"), ("limit=٣", "limit"), ("order=up", "order"), ("after=x", "after"),
            ("after=%00", "after"), ("after=", "after"),
        ):  # fmt: skip
            assert await house.error("GET", f"{path}?{query}") == (400, param), query
        assert (await house.ask("GET", f"{path}?include=a&include[]=b&limit=100&foo=1")).status_code == 200
    assert await house.error("GET", f"{PATH}?after={NOBODY}") == (404, "after")
    assert await house.error("GET", f"{PATH}/{made}/items?after={item_id('message')}") == (404, "after")
    for id in ("x", "conv_", NOBODY, NOBODY.upper(), f"{NOBODY}%00", f"{NOBODY}%0A", "%F0%9F%99%82", "..%2f" * 50):
        for path in (f"/{id}", f"/{id}/items", f"/{id}/export"):
            assert (await house.ask("GET", PATH + path)).status_code == 404, id
    for id in ("x", "msg_", item_id("message"), "%00"):
        assert (await house.ask("GET", f"{PATH}/{made}/items/{id}")).status_code == 404
        assert (await house.ask("DELETE", f"{PATH}/{made}/items/{id}")).status_code == 404
    assert (await house.ask("PUT", f"{PATH}/{made}")).status_code == 405


# --- a whole server ---------------------------------------------------------------------------------------------------


def test_conversation_with_answers(server: Server) -> None:
    """If this fails, the blocking client cannot do what the asynchronous one can, or answers are not kept."""
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        made = client.conversations.create(items=[user("My name is Ann.")], metadata={"shop": "7"})
        for _ in range(2):
            client.responses.create(input="What is my name?", conversation=made.id, max_output_tokens=6)
        read: list[Any] = list(client.conversations.items.list(made.id, order="asc", limit=2))
        assert [item.role for item in read] == ["user", "user", "assistant", "user", "assistant"]
        assert client.conversations.items.retrieve(read[2].id, conversation_id=made.id) == read[2]
        client.conversations.items.delete(read[4].id, conversation_id=made.id)
        added = client.conversations.items.create(made.id, items=[{"role": "assistant", "content": "Ann."}])
        assert client.conversations.items.list(made.id).data[0].id == added.data[0].id
        assert client.conversations.update(made.id, metadata={}).metadata == {}
        assert client.conversations.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.responses.create(input="Hi", conversation=made.id)


def test_deleting_stops_what_is_being_said(server: Server) -> None:
    """If this fails, an answer goes on in a conversation that is gone, or can still be read afterwards."""
    server.wait_idle()
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client, server.held():
        made = client.conversations.create()
        running = client.responses.create(
            input="Talk.", conversation=made.id, background=True, extra_body={"ignore_eos": True}
        )
        assert running.status == "in_progress"
        client.conversations.delete(made.id)
        server.wait_idle()
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(running.id)


async def test_a_visitor_does_not_write_without_end(house: House) -> None:
    """If this fails, whoever takes the token out of a shop's page fills the server's disk."""
    visitor = visitors.VisitorToken(visitors.visitor_id(SECRET, None, None), None, None, Limits())
    token, _ = visitors.issue(SECRET, visitor, 60)
    made = (await house.ask("POST", PATH, key=token)).json()
    for _ in range(MOST_WRITES - 1):
        answer = await house.ask("POST", f"{PATH}/{made['id']}/items", {"items": [user("Hi")]}, token)
        assert answer.status_code == 200
    own = f"{PATH}/{made['id']}"
    item = (await house.ask("GET", f"{own}/items", key=token)).json()["data"][0]["id"]
    ways = [("POST", PATH), ("POST", f"{own}/items"), ("POST", own), ("DELETE", f"{own}/items/{item}"), ("DELETE", own)]
    for method, path in ways:
        refused = await house.ask(method, path, {"items": [user("Hi")]} if path != own else {"metadata": {}}, token)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await house.ask("GET", f"{PATH}/{made['id']}", key=token)).status_code == 200
    assert (await house.ask("POST", PATH)).status_code == 200
