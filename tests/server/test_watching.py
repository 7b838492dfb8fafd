"""The operator's routes over a real socket: what they say of errors, keys and load, and whom they answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.acceptance.asking import create_key
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

if TYPE_CHECKING:
    from tests.conftest import Server

SHOP = "https://shop.example"
ROUTES = ("/v1/metrics/recent", "/v1/replies/live", "/v1/errors/recent", "/v1/keys", "/v1/feedback")


@pytest.fixture(scope="module")
def open_house(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """A server that asks nobody for a key, on the loopback address, and lists a page of somebody else's."""
    with launch(auth="off", origins=SHOP) as server:
        yield server


@dataclass
class Desk:
    """A closed server, the operator's client and a shop's; `shop_key` is the text of the latter's key."""

    server: Server
    operator: httpx2.Client
    shop: httpx2.Client
    shop_key: str

    def errors(self, limit: int = 200) -> list[dict[str, Any]]:
        return self.operator.get(f"/v1/errors/recent?limit={limit}").json()["data"]


@pytest.fixture(scope="module")
def desk(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Desk]:
    with launch(auth="on", max_body_bytes="100000") as server, ExitStack() as stack:

        def client(key: str) -> httpx2.Client:
            headers = {"authorization": f"Bearer {key}"}
            return stack.enter_context(httpx2.Client(base_url=server.url, headers=headers, timeout=30))

        operator = client(create_key(server, "operator", "--scope", "admin"))
        shop = create_key(server, "shop", "--tokens-per-day", "2000")
        yield Desk(server, operator, client(shop), shop)


CASES: list[tuple[str, str, dict[str, Any], int, str | None]] = [
    ("GET", "/nowhere?secret=Zanzibar", {}, 404, "not_found"),
    ("DELETE", "/v1/models", {}, 405, "method_not_allowed"),
    ("GET", "/v1/conversations/conv_x", {}, 404, "not_found"),
    ("POST", "/v1/responses", {"content": "no json"}, 400, "invalid_json"),
    ("POST", "/v1/responses", {"json": {"input": "Hi", "temperature": 9}}, 400, "invalid_value"),
    ("POST", "/v1/responses", {"json": {"input": "x" * 200_000}}, 413, "request_too_large"),
    ("POST", "/v1/responses", {"json": {"input": "Hi", "max_output_tokens": 3000}}, 429, "insufficient_quota"),
    ("POST", "/v1/responses", {"json": {"input": "Hi", "model": "my own Zanzibar"}}, 404, "model_not_found"),
    ("GET", "/v1/keys", {}, 403, "insufficient_scope"),
    ("GET", "/v1/models", {"headers": {"authorization": "Bearer fd_x"}}, 401, "invalid_api_key"),
    ("HEAD", "/v1/conversations/conv_x", {}, 404, "not_found"),
    ("POST", "/v1/responses", {"json": {}, "headers": {"origin": "https://evil.example"}}, 403, "origin_not_allowed"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[3]} {case[4]}")
def test_every_answer_with_an_error_is_listed(desk: Desk, case: tuple[str, str, dict[str, Any], int, str]) -> None:
    """A user says that it does not work, names the request, and the operator finds nothing."""
    method, path, more, status, code = case
    before = time.time()
    answer = desk.shop.request(method, path, **more)
    assert answer.status_code == status, answer.text
    (newest,) = desk.errors(limit=1)
    assert newest == {
        "object": "error",
        "at": newest["at"],
        "request_id": answer.headers["x-request-id"],
        "method": method,
        "path": path.partition("?")[0],
        "status": status,
        "code": code,
        "message": newest["message"],
        "response": None,
    }
    assert before - 0.01 <= newest["at"] <= time.time() + 0.01
    assert newest["message"]
    assert "Zanzibar" not in json.dumps(newest)


def test_what_is_right_or_is_a_probe_is_not_listed(desk: Desk) -> None:
    """What an operator looks for would drown among what is no problem."""
    before = desk.errors()
    assert desk.shop.get("/v1/models").status_code == 200
    assert desk.shop.post("/livez").status_code == 405
    assert desk.shop.post("/v1/conversations", json={}).status_code == 200
    assert desk.errors() == before


def test_a_refused_websocket_and_a_refused_turn_are_listed(desk: Desk) -> None:
    """Pages that talk over a WebSocket would fail unseen."""
    url = f"{desk.server.ws_url}/v1/responses"
    with pytest.raises(InvalidStatus) as caught:
        connect(url)
    (newest,) = desk.errors(limit=1)
    assert (newest["method"], newest["path"], newest["status"]) == ("WS", "/v1/responses", 401)
    assert newest["request_id"] == caught.value.response.headers["x-request-id"]
    with connect(url, additional_headers={"authorization": f"Bearer {desk.shop_key}"}) as socket:
        socket.send(json.dumps({"type": "response.create", "input": "Hi", "model": "none"}))
        assert json.loads(socket.recv(10))["error"]["code"] == "model_not_found"
        (newest,) = desk.errors(limit=1)
        assert (newest["method"], newest["status"], newest["code"]) == ("WS", 404, "model_not_found")
        assert socket.response is not None
        assert newest["request_id"] == socket.response.headers["x-request-id"]


def test_the_list_of_errors_is_short_and_begins_with_the_newest(desk: Desk) -> None:
    """A flood of errors would fill the memory, or push the newest off the page."""
    for number in range(230):
        desk.shop.get("/nowhere", headers={"x-request-id": f"mine_{number}"})
    ids = [error["request_id"] for error in desk.errors()]
    assert ids == [f"mine_{number}" for number in range(229, 29, -1)]
    assert len(desk.operator.get("/v1/errors/recent").json()["data"]) == 200
    assert [error["request_id"] for error in desk.errors(limit=3)] == ["mine_229", "mine_228", "mine_227"]


def test_keys_are_shown_with_what_they_may_and_did_use(desk: Desk) -> None:
    """The operator could not tell whose budget is used up, or the page would give away what opens the server."""
    server = desk.server
    used = desk.shop.post("/v1/responses", json={"input": "Hi", "max_output_tokens": 4}).json()["usage"]["total_tokens"]
    limits = ("--requests-per-minute", "3", "--tokens-total", "900", "--expires", "30d", "--scope", "chat")
    create_key(server, "limited", *limits)
    answer = desk.operator.get("/v1/keys")
    keys = {key["name"]: key for key in answer.json()["data"]}
    assert len(answer.json()["data"]) == len(keys) == 3
    operator, shop, limited = keys["operator"], keys["shop"], keys["limited"]
    assert (operator["scopes"], operator["state"]) == (["admin"], "active")
    assert operator["last_used_at"] >= operator["created_at"] > time.time() - 600
    none = dict.fromkeys(("tokens_per_minute", "tokens_per_day", "tokens_total", "requests_per_minute"))
    assert shop["limits"] == {**none, "tokens_per_day": 2000}
    assert shop["used"]["day"] == shop["used"]["total"] == used
    assert limited["limits"] == {**none, "tokens_total": 900, "requests_per_minute": 3}
    assert limited["used"] == {"minute": 0, "day": 0, "total": 0}
    assert limited["last_used_at"] is None
    assert limited["expires_at"] - limited["created_at"] == 30 * 86400
    assert set(shop) == {
        "id", "object", "name", "state", "scopes", "limits", "used", "created_at", "expires_at", "last_used_at"
    }  # fmt: skip
    assert desk.shop_key.rsplit("_", 1)[1] not in answer.text


def test_an_hour_has_360_slots(desk: Desk) -> None:
    """The page's charts would have holes, or wait for what they know already."""
    answer = desk.operator.get("/v1/metrics/recent").json()
    assert (answer["object"], answer["slot_seconds"], len(answer["data"])) == ("metrics", 10, 360)
    assert abs(answer["now"] - time.time()) < 5
    first, last = answer["data"][0], answer["data"][-1]
    assert [slot["at"] for slot in answer["data"]] == list(range(first["at"], last["at"] + 1, 10))
    nothing = {"count": 0, "p50": 0, "p95": 0}
    assert first == {
        "at": first["at"], "started": 0, "finished": 0, "cancelled": 0, "failed": 0, "refused": 0, "prompt_tokens": 0,
        "tokens": 0, "ttft": nothing, "itl": nothing, "running": 0, "waiting": 0, "kv_used": 0, "kv_cells": 0,
        "memory_bytes": 0,
    }  # fmt: skip
    assert last["at"] <= answer["now"] < last["at"] + 10
    busiest = max(answer["data"], key=lambda slot: slot["memory_bytes"])
    assert busiest["memory_bytes"] > 50_000_000, "a server and an engine with its model"
    assert busiest["kv_cells"] > 4000
    since = answer["data"][-3]["at"]
    newer = desk.operator.get(f"/v1/metrics/recent?since={since + 9.5}").json()["data"]
    assert newer[0]["at"] == since


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/metrics/recent?since=yesterday", "since"),
        ("/v1/metrics/recent?since=-1", "since"),
        ("/v1/metrics/recent?from=1", "from"),
        ("/v1/errors/recent?limit=0", "limit"),
        ("/v1/errors/recent?limit=201", "limit"),
        ("/v1/errors/recent?limit=1.5", "limit"),
        ("/v1/replies/live?limit=1", "limit"),
        ("/v1/keys?state=active", "state"),
    ],
)
def test_a_wrong_question_is_refused(desk: Desk, path: str, param: str) -> None:
    """A misspelt parameter would be ignored, and something else be shown than what was asked for."""
    refused = desk.operator.get(path)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_only_the_operator_is_answered(desk: Desk) -> None:
    """Every customer would see the load, the errors and the keys of all others."""
    visitor = desk.shop.post("/v1/visitors", json={}).json()["value"]
    for path in ROUTES:
        assert desk.operator.get(path).status_code == 200, path
        assert desk.shop.get(path).status_code == 403, path
        assert httpx2.get(desk.server.url + path, headers={"authorization": f"Bearer {visitor}"}).status_code == 403
        assert httpx2.get(desk.server.url + path).status_code == 401


def test_on_the_own_machine_everybody_is_the_operator(server: Server) -> None:
    """Whoever runs the server for themselves would need a key to look at it."""
    for path in ROUTES:
        assert httpx2.get(server.url + path).status_code == 200, path


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "shop.example"},
        {"host": "shop.example:8000"},
        {"x-forwarded-for": "203.0.113.9"},
        {"origin": SHOP},
    ],
    ids=str,
)
def test_under_another_name_nobody_is_the_operator(open_house: Server, headers: dict[str, str]) -> None:
    """Through a proxy that lets everybody in, or on a page that may use the server, all the world could read what
    customers wrote of answers."""
    assert httpx2.get(open_house.url + "/v1/models", headers=headers).status_code == 200
    for path in ROUTES:
        refused = httpx2.get(open_house.url + path, headers=headers)
        assert refused.status_code == 403, path
        assert "--scope admin" in refused.json()["error"]["message"]


def test_the_servers_own_page_is_the_operators(open_house: Server) -> None:
    """The operator's page could not mark a hand-off as done."""
    for path in ROUTES:
        assert httpx2.get(open_house.url + path, headers={"origin": open_house.url}).status_code == 200, path


def test_strangers_on_a_network_are_not_the_operator(start_server: Callable[..., Server]) -> None:
    """With --auth off everybody on the network could read what customers wrote of answers, and all errors."""
    server = start_server(host="0.0.0.0", auth="off")
    assert httpx2.get(server.url + "/v1/models").status_code == 200
    assert httpx2.get(server.url + "/v1/usage").status_code == 200
    for path in ROUTES:
        refused = httpx2.get(server.url + path)
        assert refused.status_code == 403, path
        assert "--scope admin" in refused.json()["error"]["message"]
    headers = {"authorization": f"Bearer {create_key(server, 'operator', '--scope', 'admin')}"}
    for path in ROUTES:
        assert httpx2.get(server.url + path, headers=headers).status_code == 200, path
