"""Visitors who want a person: what they may say, who sees it, and that it goes when they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest
from tests.server.widget_pages import Page, code_of, make_page

if TYPE_CHECKING:
    from tests.conftest import Server


@pytest.fixture(scope="module")
def page(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Page]:
    """A page with a widget of a server that asks for keys."""
    with launch(auth="on") as server:
        yield make_page(server)


def test_a_visitor_asks_for_a_person_and_the_operator_answers(page: Page) -> None:
    """Whom the model cannot help would be lost."""
    session = page.session()
    path = f"/v1/conversations/{session['conversation']}/handoff"
    assert page.call(session["token"], "GET", path).status_code == 404
    asked = page.call(session["token"], "POST", path, {"contact": "ann@example.com"})
    assert asked.status_code == 200
    first = asked.json()
    assert first | {"id": "", "created_at": 0} == {
        "object": "handoff", "id": "", "conversation": session["conversation"], "state": "open", "created_at": 0,
        "contact": "ann@example.com", "message": None,
    }  # fmt: skip
    again = page.call(session["token"], "POST", path, {"message": "It broke"}).json()
    assert again == first | {"message": "It broke"}
    assert page.call(session["token"], "GET", path).json() == again
    assert page.admin("GET", "/v1/handoffs?state=open&limit=1").json()["data"] == [again]
    done = page.admin("POST", f"/v1/handoffs/{first['id']}", {"state": "done"})
    assert done.json() == again | {"state": "done"}
    assert page.call(session["token"], "GET", path).json()["state"] == "done"
    assert page.admin("GET", "/v1/handoffs?state=done").json()["data"][0] == done.json()
    new = page.call(session["token"], "POST", path, {}).json()
    assert new["id"] != first["id"]
    assert code_of(page.admin("POST", f"/v1/handoffs/{first['id']}", {"state": "open"})) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "param"),
    [({"contact": "x" * 201}, "contact"), ({"message": "x" * 2001}, "message"), ({"phone": "1"}, "phone")],
)
def test_a_handoff_has_limits(page: Page, body: dict[str, Any], param: str) -> None:
    """One visitor would fill the operator's list with a book, or think that a field that nobody reads was sent."""
    session = page.session(identity=page.identity())
    answer = page.call(session["token"], "POST", f"/v1/conversations/{session['conversation']}/handoff", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_handoff_of_somebody_else_does_not_exist(page: Page) -> None:
    """A visitor would read another's address."""
    mine, other = page.session(), page.session()
    path = f"/v1/conversations/{other['conversation']}/handoff"
    assert page.call(other["token"], "POST", path, {"contact": "ann@example.com"}).status_code == 200
    for method, body in (("GET", None), ("POST", {})):
        assert code_of(page.call(mine["token"], method, path, body)) == (404, "not_found")
    assert code_of(page.admin("GET", "/v1/conversations/nonsense/handoff")) == (404, "not_found")
    assert code_of(page.admin("POST", "/v1/handoffs/nonsense", {"state": "done"})) == (404, "not_found")
    assert code_of(page.admin("POST", "/v1/handoffs/hnd_" + "0" * 32, {"state": "lost"})) == (400, "invalid_value")
    for query in ("state=lost", "limit=0", "limit=101", "after=nonsense", "order=asc"):
        assert page.admin("GET", f"/v1/handoffs?{query}").status_code == 400, query
    assert page.admin("GET", "/v1/handoffs?after=hnd_" + "0" * 32).status_code == 404


def test_a_token_for_one_conversation_asks_there_only(page: Page) -> None:
    """A token that a page was given for one conversation would reach what the same visitor said in another."""
    other = page.session()
    path = f"/v1/conversations/{other['conversation']}"
    said = {"input": "It broke", "conversation": other["conversation"], "max_output_tokens": 1}
    assert page.call(other["token"], "POST", "/v1/responses", said).status_code == 200
    assert page.call(other["token"], "POST", path + "/handoff", {"contact": "ann@example.com"}).status_code == 200
    bound = page.session(refresh=other["refresh"], new=True)
    assert bound["visitor"] == other["visitor"]
    own = f"/v1/conversations/{bound['conversation']}"
    assert own != path
    for method, body in (("GET", None), ("POST", {})):
        assert code_of(page.call(bound["token"], method, path + "/handoff", body)) == (404, "not_found")
    assert page.call(bound["token"], "POST", own + "/handoff", {}).status_code == 200


def test_a_visitor_takes_everything_along(page: Page) -> None:
    """Whoever deletes a conversation would leave their address with the operator."""
    session = page.session()
    path = f"/v1/conversations/{session['conversation']}"
    asked = page.call(session["token"], "POST", path + "/handoff", {"contact": "ann@example.com"}).json()
    assert page.call(session["token"], "DELETE", path).status_code == 200
    everybody = page.admin("GET", "/v1/handoffs?limit=100").json()["data"]
    assert asked["id"] not in [entry["id"] for entry in everybody]
    assert page.session(refresh=session["refresh"])["conversation"] != session["conversation"]
