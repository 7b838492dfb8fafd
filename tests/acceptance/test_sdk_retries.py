"""The package sends requests again by itself: what it is told, when it listens, and what a retry costs.

It retries lost answers, 408, 409, 429 and 5xx, twice unless it is told otherwise, and sends no Idempotency-Key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.acceptance import books
from tests.acceptance.asking import MODEL, Shop, create_key
from tests.conftest import Server

# The package's own use of deprecated calls is not ours to judge.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MESSAGES: Any = [{"role": "user", "content": "When are you open?"}]
TOKENS = 2500  # of an answer that takes far longer than the impatient client waits
PATIENCE = 0.3  # seconds


def counting_client(
    server: Server, key: str = "none", then: Callable[[httpx2.Response], None] = lambda _: None
) -> tuple[openai.OpenAI, list[httpx2.Response]]:
    """A client with the package's own retries, and every answer that it got; `then` is called with each of them."""
    answers: list[httpx2.Response] = []
    http = httpx2.Client(event_hooks={"response": [answers.append, then]})
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, http_client=http, timeout=30), answers


def test_a_full_line_is_tried_again(start_server: Callable[..., Server]) -> None:
    """The package retries 429 by itself and waits as `Retry-After` says: then the caller must never see a refusal."""
    server = start_server(max_waiting="1")
    busy: list[Any] = []

    def make_room(answer: httpx2.Response) -> None:
        if answer.status_code == 429 and busy:
            busy.pop().close()
            server.wait_idle()

    client, answers = counting_client(server, then=make_room)
    with client:
        create: Any = client.chat.completions.create
        endless = {"max_tokens": TOKENS, "extra_body": {"ignore_eos": True}}
        busy.append(create(model=MODEL, messages=MESSAGES, stream=True, **endless))
        made = client.responses.create(model=MODEL, input="Hello", max_output_tokens=4)
    assert made.output_text
    assert [answer.status_code for answer in answers] == [200, 429, 200]
    assert int(answers[1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("reason", ["budget", "conflict"])
def test_what_no_retry_can_cure_is_not_tried_again(shop: Shop, reason: str) -> None:
    """The package retries 409 and 429 unless `x-should-retry` says no: an empty budget would be asked thrice."""
    key = create_key(shop.server, "poor", "--tokens-total", "5") if reason == "budget" else shop.alice
    client, answers = counting_client(shop.server, key)
    headers = {"idempotency-key": f"trap-{time.time_ns()}"}
    with client, suppress(openai.APIStatusError):
        client.responses.create(model=MODEL, input="Hello", max_output_tokens=4, extra_headers=headers)
        client.responses.create(model=MODEL, input="Goodbye", max_output_tokens=4, extra_headers=headers)
    assert [answer.status_code for answer in answers] == ([429] if reason == "budget" else [200, 409])
    assert answers[-1].headers["x-should-retry"] == "false"


def test_a_retry_after_a_lost_answer_finds_the_first(server: Server) -> None:
    """The package sends a POST again when its answer was lost, with the same headers: with an Idempotency-Key of the
    caller it must not be computed twice."""
    client, _ = counting_client(server)
    headers = {"idempotency-key": f"lost-{time.time_ns()}", "x-stainless-retry-count": "1"}
    with client:
        first = client.responses.create(model=MODEL, input="Hello", max_output_tokens=4, extra_headers=headers)
        second = client.responses.create(model=MODEL, input="Hello", max_output_tokens=4, extra_headers=headers)
    assert first.to_dict() == second.to_dict()
    assert first._request_id != second._request_id, "each answer has its own id in the logs"


def test_a_day_s_budget_is_not_waited_for(shop: Shop) -> None:
    """Breaks if an empty budget of the day does not say when it refills: the package would ask twice more, as for any
    429. A `Retry-After` over two minutes makes it give up at once, and its user reads which budget it was; a shorter
    one (the last two minutes of a day) it sleeps through, and is answered."""
    key = create_key(shop.server, "daily", "--tokens-per-day", "1500")
    client, answers = counting_client(shop.server, key)
    options: dict[str, Any] = {"model": MODEL, "input": "Hello", "max_output_tokens": 800}  # once it fits, twice never
    with client:
        client.responses.create(**options, extra_body={"ignore_eos": True})
        answers.clear()
        with suppress(openai.RateLimitError):
            client.responses.create(**options)
    wait = int(answers[0].headers["retry-after"])
    assert [answer.status_code for answer in answers] == ([429] if wait > 120 else [429, 200])
    assert 0 < wait <= 86_400
    assert "x-should-retry" not in answers[0].headers, "waiting does cure it"
    error = answers[0].json()["error"]
    assert error["budget"] == "key.tokens_per_day"
    assert "1,500 tokens a day" in error["message"]


class Impatient(httpx2.BaseTransport):
    """Waits `PATIENCE` for the first answer and long for the others, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[httpx2.Headers] = []
        self._network = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if not self.sent:
            request.extensions["timeout"] = request.extensions["timeout"] | {"read": PATIENCE}
        self.sent.append(request.headers)
        return self._network.handle_request(request)

    def close(self) -> None:
        self._network.close()


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_what_a_retry_of_a_running_reply_costs(shop: Shop, api: str, keyed: bool) -> None:
    """The package gives up waiting and asks again, without an Idempotency-Key. Breaks if what nobody can come back for
    (Chat) is computed to its end all the same; if one of two requests that only look alike is dropped (a stored
    response goes on without its reader, so both are whole and paid); or if a key of the caller's does not make the
    retry join the running reply, computed and paid once."""
    key = create_key(shop.server, f"{api}-{keyed}")
    headers = {"idempotency-key": f"running-{time.time_ns()}"} if keyed else {}
    options: dict[str, Any] = {"model": MODEL, "extra_body": {"ignore_eos": True}, "extra_headers": headers}
    transport = Impatient()
    http = httpx2.Client(transport=transport)
    with openai.OpenAI(base_url=shop.server.url + "/v1", api_key=key, http_client=http, timeout=120) as client:
        if api == "chat":
            made: Any = client.chat.completions.create(messages=MESSAGES, max_tokens=TOKENS, **options)
            assert made.usage.completion_tokens == TOKENS
        else:
            made = client.responses.create(input="When are you open?", max_output_tokens=TOKENS, **options)
            assert made.usage.output_tokens == TOKENS
    shop.server.wait_idle(60)
    # What ended before is in the ledger when this is answered: all writes stand in one line.
    bearer = {"authorization": f"Bearer {shop.alice}"}
    httpx2.post(f"{shop.server.url}/v1/conversations", json={}, headers=bearer, timeout=30).raise_for_status()
    assert [sent["x-stainless-retry-count"] for sent in transport.sent] == ["0", "1"], "it was answered too soon"
    assert [sent.get("idempotency-key") for sent in transport.sent] == [headers.get("idempotency-key")] * 2
    rows = [row for row in books.ledger(Path(shop.server.database)) if row["key"] == key.split("_")[1]]
    whole = [row for row in rows if row["completion"] == TOKENS]
    assert len(whole) == (2 if api == "responses" and not keyed else 1)
    assert len(rows) == 1 if keyed else len(rows) <= 2
    assert all(row["outcome"] == "cancelled" for row in rows if row not in whole)
