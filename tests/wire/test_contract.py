"""What every HTTP format promises, run over all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from frontdesk.errors import ContextLengthExceeded, EngineDied, InvalidRequest
from frontdesk.generation import Delta, Event, Failed, Finished, Started, TokenLogprob, Usage
from frontdesk.wire import HTTP_FORMATS
from frontdesk.wire._errors import error_body
from frontdesk.wire._format import HttpFormat, Identity

IDENTITY = Identity("ab" * 16, "m", 1_790_000_000)
STARTED = Started("m", 1_790_000_000)
USAGE = Usage(10, 4, 3)
TEXTS = ["one ", "", "zwei\u2028\u0085\u2029", "三\r\n", "🙂\x00"]
DELTAS = [Delta(text, 1) for text in TEXTS]
LOGPROBS = [Delta("x", 1, (TokenLogprob(1, b"\xff", float("-inf"), ((2, b"y", -1.5),)),))]
MINIMAL: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "x"}]},
    "openai_completions": {"prompt": "x"},
    "openai_responses": {"input": "x"},
}
WITH_LOGPROBS: dict[str, dict[str, Any]] = {
    "openai_chat": {"logprobs": True, "top_logprobs": 1},
    "openai_completions": {"logprobs": 1},
    "openai_responses": {"top_logprobs": 1},
}
CHUNK: dict[str, TypeAdapter[Any]] = {
    "openai_chat": TypeAdapter(ChatCompletionChunk),
    "openai_completions": TypeAdapter(Completion),
    "openai_responses": TypeAdapter(ResponseStreamEvent),
}
ANSWER: dict[str, type[Any]] = {
    "openai_chat": ChatCompletion,
    "openai_completions": Completion,
    "openai_responses": Response,
}
each_format = pytest.mark.parametrize("format", HTTP_FORMATS, ids=lambda f: f.name)


def run(format: HttpFormat, events: Sequence[Event], **extra: Any) -> bytes:
    call = format.parse({**MINIMAL[format.name], "stream": True, **extra})
    encoder = format.encoder(call, IDENTITY)
    return encoder.start() + encoder.encode(0, events) + encoder.end()


def data(stream: bytes) -> list[Any]:
    """Payloads of a stream, read by the strictest and by the laxest idea of a line at once."""
    lines = stream.decode().splitlines()
    assert lines == stream.decode().split("\n")[:-1], "some client would cut a line in two"
    return [
        json.loads(line.removeprefix("data: "))
        for line in lines
        if line.startswith("data: ") and line != "data: [DONE]"
    ]


def text_of(name: str, payloads: list[Any]) -> str:
    if name == "openai_responses":
        return "".join(p["delta"] for p in payloads if p["type"] == "response.output_text.delta")
    choices = [p["choices"][0] for p in payloads if p.get("choices")]
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices)


def answer_text(name: str, answer: dict[str, Any]) -> str:
    if name == "openai_responses":
        return answer["output"][0]["content"][0]["text"]
    choice = answer["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


@each_format
def test_stream_frames_are_clean(format: HttpFormat) -> None:
    """If this fails, SSE parsers break: a foreign field, a cut line, a missing or second end mark."""
    stream = run(format, [STARTED, *DELTAS, Finished("stop", USAGE)])
    assert stream.endswith(b"data: [DONE]\n\n")
    assert stream.count(b"[DONE]") == 1
    assert {line.split(":")[0] for line in stream.decode().split("\n") if line} <= {"data", "event"}
    assert text_of(format.name, data(stream)) == "".join(TEXTS)


@each_format
def test_event_line_equals_type(format: HttpFormat) -> None:
    """If this fails, browsers' `addEventListener(type)` and the Open Responses checks miss events."""
    for block in run(format, [STARTED, *DELTAS, Finished("stop", USAGE)]).decode().split("\n\n"):
        if block.startswith("event: "):
            event, payload = block.split("\n", 1)
            assert event.removeprefix("event: ") == json.loads(payload.removeprefix("data: "))["type"]
        elif block and block != "data: [DONE]":
            assert format.name != "openai_responses"


@each_format
@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("logprobs", [False, True])
def test_openai_package_accepts_every_payload(format: HttpFormat, reason: Any, logprobs: bool) -> None:
    """If this fails, typed clients reject or misread what is sent."""
    extra = WITH_LOGPROBS[format.name] if logprobs else {}
    events = [STARTED, *(LOGPROBS if logprobs else DELTAS), Finished(reason, USAGE)]
    for payload in data(run(format, events, **extra)):
        if format.name == "openai_completions":  # the package's type knows no chunk without finish_reason
            for choice in payload["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        CHUNK[format.name].validate_python(payload)
    call = format.parse({**MINIMAL[format.name], **extra})
    ANSWER[format.name].model_validate(json.loads(json.dumps(format.collect(call, IDENTITY, [events]))))


@each_format
def test_failed_stream_ends_with_its_error(format: HttpFormat) -> None:
    """If this fails, a broken answer looks like a finished one."""
    call = format.parse({**MINIMAL[format.name], "stream": True})
    encoder = format.encoder(call, IDENTITY)
    stream = encoder.encode(0, [STARTED, DELTAS[0], Failed(EngineDied("it died"), USAGE)])
    assert b"engine_died" in stream
    assert b'"stop"' not in stream
    assert encoder.end() == b""


@each_format
def test_whole_answer_equals_the_stream(format: HttpFormat) -> None:
    """If this fails, `stream: false` gives another text than `stream: true`."""
    events = [STARTED, *DELTAS, Finished("stop", USAGE)]
    answer = format.collect(format.parse(MINIMAL[format.name]), IDENTITY, [events])
    assert answer_text(format.name, answer) == "".join(TEXTS)


@each_format
def test_null_is_absent(format: HttpFormat) -> None:
    """If this fails, clients that write out every optional field as null are refused."""
    nulls = dict.fromkeys(format.request.model_fields)
    call = format.parse({**nulls, **MINIMAL[format.name]})
    assert call.generation == format.parse(MINIMAL[format.name]).generation


@each_format
def test_unknown_fields_are_ignored(format: HttpFormat) -> None:
    """If this fails, every client with a newer SDK gets an error."""
    call = format.parse({**MINIMAL[format.name], "from_the_future": {"a": [1]}, "user": "u"})
    assert call.generation == format.parse(MINIMAL[format.name]).generation


@each_format
@pytest.mark.parametrize("body", [None, [], "x", 5, True, [[{}]]])
def test_body_that_is_no_object(format: HttpFormat, body: object) -> None:
    """If this fails, a body of the wrong kind becomes a server error."""
    with pytest.raises(InvalidRequest):
        format.parse(body)


@each_format
def test_sampling_reaches_the_engine(format: HttpFormat) -> None:
    """If this fails, a sampling parameter is silently dropped or mixed up on the way."""
    asked = {
        "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125, "typical_p": 0.75, "presence_penalty": -1,
        "frequency_penalty": 1.5, "repeat_penalty": 1.25, "repeat_last_n": 99, "ignore_eos": True,
    }  # fmt: skip
    call = format.parse({**MINIMAL[format.name], **asked, "seed": -1, "logit_bias": {"5": -100}, "stop": "END"})
    sampling = call.generation.sampling
    assert {name: getattr(sampling, name) for name in asked} == asked
    assert sampling.seed == 2**63 - 1
    assert sampling.logit_bias == ((5, -100),)
    assert call.generation.stop == ("END",)


@each_format
def test_schema_can_be_published(format: HttpFormat) -> None:
    """If this fails, /openapi.json cannot be built, or shows internal tags and fields without a description."""
    schema = format.request.model_json_schema()
    assert "<string>" not in json.dumps(schema)
    assert all("description" in field for field in schema["properties"].values())


def test_error_body_shape() -> None:
    """If this fails, the OpenAI client cannot show the message, and widgets cannot read the numbers of an overflow."""
    error = error_body(ContextLengthExceeded(5000, 4096, param="messages"))["error"]
    assert error["type"] == "exceed_context_size_error"
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (5000, 4096)


@pytest.mark.parametrize("reserve", [0, 64])
def test_words_that_clients_know_a_full_window_by(reserve: int) -> None:
    """If this fails, LangChain.js, LiteLLM or an agent takes a full window for any mistake, and does not shorten."""
    message = ContextLengthExceeded(5000, 4096, reserve=reserve).message
    for words in ("exceeds the context window", "exceeds the available context size", "prompt is too long"):
        assert words in message
