"""OpenAI's legacy completions, `POST /v1/completions`: raw text in, raw text out, without template or persona.

One prompt a request. `echo` is served for text prompts without logprobs, since the wire has no words for token ids.
Ignored without a word: `user` and every unknown field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, Discriminator, Field, Tag

from frontdesk.errors import InvalidRequest
from frontdesk.generation import Delta, Event, Failed, Finished, GenerationRequest, Started, TokenLogprob
from frontdesk.wire._chunks import HOLE, ChunkStream
from frontdesk.wire._context import context_field
from frontdesk.wire._errors import cancelled
from frontdesk.wire._fields import Choices, SamplingFields, StreamOptions, TokenCount, TokenId
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._frames import json_bytes
from frontdesk.wire._validation import refuse_unsupported, unsupported, validated
from frontdesk.wire._values import completion_usage, finished, finite

DEFAULT_MAX_TOKENS = 16  # OpenAI's own default on this route
MAX_PROMPT_TOKENS = 1_000_000

_REFUSED = {
    "suffix": "text after the completion is not supported by this server",
    "grammar": "grammars are not supported by this server",
    "json_schema": "structured output is not supported by this server yet",
}


def _prompt_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else 0
    return "<strings>" if isinstance(first, str) else "<token lists>" if isinstance(first, list) else "<tokens>"


Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_PROMPT_TOKENS, fail_fast=True)]
Prompt = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[list[Text], Field(min_length=1, max_length=1, fail_fast=True), Tag("<strings>")]
    | Annotated[Tokens, Tag("<tokens>")]
    | Annotated[list[Tokens], Field(min_length=1, max_length=1, fail_fast=True), Tag("<token lists>")],
    Discriminator(
        _prompt_kind,
        custom_error_type="prompt_type",
        custom_error_message="Input should be a string, a list of one string, or a list of token ids",
    ),
]


class CompletionRequest(SamplingFields):
    """Body of `POST /v1/completions`. Unknown fields are ignored."""

    prompt: Prompt = Field(description="A string, a list with one string, or a list of token ids.")
    max_tokens: TokenCount | None = Field(
        None, description=f"Most tokens of the reply; {DEFAULT_MAX_TOKENS} if absent."
    )
    n: Choices | None = Field(None, description="Number of replies to generate.")
    best_of: Annotated[int, Field(ge=1, le=1)] | None = Field(None, description="Only 1.")
    echo: bool | None = Field(None, description="Put the prompt in front; for text prompts without logprobs.")
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = Field(None, description="Alternatives per token.")
    stream_options: StreamOptions | None = Field(None, description="Only with stream.")
    suffix: str | None = Field(None, description="Not supported: refused.")
    grammar: Any = Field(None, description="Not supported: refused.")
    json_schema: Any = Field(None, description="Not supported: refused.")


class OpenAICompletions:
    """The format. Holds no state."""

    name = "openai_completions"
    path = "/v1/completions"
    request: type[BaseModel] = CompletionRequest

    def parse(self, body: object) -> Call:
        request = validated(CompletionRequest, body)
        text, tokens = _prompt(request)
        _check(request, text)
        generation = GenerationRequest(
            model=request.model,
            text=text,
            tokens=tokens,
            sampling=request.sampling(),
            max_tokens=request.max_tokens or DEFAULT_MAX_TOKENS,
            stop=request.stop_strings(),
            top_logprobs=request.logprobs,
            persona=False,
        )
        return Call(generation, request, n=request.n or 1, stream=bool(request.stream))

    def encoder(self, call: Call, identity: Identity) -> CompletionEncoder:
        return CompletionEncoder(call, identity)

    def collect(self, call: Call, identity: Identity, replies: Sequence[Sequence[Event]]) -> dict[str, Any]:
        return {
            **_head(identity),
            "choices": [_choice(i, reply, call) for i, reply in enumerate(replies)],
            "usage": completion_usage([finished(reply).usage for reply in replies]),
            **context_field(identity.context),
        }


class CompletionEncoder:
    """Chunks of one call, choices interleaved by their index."""

    def __init__(self, call: Call, identity: Identity) -> None:
        assert isinstance(call.body, CompletionRequest)
        self._echo = _echo(call)
        self._stream = ChunkStream(_head(identity), call.body.stream_options, identity.context)
        self._frames = [self._stream.around(_entry(i, HOLE)) for i in range(call.n)]
        self._offsets = [len(self._echo)] * call.n

    def start(self) -> bytes:
        return b""

    def encode(self, choice: int, events: Sequence[Event]) -> bytes:
        return b"".join([self._event(choice, event) for event in events])

    def end(self) -> bytes:
        return self._stream.end()

    def _event(self, choice: int, event: Event) -> bytes:
        if self._stream.failed:
            return b""
        match event:
            case Delta(logprobs=()):
                self._offsets[choice] += len(event.text)
                before, after = self._frames[choice]
                return before + json_bytes(event.text) + after if event.text else b""
            case Delta():
                logprobs = LegacyLogprobs(self._offsets[choice]).add(event)
                self._offsets[choice] += len(event.text)
                return self._stream.chunk(_entry(choice, event.text, logprobs=logprobs.json()))
            case Started():
                return self._stream.chunk(_entry(choice, self._echo)) if self._echo else b""
            case Finished(reason="cancelled"):
                return self._stream.fail(cancelled())
            case Finished():
                return self._stream.last(choice, _entry(choice, "", finish=event.reason), event.usage)
            case Failed():
                return self._stream.fail(event.error)


def _entry(
    index: int, text: str, *, logprobs: dict[str, Any] | None = None, finish: str | None = None
) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


class LegacyLogprobs:
    """The four parallel lists of the old shape. `offset` is where in the answer's text the next delta begins."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._tokens: list[str] = []
        self._logprobs: list[float] = []
        self._top: list[dict[str, float]] = []
        self._offsets: list[int] = []

    def add(self, delta: Delta) -> LegacyLogprobs:
        data = b""
        for entry in delta.logprobs:
            # Bytes of an unfinished character do not move the offset; withheld text cannot move it past the delta.
            position = min(len(data.decode(errors="ignore")), len(delta.text))
            data += entry.data
            self._add(entry, self._offset + position)
        self._offset += len(delta.text)
        return self

    def _add(self, entry: TokenLogprob, offset: int) -> None:
        token, logprob = _token_text(entry.data), finite(entry.logprob)
        self._tokens.append(token)
        self._logprobs.append(logprob)
        self._top.append({**{_token_text(data): finite(p) for _, data, p in entry.top}, token: logprob})
        self._offsets.append(offset)

    def json(self) -> dict[str, Any]:
        return {
            "tokens": self._tokens,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._top,
            "text_offset": self._offsets,
        }


def _token_text(data: bytes) -> str:
    """OpenAI's legacy spelling of a token that is part of a character, `bytes:\\xf0\\x9f`: keys stay distinct."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _head(identity: Identity) -> dict[str, Any]:
    return {
        "id": f"cmpl-{identity.id}",
        "object": "text_completion",
        "created": identity.created,
        "model": identity.model,
    }


def _choice(index: int, reply: Sequence[Event], call: Call) -> dict[str, Any]:
    end = finished(reply)
    if end.reason == "cancelled":
        raise cancelled()
    echo = _echo(call)
    logprobs = LegacyLogprobs(len(echo))
    deltas = [event for event in reply if isinstance(event, Delta)]
    for delta in deltas:
        logprobs.add(delta)
    return {
        "text": echo + "".join(delta.text for delta in deltas),
        "index": index,
        "logprobs": None if call.generation.top_logprobs is None else logprobs.json(),
        "finish_reason": end.reason,
    }


def _echo(call: Call) -> str:
    assert isinstance(call.body, CompletionRequest)
    return (call.generation.text or "") if call.body.echo else ""


def _prompt(request: CompletionRequest) -> tuple[str | None, tuple[int, ...] | None]:
    """Text or token ids, never both."""
    prompt = request.prompt
    if isinstance(prompt, str):
        return prompt, None
    first = prompt[0]
    if isinstance(first, str):
        return first, None
    return None, tuple(first) if isinstance(first, list) else tuple(cast("list[int]", prompt))


def _check(request: CompletionRequest, text: str | None) -> None:
    """What no single field can say."""
    refuse_unsupported(request, _REFUSED)
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true", param="stream_options")
    if request.echo and request.logprobs is not None:
        raise unsupported("echo", "not supported together with logprobs: prompt tokens are not scored")
    if request.echo and text is None:
        raise unsupported("echo", "only supported for text prompts, not for token ids")
