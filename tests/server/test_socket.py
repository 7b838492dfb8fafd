"""The WebSocket of a real server: lanes, kept conversations, readers that leave and come back, restarts, keys."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from frontdesk.access.keys import new_key
from frontdesk.principal import ALL_SCOPES, Limits
from frontdesk.store.records import KeyRecord
from frontdesk.store.store import open_store

if TYPE_CHECKING:
    from tests.conftest import Server

LAST = ("response.completed", "response.incomplete", "response.failed", "error")
Event = dict[str, Any]


def dial(server: Server, key: str | None = None) -> ClientConnection:
    headers = {"authorization": f"Bearer {key}"} if key else None
    return connect(server.ws_url + "/v1/responses", additional_headers=headers, proxy=None)


def send(socket: ClientConnection, **event: Any) -> None:
    socket.send(json.dumps({"type": "response.create", "temperature": 0, **event}))


def events(socket: ClientConnection) -> Iterator[Event]:
    """To the last event of one turn."""
    while True:
        event = json.loads(socket.recv(30))
        yield event
        if event["type"] in LAST:
            return


def turn(socket: ClientConnection, **fields: Any) -> list[Event]:
    send(socket, **fields)
    return list(events(socket))


def text(turn: list[Event]) -> str:
    return "".join(event["delta"] for event in turn if event["type"] == "response.output_text.delta")


def of_lanes(socket: ClientConnection, lanes: set[str]) -> dict[str, list[Event]]:
    """The events of one turn of each lane, however they are mixed."""
    read: dict[str, list[Event]] = {lane: [] for lane in lanes}
    running = set(lanes)
    while running:
        event = json.loads(socket.recv(30))
        read[event["stream_id"]].append(event)
        if event["type"] in LAST:
            running.remove(event["stream_id"])
    return read


def to_the_close(socket: ClientConnection) -> Iterator[str | bytes]:
    try:
        while True:
            yield socket.recv(30)
    except ConnectionClosed:
        return


def test_lanes_answer_beside_each_other(server: Server) -> None:
    """If this fails, a page with several conversations needs a connection for each, or mixes their answers up."""
    long = {"ignore_eos": True, "max_output_tokens": 100, "store": False}
    questions = {f"lane {i}": f"Question number {i}: do you ship to Norway?" for i in range(6)}
    with dial(server) as socket:
        alone = {lane: text(turn(socket, input=question, **long)) for lane, question in questions.items()}
        for lane, question in questions.items():
            send(socket, input=question, stream_id=lane, **long)
        order: list[str] = []
        together: dict[str, list[Event]] = {lane: [] for lane in questions}
        while not all(read and read[-1]["type"] in LAST for read in together.values()):
            event = json.loads(socket.recv(30))
            order.append(event["stream_id"])
            together[event["stream_id"]].append(event)
    assert order != sorted(order), "one lane waited for another"
    for lane, read in together.items():
        assert [event["sequence_number"] for event in read] == list(range(len(read)))
        assert text(read) == alone[lane]


def test_more_lanes_than_may_run(server: Server) -> None:
    """If this fails, the seventeenth conversation of a page is lost, or the thirty-third breaks the others."""
    lanes = {str(i) for i in range(32)}
    read: dict[str, list[Event]] = {}
    with dial(server) as socket:
        with server.held():  # no lane is over before the one too many has come
            for lane in sorted(lanes):
                send(socket, input="Hi", stream_id=lane, max_output_tokens=12, ignore_eos=True, store=False)
            send(socket, input="Hi", stream_id="one too many")
            while "one too many" not in read:
                event = json.loads(socket.recv(60))
                read.setdefault(event["stream_id"], []).append(event)
        while sum(turn[-1]["type"] in LAST for turn in read.values()) < 33:
            event = json.loads(socket.recv(60))
            read.setdefault(event["stream_id"], []).append(event)
    refused = read.pop("one too many")
    assert [event["error"]["code"] for event in refused] == ["websocket_stream_limit_reached"]
    assert all(turn[-1]["type"] == "response.incomplete" for turn in read.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package's own use of what is outdated
def test_a_conversation_over_the_socket(server: Server) -> None:
    """If this fails, what is said on the socket is not in the conversation that every other client sees."""
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    conversation = client.conversations.create()
    with client.responses.connect() as connection:
        for question in ("My name is Ann.", "What is my name?"):
            connection.response.create(input=question, conversation=conversation.id, max_output_tokens=8)
            for event in connection:
                if event.type in LAST:
                    break
            assert event.response.conversation.id == conversation.id  # type: ignore[union-attr]
    said: list[Any] = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.role for item in said] == ["user", "assistant"] * 2
    assert said[2].content[0].text == "What is my name?"
    assert event.response.context["parts"]["history"] > 0  # type: ignore[union-attr, index]
    client.close()


def test_a_kept_turn_outlives_its_socket(server: Server) -> None:
    """If this fails, a customer who walks through a tunnel loses the answer, or reads parts of it twice."""
    with dial(server) as socket:
        send(socket, input="Tell me all.", ignore_eos=True, max_output_tokens=300)
        seen = [json.loads(socket.recv(30)) for _ in range(20)]
    id = seen[0]["response"]["id"]
    with dial(server) as socket:
        after = seen[-1]["sequence_number"]
        socket.send(json.dumps({"type": "response.resume", "response_id": id, "starting_after": after}))
        rest = list(events(socket))
    whole = seen + rest
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert whole[-1]["response"]["usage"]["output_tokens"] == 300
    assert whole[-1]["response"]["output"][0]["content"][0]["text"] == text(whole)
    with httpx2.stream("GET", f"{server.url}/v1/responses/{id}?stream=true", timeout=30) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
    assert [json.loads(line.removeprefix("data: ")) for line in lines] == whole


def test_one_reply_on_two_lanes(server: Server) -> None:
    """If this fails, a second window of the same page cannot follow an answer, or takes it from the first."""
    with dial(server) as socket:
        send(socket, input="Talk.", ignore_eos=True, max_output_tokens=120, stream_id="first")
        id = json.loads(socket.recv(30))["response"]["id"]
        socket.send(json.dumps({"type": "response.resume", "response_id": id, "stream_id": "second"}))
        read = of_lanes(socket, {"first", "second"})
    assert text(read["second"]) == text(read["first"]) != ""


def test_resume_of_what_is_not_there(server: Server) -> None:
    """If this fails, a client waits forever for a response that was deleted."""
    with dial(server) as socket:
        socket.send(json.dumps({"type": "response.resume", "response_id": f"resp_{'0' * 32}", "stream_id": "x"}))
        (error,) = events(socket)
        assert (error["status"], error["stream_id"]) == (404, "x")
        kept = turn(socket, input="Hi", max_output_tokens=2, store=False)[-1]["response"]["id"]
        socket.send(json.dumps({"type": "response.resume", "response_id": kept}))
        assert next(events(socket))["status"] == 404


def test_an_unkept_turn_ends_with_its_socket(server: Server) -> None:
    """If this fails, replies that nobody can ever read go on for minutes."""
    server.wait_idle()
    with ExitStack() as stack:
        with dial(server) as socket:
            for lane in ("a", "b"):
                send(socket, input="Talk.", ignore_eos=True, store=False, stream_id=lane)
            for _ in range(12):
                socket.recv(30)
            stack.enter_context(server.held())
        server.wait_idle()


def test_unkept_turns_follow_each_other_and_kept_ones(server: Server) -> None:
    """If this fails, a turn is answered without what was said before it."""
    with dial(server) as socket:
        used: list[int] = []
        previous: dict[str, str] = {}
        for store in (True, False, False, True, True):
            asked = {"input": "Is it in stock?", "store": store, "max_output_tokens": 4}
            response = turn(socket, **asked, **previous)[-1]["response"]
            previous = {"previous_response_id": response["id"]}
            assert response["store"] is store
            used.append(response["usage"]["input_tokens"])
        assert used == sorted(set(used))
        grown = {later - earlier for earlier, later in pairwise(used)}
        assert max(grown) - min(grown) <= 4, f"a turn is missing: {used}"
        refused = turn(socket, input="x", previous_response_id=f"resp_{'0' * 32}")[-1]
        assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")


def test_cancel_of_one_lane(server: Server) -> None:
    """If this fails, the stop button of one conversation stops another."""
    with dial(server) as socket:
        for lane in ("stop", "go on"):
            send(socket, input="Talk.", ignore_eos=True, max_output_tokens=400, stream_id=lane, store=False)
        while json.loads(socket.recv(30))["type"] != "response.output_text.delta":
            pass
        with server.held():  # neither comes to its end by itself before one is stopped
            socket.send(json.dumps({"type": "response.cancel", "stream_id": "stop"}))
            while (last := json.loads(socket.recv(30)))["type"] not in LAST:
                pass
        assert last["stream_id"] == "stop"
        (*_, end) = of_lanes(socket, {"go on"})["go on"]
    stopped, whole = last["response"], end["response"]
    assert (stopped["status"], whole["status"]) == ("cancelled", "incomplete")
    assert stopped["usage"]["output_tokens"] < whole["usage"]["output_tokens"] == 400


def test_place_in_the_waiting_line(start_server: Callable[..., Server]) -> None:
    """If this fails, a page that waits on a socket behind others cannot say so."""
    server = start_server(slots="1")
    with dial(server) as first, dial(server) as second:
        send(first, input="Talk.", ignore_eos=True, max_output_tokens=3000, store=False)
        while json.loads(first.recv(30))["type"] != "response.output_text.delta":
            pass
        send(second, input="Hello?", max_output_tokens=4, store=False, stream_id="L")
        id = json.loads(second.recv(30))["response"]["id"]
        place = {"type": "response.place", "response_id": id, "stream_id": "L"}
        second.send(json.dumps(place))
        while (told := json.loads(second.recv(30)))["type"] != "response.place":
            pass
        assert told == {**place, "place": 1}
        first.send('{"type": "response.cancel"}')
        assert list(events(second))[-1]["response"]["usage"]["output_tokens"] > 0


def test_a_restart_in_the_middle_of_a_turn(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """If this fails, an update of the server costs a customer the answer, or looks like its end."""
    database = str(tmp_path / "kept.db")
    server = start_server(database=database, drain_seconds="0")
    with dial(server) as socket:
        send(socket, input="Tell me all.", ignore_eos=True, max_output_tokens=2000)
        seen = [json.loads(socket.recv(30)) for _ in range(20)]
        server.process.terminate()
        seen += [json.loads(message) for message in to_the_close(socket)]
    assert socket.close_code == 1012
    assert seen[-1]["type"] not in LAST
    server.process.wait(60)
    again = start_server(database=database)
    with dial(again) as socket:
        resume = {"response_id": seen[0]["response"]["id"], "starting_after": seen[-1]["sequence_number"]}
        socket.send(json.dumps({"type": "response.resume", **resume}))
        rest = list(events(socket))
    whole = seen + rest
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert whole[-1]["response"]["usage"]["output_tokens"] == 2000
    assert whole[-1]["response"]["output"][0]["content"][0]["text"] == text(whole)


def test_a_key_that_is_revoked_while_the_socket_is_open(start_server: Callable[..., Server]) -> None:
    """If this fails, whoever was shut out goes on for as long as the connection lasts, or reads what is not theirs."""
    server = start_server(auth="on")
    mine, other = new_key(), new_key()

    async def change(revoke: bool) -> None:
        store = await open_store(server.database, exclusive=False)
        if revoke:
            await store.keys.revoke(mine.id, int(time.time()))
        else:
            for key in (mine, other):
                await store.keys.add(KeyRecord(key.id, "test", key.hash, ALL_SCOPES, Limits(), int(time.time())))
        await store.close()

    asyncio.run(change(revoke=False))
    with dial(server, mine.text) as socket, dial(server, other.text) as stranger:
        id = turn(socket, input="Hi", max_output_tokens=2)[-1]["response"]["id"]
        stranger.send(json.dumps({"type": "response.resume", "response_id": id}))
        assert next(events(stranger))["status"] == 404
        asyncio.run(change(revoke=True))
        time.sleep(1.1)  # a key is looked up at most once a second
        assert turn(socket, input="Hi", max_output_tokens=2)[-1]["status"] == 401
        assert turn(stranger, input="Hi", max_output_tokens=2)[-1]["type"] == "response.incomplete"
