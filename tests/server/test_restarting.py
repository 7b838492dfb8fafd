"""What those are told who cannot resume when the server restarts: how to get the reply, and not to ask twice."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from tests.conftest import Server

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tell me all you know."}],
    "max_tokens": 2500,
    "ignore_eos": True,
    "stream": True,
}
RESPONSE: dict[str, Any] = {"input": "Tell me all you know.", "max_output_tokens": 2500, "ignore_eos": True}
KEY = {"idempotency-key": "the-same"}


def told(server: Server, begun: Callable[[], None]) -> list[dict[str, Any] | None]:
    """What a stream with the key says, `None` for its end; `begun` is called when it has text."""
    found: list[dict[str, Any] | None] = []
    with httpx2.stream("POST", server.url + "/v1/chat/completions", json=CHAT, headers=KEY, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(None if line.endswith("[DONE]") else json.loads(line[6:]))
                if len(found) == 5:
                    begun()
    return found


def text(chunks: list[dict[str, Any] | None]) -> str:
    choices = [choice for chunk in chunks if chunk for choice in chunk.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_a_keyed_stream_says_that_it_was_cut(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """A client of Chat Completions would take the half of an answer for the whole."""
    database = str(tmp_path / "kept.db")
    server = start_server(database=database, drain_seconds="0")
    cut = told(server, server.process.terminate)
    assert cut[-1]
    assert cut[-1]["error"]["code"] == "engine_not_ready"
    assert "Idempotency-Key" in cut[-1]["error"]["message"]
    server.process.wait(60)
    whole = told(start_server(database=database), lambda: None)
    assert whole[-1] is None
    assert text(whole).startswith(text(cut))
    assert len(text(whole)) > len(text(cut)) > 0


def test_who_waits_for_a_whole_response_is_told_where_it_will_be(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The client would ask again by itself: two replies would be written, and both charged."""
    database = str(tmp_path / "kept.db")
    server = start_server(database=database, drain_seconds="0")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx2.post, server.url + "/v1/responses", json=RESPONSE, timeout=60)
        while not server.ready()["open"]:
            time.sleep(0.01)
        server.process.terminate()
        answer = waiting.result()
    assert answer.status_code == 503
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    path = re.search(r"/v1/responses/resp_[0-9a-f]{32}", answer.json()["error"]["message"])
    assert path
    server.process.wait(60)
    again = start_server(database=database)
    again.wait_idle(60)
    assert httpx2.get(again.url + path[0], timeout=30).json()["usage"]["output_tokens"] == 2500
