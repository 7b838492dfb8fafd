"""Who may do what, over real sockets: every route of the application, every kind of credential and of carrying it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from frontdesk.access.keys import new_key
from frontdesk.access.visitors import VisitorToken, issue, visitor_id
from frontdesk.config import Settings
from frontdesk.principal import ALL_SCOPES, DEFAULT_SCOPES, Limits
from frontdesk.server.access import OPEN, scope_needed
from frontdesk.server.app import build_app
from frontdesk.store.records import KeyRecord
from frontdesk.store.store import Store, open_store

if TYPE_CHECKING:
    from tests.conftest import Server

BAD = {"nothing": "missing_api_key", "another text": "invalid_api_key", "unknown key": "invalid_api_key",
       "wrong secret": "invalid_api_key", "expired key": "expired_api_key", "revoked key": "revoked_api_key",
       "expired visitor": "expired_token", "forged visitor": "invalid_api_key",
       "visitor of a revoked key": "revoked_api_key"}  # fmt: skip
GOOD = {"all": ALL_SCOPES, "default": DEFAULT_SCOPES, "chat": {"chat"}, "visitors": {"visitors"}, "usage": {"usage"},
        "admin": {"admin"}, "visitor": {"chat"}}  # fmt: skip

OF_THE_OPERATOR = {"/v1/metrics/recent", "/v1/replies/live", "/v1/errors/recent", "/v1/keys", "/v1/feedback",
                   "/v1/widgets", "/v1/handoffs", "/v1/handoffs/{id}"}  # fmt: skip


@dataclass
class House:
    """A closed server, one credential of every kind, and the application's own list of routes."""

    server: Server
    credentials: dict[str, str | None]
    routes: list[tuple[str, str]]  # (method, path); "WS" for a WebSocket
    key_ids: dict[str, str]

    def get(self, path: str, who: str) -> httpx2.Response:
        return httpx2.get(self.server.url + path, headers=bearer(self.credentials[who]))

    def post(self, path: str, who: str, body: object) -> httpx2.Response:
        return httpx2.post(self.server.url + path, headers=bearer(self.credentials[who]), json=body, timeout=30)

    def written(self) -> None:
        """What ended before is in the ledger then: all writes stand in one line."""
        assert self.post("/v1/conversations", "all", {}).status_code == 200

    def visitor(self, **body: object) -> dict[str, Any]:
        answer = self.post("/v1/visitors", "visitors", body)
        assert answer.status_code == 200, answer.text
        return answer.json()


def bearer(credential: str | None) -> dict[str, str]:
    return {} if credential is None else {"authorization": f"Bearer {credential}"}


async def add_key(store: Store, **changes: Any) -> tuple[str, str]:
    """Text and id of a new key."""
    key = new_key()
    record = KeyRecord(key.id, "test", key.hash, ALL_SCOPES, Limits(), int(time.time()))
    await store.keys.add(replace(record, **changes))
    return key.text, key.id


async def make_credentials(store: Store) -> tuple[dict[str, str | None], dict[str, str]]:
    secret = await store.secrets.get_or_create("visitors", lambda: b"")
    assert len(secret) == 32, "the server has made its own"
    keys = {name: await add_key(store, scopes=frozenset(scopes)) for name, scopes in GOOD.items() if name != "visitor"}
    revoked, revoked_id = await add_key(store, revoked=1)
    visitor = VisitorToken(visitor_id(secret, keys["visitors"][1], None), keys["visitors"][1], None, Limits())
    of_revoked = VisitorToken(visitor_id(secret, revoked_id, None), revoked_id, None, Limits())
    found: dict[str, str | None] = {name: text for name, (text, _) in keys.items()}
    found |= {
        "nothing": None,
        "another text": "sk-proj-0123456789",
        "unknown key": new_key().text,
        "wrong secret": f"fd_{keys['all'][1]}_" + new_key().text.rsplit("_", 1)[1],
        "expired key": (await add_key(store, expires=1))[0],
        "revoked key": revoked,
        "visitor": issue(secret, visitor, 600)[0],
        "expired visitor": issue(secret, visitor, 60, now=time.time() - 600)[0],
        "forged visitor": issue(b"x" * 32, visitor, 600)[0],
        "visitor of a revoked key": issue(secret, of_revoked, 600)[0],
    }
    return found, {name: key_id for name, (_, key_id) in keys.items()}


async def routes_of_the_application() -> list[tuple[str, str]]:
    app = build_app(Settings(database="memory"))
    async with app.router.lifespan_context(app):
        routes = list(app.router.routes)
    found = [(method, route.path) for route in routes if isinstance(route, Route) for method in route.methods or ()]
    found += [("WS", route.path) for route in routes if isinstance(route, WebSocketRoute)]
    assert len({path for _, path in found}) == len({getattr(route, "path", None) for route in routes})
    return sorted(found)


@pytest.fixture(scope="module")
async def house(launch: Callable[..., AbstractContextManager[Server]]) -> AsyncIterator[House]:
    with launch(auth="on") as server:
        store = await open_store(server.database, exclusive=False)
        credentials, key_ids = await make_credentials(store)
        await store.close()
        yield House(server, credentials, await routes_of_the_application(), key_ids)


def carriers(credential: str | None) -> Iterator[dict[str, str]]:
    """Every header that may hold it."""
    yield bearer(credential)
    if credential is not None:
        yield {"authorization": f"bearer  {credential}"}
        yield {"x-api-key": credential}


def concrete(path: str) -> str:
    return path.replace("{model:path}", "none").replace("{id}", "conv_" + "0" * 32).replace("{item}", "msg_" + "0" * 32)


def expected(who: str, path: str) -> tuple[int, str] | None:
    """Status and code of the refusal; `None` where the door is open."""
    needed = scope_needed(path)
    if needed is None:
        return None
    if who in BAD:
        return 401, BAD[who]
    return None if needed in GOOD[who] else (403, "insufficient_scope")


def test_what_is_open_is_open_on_purpose(house: House) -> None:
    """A new route would be served to everybody because nobody thought of it."""
    paths = {path for _, path in house.routes}
    assert {path for path in paths if scope_needed(path) is None} == OPEN | {"/demo/{name}"}
    assert {path for path in paths if scope_needed(path) == "usage"} == {"/v1/usage"}
    assert {path for path in paths if scope_needed(path) == "visitors"} == {"/v1/visitors"}
    assert {path for path in paths if scope_needed(path) == "admin"} == OF_THE_OPERATOR
    assert len(paths) > 20
    for path in ("/new", "/v1/new", "/v1/usages", "/docs/x", "/metrics", "", "/V1/usage", "//v1/usage", "/v1/usage/"):
        assert scope_needed(path), path


@pytest.mark.parametrize("who", [*BAD, *GOOD])
def test_every_route_over_http(house: House, who: str) -> None:
    """One forgotten route, or one forgotten way to carry a key, would let the wrong people in or keep the right out."""
    with httpx2.Client(base_url=house.server.url, timeout=30) as client:
        for method, path in house.routes:
            if method == "WS":
                continue
            refusal = expected(who, path)
            for headers in carriers(house.credentials[who]):
                content = b"{}" if method == "POST" else None
                answer = client.request(method, concrete(path), headers=headers, content=content)
                case = f"{method} {path} {list(headers)}: {answer.status_code} {answer.text[:200]}"
                if refusal is None:
                    assert answer.status_code not in (401, 403), case
                    assert answer.status_code < 500, case
                else:
                    assert answer.status_code == refusal[0], case
                    assert ("www-authenticate" in answer.headers) == (refusal[0] == 401), case
                    if method != "HEAD":
                        assert answer.json()["error"]["code"] == refusal[1], case


@pytest.mark.parametrize("who", [*BAD, *GOOD])
def test_every_route_over_websockets(house: House, who: str) -> None:
    """A WebSocket would be a back door; or browsers, which can only send a subprotocol, would be locked out."""
    credential = house.credentials[who]
    ways: list[dict[str, Any]] = [{"additional_headers": headers} for headers in carriers(credential)]
    if credential is not None:
        ways.append({"subprotocols": ["realtime", "openai-insecure-api-key." + credential]})
    for path in [path for method, path in house.routes if method == "WS"]:
        refusal = expected(who, path)
        for way in ways:
            if refusal is None:
                with connect(house.server.ws_url + path, **way) as opened:
                    assert opened.subprotocol == ("realtime" if "subprotocols" in way else None)
                    opened.send('{"type": "response.create", "input": "x", "model": "none"}')
                    assert json.loads(opened.recv(10))["error"]["code"] == "model_not_found"
                continue
            with pytest.raises(InvalidStatus) as caught:
                connect(house.server.ws_url + path, **way)
            response = caught.value.response
            assert response.status_code == refusal[0]
            assert json.loads(response.body)["error"]["code"] == refusal[1]


@pytest.mark.parametrize("end", ["%0A", "%0D", "%00", "%7F"])
def test_no_route_is_reached_by_another_name(house: House, end: str) -> None:
    """If this fails, anybody's key reads the operator's lists, and makes tokens in the name of others."""
    for method, path in house.routes:
        if method == "WS" or path in OPEN:
            continue
        url = house.server.url + path.replace("{path:path}", "x") + end
        answer = httpx2.request(method, url, headers=bearer(house.credentials["visitor"]), json={})
        assert answer.status_code == 404, (method, path)
    for path in (path for method, path in house.routes if method == "WS"):
        with pytest.raises(InvalidStatus) as caught:
            connect(house.server.ws_url + path + end, additional_headers=bearer(house.credentials["all"]))
        assert caught.value.response.status_code == 404


def test_a_credential_in_the_address_is_refused_and_not_logged(house: House) -> None:
    """A key in a link would end up in histories, in logs of proxies, and in ours."""
    key = house.credentials["all"]
    assert key is not None
    for name, value in [("api_key", "x"), ("token", key), ("Authorization", "Bearer x"), ("q", key)]:
        answer = httpx2.get(house.server.url + "/v1/models", params={name: value}, headers=bearer(key))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "credential_in_address"), name
        with pytest.raises(InvalidStatus) as caught:
            connect(f"{house.server.ws_url}/v1/responses?{name}={value.replace(' ', '+')}")
        assert caught.value.response.status_code == 400
    log = house.server.log.read_text()
    assert not [text for text in house.credentials.values() if text and text in log]


def test_two_different_credentials_are_refused(house: House) -> None:
    """Proxies and we would disagree on whose request it is."""
    headers = {**bearer(house.credentials["all"]), "x-api-key": house.credentials["chat"] or ""}
    assert httpx2.get(house.server.url + "/v1/models", headers=headers).status_code == 401
    headers["x-api-key"] = house.credentials["all"] or ""
    assert httpx2.get(house.server.url + "/v1/models", headers=headers).status_code == 200


def test_strangers_are_turned_away_before_their_body_is_read(house: House) -> None:
    """Anybody could make the server take in megabytes."""
    head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.server.port), timeout=5) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_a_visitor_chats_at_its_own_and_its_keys_cost(house: House) -> None:
    """A shop's page could not chat without the shop's key, or could read what others wrote, or would chat unpaid."""
    issued = house.visitor(minutes=5)
    assert issued["object"] == "visitor.token"
    assert 295 <= issued["expires_at"] - time.time() <= 300
    visitor = issued["visitor"]["id"]
    before = usage_by(house, "visitor")
    assert visitor not in before
    with openai.OpenAI(base_url=house.server.url + "/v1", api_key=issued["value"]) as client:
        conversation = client.conversations.create()
        answer = client.responses.create(
            model="frontdesk-small", input="Hi", max_output_tokens=4, conversation=conversation.id
        )
        assert client.responses.retrieve(answer.id).output_text == answer.output_text
    assert answer.usage
    assert usage_by(house, "visitor")[visitor] == answer.usage.total_tokens
    path = f"/v1/conversations/{conversation.id}"
    for other in ("all", "chat", "visitor"):
        assert house.get(path, other).status_code == 404
        assert house.get(f"/v1/responses/{answer.id}", other).status_code == 404

    again = house.visitor(visitor=visitor, conversation=conversation.id)
    assert again["visitor"]["id"] == visitor
    bound = bearer(again["value"])
    assert httpx2.get(house.server.url + path, headers=bound).status_code == 200
    assert httpx2.get(house.server.url + "/v1/conversations", headers=bound).status_code == 403
    assert house.post("/v1/visitors", "visitors", {"conversation": conversation.id}).status_code == 404
    assert house.post("/v1/visitors", "all", {"visitor": visitor}).status_code == 404


def usage_by(house: House, *names: str) -> dict[Any, int]:
    """Total tokens of the key with the scope `visitors`, as the operator's ledger has them."""

    async def read() -> list[dict[str, Any]]:
        store = await open_store(house.server.database, exclusive=False)
        try:
            return await store.ledger.sums(key=house.key_ids["visitors"], by=names)  # pyright: ignore[reportArgumentType]
        finally:
            await store.close()

    with asyncio.Runner() as runner:
        rows = runner.run(read())
    return {row[names[0]]: row["prompt"] + row["completion"] for row in rows}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"minutes": 0}, "minutes"),
        ({"minutes": 1441}, "minutes"),
        ({"tokens_per_day": 0}, "tokens_per_day"),
        ({"token_per_day": 5}, "token_per_day"),
        ({"visitor": ""}, "visitor"),
        ({"conversation": 5}, "conversation"),
    ],
)
def test_wrong_wishes_for_a_token_are_refused(house: House, body: dict[str, Any], param: str) -> None:
    """A misspelt budget would be no budget."""
    answer = house.post("/v1/visitors", "visitors", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_visitors_budget_is_told_kept_and_refused(house: House) -> None:
    """One visitor could use up the shop's whole budget, and clients could neither slow down nor know when to return."""
    token = house.visitor(tokens_per_day=2000, requests_per_minute=2)["value"]
    messages = [{"role": "user", "content": "Hello"}]
    request = {"model": "frontdesk-small", "messages": messages, "max_tokens": 5, "ignore_eos": True}

    def ask(**changes: object) -> httpx2.Response:
        return httpx2.post(
            house.server.url + "/v1/chat/completions", json=request | changes, headers=bearer(token), timeout=30
        )

    much = ask(max_tokens=3000)
    assert much.status_code == 429
    error = much.json()["error"]
    assert error["budget"] == "visitor.tokens_per_day"
    assert (error["limit"], error["remaining"]) == (2000, 2000)
    assert "2,000 tokens a day has 2,000 left" in error["message"]
    assert much.headers["x-should-retry"] == "false"

    first = ask()
    assert first.status_code == 200, first.text
    took = first.json()["usage"]["total_tokens"]
    assert first.headers["x-ratelimit-limit-tokens"] == "2000"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    second = ask()
    assert int(second.headers["x-ratelimit-remaining-tokens"]) == 2000 - 2 * took
    third = ask()
    if third.status_code == 200:  # the minute turned over between two requests
        third = [ask(), ask()][-1]
    assert third.status_code == 429
    assert third.json()["error"]["budget"] == "visitor.requests_per_minute"
    assert 1 <= int(third.headers["retry-after"]) <= 60


def test_what_is_left_is_told_with_the_context(house: House) -> None:
    """Who talks over a WebSocket, which has no headers for each turn, would never learn what its budget has left."""
    headers = bearer(house.visitor(tokens_per_day=2000)["value"])
    with httpx2.Client(base_url=house.server.url + "/v1", headers=headers, timeout=30) as http:
        id = http.post("/conversations", json={}).json()["id"]
        asked = {"type": "response.create", "conversation": id, "input": "Hello", "max_output_tokens": 300}
        with connect(house.server.ws_url + "/v1/responses", additional_headers=headers, proxy=None) as socket:
            socket.send(json.dumps(asked))
            while not (last := json.loads(socket.recv(30)))["type"].startswith(("response.completed", "response.inc")):
                pass
        context = http.get(f"/conversations/{id}/context")
    took = last["response"]["usage"]["total_tokens"]
    assert last["response"]["usage"]["output_tokens"] < 300, "the rest of the hold goes back"
    assert context.json()["dropped_tokens"] == context.json()["summarised_tokens"] == 0
    assert context.headers["x-ratelimit-limit-tokens"] == "2000"
    assert context.headers["x-ratelimit-remaining-tokens"] == str(2000 - took)


async def test_a_crowd_spends_exactly_the_budget(house: House) -> None:
    """Requests that come together would together get more than one of them alone: 100 at once, a budget for 10."""
    probe = house.visitor()["value"]
    messages = [{"role": "user", "content": "Hello there"}]
    body = {"model": "frontdesk-small", "messages": messages, "max_tokens": 6, "ignore_eos": True}
    async with httpx2.AsyncClient(base_url=house.server.url, timeout=120) as client:
        one = await client.post("/v1/chat/completions", json=body, headers=bearer(probe))
        cost = one.json()["usage"]["total_tokens"]
        issued = house.visitor(tokens_total=10 * cost)
        headers = bearer(issued["value"])
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=body, headers=headers) for _ in range(100))
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 90
    house.written()
    store = await open_store(house.server.database, exclusive=False)
    assert await store.ledger.used("visitor", issued["visitor"]["id"], 0) == (10 * cost, 10)
    await store.close()


def test_usage_is_the_callers_own(house: House) -> None:
    """A customer would see what other customers use."""
    with openai.OpenAI(base_url=house.server.url + "/v1", api_key=house.credentials["default"] or "") as client:
        answer = client.chat.completions.create(
            model="frontdesk-small", messages=[{"role": "user", "content": "Hi"}], max_tokens=3
        )
    assert answer.usage
    house.written()
    own = house.get("/v1/usage?by=key,model&since=1h", "default").json()
    assert own["object"] == "list"
    assert own["data"] == [
        {
            "id": own["last_id"],
            "key": house.key_ids["default"],
            "model": "frontdesk-small",
            "requests": 1,
            "prompt_tokens": answer.usage.prompt_tokens,
            "cached_tokens": own["data"][0]["cached_tokens"],
            "completion_tokens": answer.usage.completion_tokens,
            "total_tokens": answer.usage.total_tokens,
        }
    ]
    assert house.get("/v1/usage", "usage").json()["data"] == []
    assert house.get("/v1/usage?until=1h", "default").json()["data"] == []
    everybody = {row["key"]: row["total_tokens"] for row in house.get("/v1/usage?by=key", "all").json()["data"]}
    assert everybody[house.key_ids["default"]] == answer.usage.total_tokens, "the operator sees everybody's"
    for query in ("by=owner", "since=soon", "until=-1", "from=1d"):
        assert house.get(f"/v1/usage?{query}", "all").status_code == 400, query
