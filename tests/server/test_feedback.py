"""Thumbs and comments over a real socket: who may put them where, and who reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.acceptance.asking import create_key

from frontdesk.server.pacing import MOST_WRITES

if TYPE_CHECKING:
    from tests.conftest import Server

NOBODY = "msg_" + "0" * 32


@dataclass
class Desk:
    """A closed server and clients of it: the operator's, a shop's and visitors'."""

    server: Server
    clients: ExitStack

    def client(self, key: str) -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"}
        return self.clients.enter_context(httpx2.Client(base_url=self.server.url, headers=headers, timeout=30))

    @cached_property
    def operator(self) -> httpx2.Client:
        return self.client(create_key(self.server, "operator", "--scope", "admin"))

    @cached_property
    def shop(self) -> httpx2.Client:
        return self.client(create_key(self.server, "shop"))

    def visitor(self, **wanted: object) -> httpx2.Client:
        return self.client(self.shop.post("/v1/visitors", json=wanted).json()["value"])


@pytest.fixture(scope="module")
def desk(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Desk]:
    with launch(auth="on") as server, ExitStack() as clients:
        yield Desk(server, clients)


def talk(client: httpx2.Client, question: str = "When are you open?") -> tuple[str, str, str]:
    """Ids of a conversation, of what was asked and of what the model answered."""
    conversation = client.post("/v1/conversations", json={}).json()["id"]
    body = {"input": question, "conversation": conversation, "max_output_tokens": 12}
    answer = client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    items = client.get(f"/v1/conversations/{conversation}/items?order=asc").json()["data"]
    assert [item["role"] for item in items] == ["user", "assistant"]
    return conversation, items[0]["id"], items[1]["id"]


def path(conversation: str, item: str) -> str:
    return f"/v1/conversations/{conversation}/items/{item}/feedback"


def test_a_visitor_rates_an_answer_and_the_operator_reads_it(desk: Desk) -> None:
    """A visitor could not say that an answer is wrong, or nobody would ever learn of it."""
    visitor = desk.visitor()
    conversation, _, answer = talk(visitor, "What is your phone number?")
    made = visitor.post(path(conversation, answer), json={"rating": "down", "comment": "not our number ☎"}).json()
    about = {"object": "feedback", "conversation": conversation, "item": answer}
    assert made == {
        **about, "id": made["id"], "rating": "down", "comment": "not our number ☎", "created_at": made["created_at"]
    }  # fmt: skip
    again = visitor.post(path(conversation, answer), json={"rating": "up", "comment": None}).json()
    assert again == {**made, "rating": "up", "comment": None, "created_at": again["created_at"]}
    listed = visitor.get(f"/v1/conversations/{conversation}/feedback").json()
    assert (listed["object"], listed["data"], listed["has_more"]) == ("list", [again], False)
    seen = desk.operator.get("/v1/feedback?rating=up&limit=1").json()
    text = visitor.get(f"/v1/conversations/{conversation}/items/{answer}").json()["content"][0]["text"]
    assert seen["data"] == [
        {**again, "question": "What is your phone number?", "answer": text[:2000], "model": "frontdesk-small"}
    ]
    assert made["id"] not in [entry["id"] for entry in desk.operator.get("/v1/feedback?rating=down").json()["data"]]
    gone = visitor.delete(path(conversation, answer)).json()
    assert gone == {**about, "id": made["id"], "object": "feedback.deleted", "deleted": True}
    missing = visitor.delete(path(conversation, answer))
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "item_id")
    assert visitor.get(f"/v1/conversations/{conversation}/feedback").json()["data"] == []


def test_nobody_elses_answer_can_be_rated_or_read(desk: Desk) -> None:
    """A stranger could rate for others, or find out what they thought; or a customer would read everybody's."""
    owner = desk.visitor()
    conversation, _, answer = talk(owner)
    owner.post(path(conversation, answer), json={"rating": "down", "comment": "between us"})
    other_talk, _, _ = talk(other := desk.visitor())
    for stranger in (desk.shop, desk.visitor(), other):
        assert stranger.post(path(conversation, answer), json={"rating": "up"}).status_code == 404
        assert stranger.delete(path(conversation, answer)).status_code == 404
        assert stranger.get(f"/v1/conversations/{conversation}/feedback").status_code == 404
        assert stranger.get("/v1/feedback").status_code == 403
    assert other.post(path(other_talk, answer), json={"rating": "up"}).status_code == 404
    assert owner.get("/v1/feedback").status_code == 403
    assert owner.get(f"/v1/conversations/{conversation}/feedback").json()["data"][0]["rating"] == "down"
    assert desk.operator.post(path(conversation, answer), json={"rating": "up"}).status_code == 403


def test_a_token_for_one_conversation_rates_there_only(desk: Desk) -> None:
    """A token that a page was given for one conversation would reach the visitor's others."""
    visitor = desk.visitor(visitor="dana")
    one, _, answer = talk(visitor)
    other, _, elsewhere = talk(visitor)
    bound = desk.visitor(visitor="dana", conversation=one)
    assert bound.post(path(one, answer), json={"rating": "up"}).status_code == 200
    assert bound.post(path(other, elsewhere), json={"rating": "up"}).status_code == 404
    assert bound.get(f"/v1/conversations/{other}/feedback").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "rating"),
        ({"rating": "sideways"}, "rating"),
        ({"rating": 1}, "rating"),
        ({"rating": "up", "comment": "x" * 2001}, "comment"),
        ({"rating": "up", "comment": ["x"]}, "comment"),
        ({"rating": "up", "stars": 5}, "stars"),
        ([], None),
        ("no json", None),
    ],
)
def test_a_wrong_rating_is_refused(desk: Desk, body: Any, param: str | None) -> None:
    """Something else than what was meant would be kept, or a novel."""
    conversation, _, answer = talk(desk.shop)
    content = body if isinstance(body, str) else json.dumps(body)
    refused = desk.shop.post(path(conversation, answer), content=content)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param


def test_only_answers_are_rated(desk: Desk) -> None:
    """A customer's own words would be rated, or what is not there."""
    conversation, question, _ = talk(desk.shop)
    refused = desk.shop.post(path(conversation, question), json={"rating": "up"})
    assert refused.status_code == 400
    assert "assistant" in refused.json()["error"]["message"]
    for item in (NOBODY, "msg_x", "fc_" + "0" * 32):
        missing = desk.shop.post(path(conversation, item), json={"rating": "up"})
        assert (missing.status_code, missing.json()["error"]["param"]) == (404, "item_id")
    for missing in ("conv_" + "0" * 32, "conv_x"):
        assert desk.shop.get(f"/v1/conversations/{missing}/feedback").status_code == 404
        assert desk.shop.post(path(missing, NOBODY), json={"rating": "up"}).status_code == 404


def test_the_operator_goes_through_pages(desk: Desk) -> None:
    """More than a page of feedback could not be read; or a wrong query would silently show everything."""
    ratings = [(*talk(desk.shop)[::2], rating) for rating in ("up", "down", "up")]
    made = [desk.shop.post(path(*where), json={"rating": rating}).json()["id"] for *where, rating in ratings]
    first = desk.operator.get("/v1/feedback?limit=2").json()
    assert [entry["id"] for entry in first["data"]] == [made[2], made[1]]
    assert first["has_more"]
    after = desk.operator.get(f"/v1/feedback?limit=2&after={first['last_id']}").json()
    assert after["first_id"] == made[0]
    for query, param in {
        "rating=sideways": "rating",
        "limit=0": "limit",
        "limit=101": "limit",
        "limit=two": "limit",
        "after=x": "after",
        "order=asc": "order",
    }.items():
        refused = desk.operator.get(f"/v1/feedback?{query}")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert desk.operator.get("/v1/feedback?after=fb_" + "0" * 32).status_code == 404


def test_a_visitor_does_not_write_without_end(desk: Desk) -> None:
    """Whoever takes the token out of a shop's page would fill the server's disk, or the operator's lists."""
    visitor = desk.visitor()
    conversation, _, answer = talk(visitor)
    handoff = f"/v1/conversations/{conversation}/handoff"
    writes: list[tuple[str, str, Any]] = [
        ("POST", path(conversation, answer), {"rating": "up"}),
        ("DELETE", path(conversation, answer), None),
        ("POST", handoff, {}),
    ]
    assert [visitor.request(method, where, json=body).status_code for method, where, body in writes] == [200] * 3
    said = {"items": [{"type": "message", "role": "user", "content": "Hi"}]}
    items = f"/v1/conversations/{conversation}/items"
    assert [visitor.post(items, json=said).status_code for _ in range(MOST_WRITES)][-1] == 429
    for method, where, body in writes:
        refused = visitor.request(method, where, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded"), (method, where)
    assert visitor.get(handoff).status_code == 200


def test_it_goes_with_the_conversation(desk: Desk) -> None:
    """What a customer wrote about a conversation that they deleted would stay on the operator's page."""
    conversation, _, answer = talk(desk.shop)
    made = desk.shop.post(path(conversation, answer), json={"rating": "down", "comment": "forget me"}).json()
    assert desk.operator.get("/v1/feedback").json()["first_id"] == made["id"]
    assert desk.shop.delete(f"/v1/conversations/{conversation}").status_code == 200
    assert made["id"] not in [entry["id"] for entry in desk.operator.get("/v1/feedback").json()["data"]]
