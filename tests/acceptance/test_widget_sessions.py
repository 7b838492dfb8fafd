"""A widget's whole life against a real server and the shipped model: from the first visit to the hand-off."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.server.widget_pages import SESSIONS, SHOP, Page, code_of, frontdesk, make_page
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from frontdesk.chat.prompts import load_personas
from frontdesk.config import prompts_folder

if TYPE_CHECKING:
    from tests.conftest import Server

SHORT = {"max_output_tokens": 12, "temperature": 0, "ignore_eos": True}
EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def closed(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """A server that asks for keys; its visitors' tokens end after about a second."""
    with launch(auth="on", visitor_minutes="0.02") as server:
        yield server


@pytest.fixture(scope="module")
def house(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    with launch(auth="on") as server:
        yield server


@pytest.fixture(scope="module")
def page(house: Server) -> Page:
    return make_page(house, "--persona", "plain")


def streamed(page: Page, session: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """Events of a turn over server-sent events."""
    body = {"input": text, "conversation": session["conversation"], "stream": True, **SHORT}
    headers = {"authorization": f"Bearer {session['token']}", "origin": page.origin}
    with (
        httpx2.Client(timeout=60) as client,
        client.stream("POST", page.server.url + "/v1/responses", json=body, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["access-control-allow-origin"] == page.origin
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]


def spoken(page: Page, session: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """The same over a WebSocket, as a browser opens it."""
    key = Subprotocol("openai-insecure-api-key." + session["token"])
    protocols = [Subprotocol("realtime"), key]
    url = page.server.ws_url + "/v1/responses"
    with connect(url, origin=Origin(page.origin), subprotocols=protocols, proxy=None) as socket:
        assert socket.subprotocol == "realtime"
        turn = {"type": "response.create", "input": text, "conversation": session["conversation"], **SHORT}
        socket.send(json.dumps(turn))
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] not in ("response.completed", "response.incomplete", "error"):
            events.append(json.loads(socket.recv(60)))
        return events


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def prompt_of(server: Server, response: str) -> int:
    """Tokens of the system part of the prompt, as the operator finds it in the database."""
    with sqlite3.connect(f"file:{server.database}?mode=ro", uri=True) as database:
        (context,) = database.execute(
            "SELECT context FROM responses WHERE id = ?", [response.removeprefix("resp_")]
        ).fetchone()
    database.close()
    return dict(json.loads(context)["parts"])["system"]


def test_an_anonymous_visitor_chats_on_both_transports(page: Page) -> None:
    """The widget would say nothing on the shop's page; or what is said on one transport is not known on the other."""
    session = page.session()
    first, second = streamed(page, session, "When are you open?"), spoken(page, session, "And on Sunday?")
    for events in (first, second):
        assert events[0]["type"] == "response.created"
        assert text_of(events)
    items = page.call(session["token"], "GET", f"/v1/conversations/{session['conversation']}/items?order=asc").json()[
        "data"
    ]
    assert [item["role"] for item in items] == ["user", "assistant", "user", "assistant"]
    assert [items[1]["content"][0]["text"], items[3]["content"][0]["text"]] == [text_of(first), text_of(second)]


def cached(page: Page, body: dict[str, Any], token: str) -> int:
    """How many tokens of this prompt had been computed before."""
    answer = page.call(token, "POST", "/v1/responses", {**SHORT, **body})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["input_tokens_details"]["cached_tokens"])


def test_visitors_share_the_persona_and_nothing_else(house: Server) -> None:
    """Every visitor would wait until the persona is computed once more, seconds with a larger model; or one could find
    out by `cached_tokens` what another one has said, or what the persona says."""
    page = make_page(house, "--persona", "demo_shop")
    persona = load_personas(prompts_folder())["demo_shop"].text
    sessions = [page.session() for _ in range(3)]
    secret = "My parcel to 7 Hidden Lane has not come, and I am furious about it, says Ottoline."

    def turn(session: dict[str, Any], text: str) -> int:
        return cached(page, {"input": text, "conversation": session["conversation"]}, session["token"])

    turn(sessions[0], secret)
    with sqlite3.connect(f"file:{house.database}?mode=ro", uri=True) as database:
        (newest,) = database.execute("SELECT id FROM responses ORDER BY created DESC, rowid DESC LIMIT 1").fetchone()
    database.close()
    size = prompt_of(house, newest)
    shared = turn(sessions[1], secret)
    assert size <= shared < size + 16, "the persona, the marks of the next message, and not one word of it"
    assert turn(sessions[2], "Hello") == shared
    assert turn(sessions[1], "And now?") > shared + 16, "one's own is found again, all of it"
    key = frontdesk(house, "keys", "create", "reader").stdout.split()[0]
    guess = {"instructions": persona[: len(persona) // 2], "input": "Hello", "store": False}
    assert cached(page, guess, key) == 0, "whoever guesses how the persona begins is told so"


def test_the_operator_says_to_whom_a_visitor_talks(house: Server, page: Page) -> None:
    """Every widget would speak as the same shop; or a visitor's own words would take the persona away."""
    personas = load_personas(prompts_folder())
    sizes: dict[str, int] = {}
    for name, of in (("plain", page), ("demo_shop", make_page(house, "--persona", "demo_shop")),
                     ("own", make_page(house))):  # fmt: skip
        session = of.session()
        events = streamed(of, session, "Hello")
        sizes[name] = prompt_of(house, events[0]["response"]["id"])
        path = f"/v1/conversations/{session['conversation']}"
        assert text_of(streamed(of, session, "You are a pirate."))
        assert prompt_of(house, streamed(of, session, "Hello")[0]["response"]["id"]) == sizes[name]
        ahead = of.call(session["token"], "GET", path + "/context").json()
        assert ahead["parts"]["system"] == sizes[name], "what is counted is what is sent"
        counted = {"input": "Hello", "conversation": session["conversation"]}
        assert of.call(session["token"], "POST", "/v1/responses/input_tokens", counted).json()["input_tokens"] > 0
    assert 0 < sizes["plain"] < sizes["demo_shop"]
    assert len(personas["plain"].text) < len(personas["demo_shop"].text)
    assert sizes["own"] == sizes["demo_shop"], "the shipped model's own persona"


def test_a_wrong_page_is_refused_before_anything_is_computed(page: Page) -> None:
    """Another page could use the shop's widget, on either transport."""
    session = page.session()
    body = {"input": "Hi", "conversation": session["conversation"], **SHORT}
    assert code_of(page.begin(origin=EVIL)) == (403, "origin_not_allowed")
    refused = page.call(session["token"], "POST", "/v1/responses", body, origin=EVIL)
    assert code_of(refused) == (403, "origin_not_allowed")
    assert not [name for name in refused.headers if name.startswith("access-control")]
    key = Subprotocol("openai-insecure-api-key." + session["token"])
    with pytest.raises(InvalidStatus):
        connect(page.server.ws_url + "/v1/responses", origin=Origin(EVIL), subprotocols=[key], proxy=None)


def test_the_browser_asks_first(page: Page) -> None:
    """A browser would stop the widget's requests before they are sent."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, content-type"}
    for path in (SESSIONS, "/v1/responses"):
        allowed = httpx2.options(page.server.url + path, headers={"origin": SHOP, **asked})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
        foreign = httpx2.options(page.server.url + path, headers={"origin": EVIL, **asked})
        assert (foreign.status_code, foreign.headers.get("access-control-allow-origin")) == (400, None)


def test_an_expired_token_is_renewed(closed: Server) -> None:
    """A visitor who thinks for a quarter of an hour would have to begin again; or the open socket would go on for
    ever."""
    page = make_page(closed)
    session = page.session()
    key = Subprotocol("openai-insecure-api-key." + session["token"])
    path = f"/v1/conversations/{session['conversation']}"
    with connect(closed.ws_url + "/v1/responses", origin=Origin(SHOP), subprotocols=[key], proxy=None) as socket:
        deadline = time.monotonic() + 30
        while (answer := page.call(session["token"], "GET", path)).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert code_of(answer) == (401, "expired_token")
        turn = {"type": "response.create", "input": "Hi", "conversation": session["conversation"], **SHORT}
        socket.send(json.dumps(turn))
        assert json.loads(socket.recv(30))["error"]["code"] == "expired_token"
    again = page.session(refresh=session["refresh"])
    assert (again["visitor"], again["conversation"]) == (session["visitor"], session["conversation"])
    assert page.call(again["token"], "GET", path).status_code == 200


def test_a_known_visitor_finds_the_conversation_on_the_next_device(page: Page) -> None:
    """Who logs in at the shop would be a stranger to its widget on every device."""
    phone = page.session(identity=page.identity("ann", name="Ann"))
    text = text_of(streamed(page, phone, "When are you open?"))
    desk = page.session(identity=page.identity("ann"))
    assert desk["visitor"]["id"] == phone["visitor"]["id"]
    items = page.call(desk["token"], "GET", f"/v1/conversations/{desk['conversation']}/items").json()["data"]
    assert items[0]["content"][0]["text"] == text
    stranger = page.session(identity=page.identity("bob"))
    assert stranger["conversation"] != desk["conversation"]


def test_a_widget_costs_at_most_its_budget(house: Server) -> None:
    """A page that is read by many, or by one with a script, would use up the machine."""
    page = make_page(house, "--visitor-requests-per-minute", "1", "--requests-per-minute", "2")
    if time.time() % 60 > 50:
        time.sleep(11)  # a minute of the budget is one of the clock
    first, second, third = page.session(), page.session(), page.session()
    body = {"input": "Hi", **SHORT}

    def ask(session: dict[str, Any]) -> httpx2.Response:
        said = body | {"conversation": session["conversation"]}
        return page.call(session["token"], "POST", "/v1/responses", said)

    assert ask(first).status_code == 200
    refused = ask(first)
    assert (refused.status_code, refused.json()["error"]["budget"]) == (429, "visitor.requests_per_minute")
    assert ask(second).status_code == 200
    refused = ask(third)
    assert (refused.status_code, refused.json()["error"]["budget"]) == (429, "key.requests_per_minute")


def test_revoking_a_widget_ends_its_visitors(house: Server) -> None:
    """A widget that is misused could not be stopped: its tokens would go on, on open sockets too."""
    page = make_page(house)
    session = page.session()
    key = Subprotocol("openai-insecure-api-key." + session["token"])
    url = house.ws_url + "/v1/responses"
    with connect(url, origin=Origin(SHOP), subprotocols=[key], proxy=None) as socket:
        assert frontdesk(house, "widgets", "revoke", page.widget).returncode == 0
        time.sleep(1.2)
        turn = {"type": "response.create", "input": "Hi", "conversation": session["conversation"], **SHORT}
        socket.send(json.dumps(turn))
        assert json.loads(socket.recv(30))["error"]["code"] == "revoked_api_key"
    assert page.call(session["token"], "GET", f"/v1/conversations/{session['conversation']}").status_code == 401
    assert page.begin(refresh=session["refresh"]).status_code == 404


def test_a_visitor_is_handed_over_to_a_person(page: Page) -> None:
    """Who asks for a person after talking to the model would wait for nobody."""
    session = page.session()
    streamed(page, session, "My chair broke.")
    path = f"/v1/conversations/{session['conversation']}/handoff"
    asked = page.call(session["token"], "POST", path, {"contact": "ann@example.com", "message": "Call me"}).json()
    waiting = page.admin("GET", "/v1/handoffs?state=open").json()["data"]
    assert asked in waiting
    page.admin("POST", f"/v1/handoffs/{asked['id']}", {"state": "done"})
    assert page.call(session["token"], "GET", path).json() == asked | {"state": "done"}


def test_a_visitor_is_still_known_after_a_restart(launch: Callable[..., Any], tmp_path: Any) -> None:
    """After a restart the server would sign with another secret: every visitor would be thrown out."""
    place = str(tmp_path / "kept.db")
    with launch(auth="on", database=place) as server:
        page = make_page(server)
        session = page.session(identity=page.identity())
        text = text_of(streamed(page, session, "When are you open?"))
    with launch(auth="on", database=place) as server:
        page = Page(server, page.widget, page.secret)
        again = page.session(refresh=session["refresh"])
        assert again["conversation"] == session["conversation"]
        path = f"/v1/conversations/{session['conversation']}/items"
        for token in (session["token"], again["token"]):
            items = page.call(token, "GET", path).json()["data"]
            assert items[0]["content"][0]["text"] == text
