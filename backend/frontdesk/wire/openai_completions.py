"""OpenAI's legacy completions, `POST /v1/completions`: raw text in, raw text out, without template or persona.

One prompt a request. `echo` is served for text prompts without logprobs, since the wire has no words for token ids.
Ignored without a word: `user`, and fields whose loss changes nothing of the answer.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from frontdesk.errors import InvalidRequest
from frontdesk.generation import Delta, Event, Failed, Finished, GenerationRequest, Started
from frontdesk.wire._chunks import HOLE, ChunkStream
from frontdesk.wire._context import context_field
from frontdesk.wire._errors import cancelled
from frontdesk.wire._fields import Choices, SamplingFields, StreamOptions, TokenCount, TokenId
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._frames import json_bytes
from frontdesk.wire._validation import refuse_misplaced, refuse_unsupported, unsupported, validated
from frontdesk.wire._values import completion_usage, finished, finite

DEFAULT_MAX_TOKENS = 16  # OpenAI's own default on this route
MAX_PROMPT_TOKENS = 1_000_000

_REFUSED = {
    "suffix": "text after the completion is not supported by this server",
    "grammar": "grammars are not supported by this server",
    "json_schema": "structured output is not supported by this server yet",
    "response_format": "structured output is not supported by this server yet",
}
_ELSEWHERE = {
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}


def _prompt_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else 0
    return "<strings>" if isinstance(first, str) else "<token lists>" if isinstance(first, list) else "<tokens>"


def _one_prompt(value: Any) -> Any:
    """Refuse a list of several prompts before any of them is looked at."""
    if isinstance(value, list) and len(value) > 1 and isinstance(value[0], str | list):
        raise PydanticCustomError(
            "too_long", "one request takes one prompt, not {count}: send them one after another", {"count": len(value)}
        )
    return value


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
    BeforeValidator(_one_prompt),
]


class CompletionRequest(SamplingFields):
    """Body of `POST /v1/completions`. Unknown fields are ignored, those of other routes refused."""

    prompt: Prompt = Field(description="A string, a list with one string, or a list of token ids: one prompt.")
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
    response_format: Any = Field(None, description="Only `text`.")


class OpenAICompletions:
    """The format. Holds no state."""

    name = "openai_completions"
    path = "/v1/completions"
    request: type[BaseModel] = CompletionRequest
    has_turns = False

    def parse(self, body: object) -> Call:
        request = validated(CompletionRequest, body)
        refuse_misplaced(body, _ELSEWHERE)
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

    def request_json(self, call: Call) -> bytes:
        return call.body.model_dump_json(exclude_unset=True).encode()

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
        self._logprobs = [LegacyLogprobs(len(self._echo)) for _ in range(call.n)]

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
                self._logprobs[choice].add(event)
                before, after = self._frames[choice]
                return before + json_bytes(event.text) + after if event.text else b""
            case Delta():
                logprobs = self._logprobs[choice].add(event).taken()
                return self._stream.chunk(_entry(choice, event.text, logprobs=logprobs))
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


@dataclass(slots=True)
class _Lists:
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[dict[str, float]] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)


class LegacyLogprobs:
    """The four parallel lists of the old shape, of one choice. `echo` is the length of what stands before the reply.

    A token's offset is where its own text begins: text that is held back for a stop string comes in an earlier delta
    than the token that it is part of.
    """

    def __init__(self, echo: int) -> None:
        self._at = self._shown = echo
        self._characters = getincrementaldecoder("utf-8")("replace")
        self._lists = _Lists()

    def add(self, delta: Delta) -> LegacyLogprobs:
        self._shown += len(delta.text)
        for entry in delta.logprobs:
            token, logprob = _token_text(entry.data), finite(entry.logprob)
            self._lists.tokens.append(token)
            self._lists.token_logprobs.append(logprob)
            top = {_token_text(data): finite(p) for _, data, p in entry.top}
            self._lists.top_logprobs.append({**top, token: logprob})
            self._lists.text_offset.append(min(self._at, self._shown))  # a stop string took what comes behind it
            self._at += len(self._characters.decode(entry.data))
        return self

    def taken(self) -> dict[str, Any]:
        """What was added since the last time."""
        lists, self._lists = self._lists, _Lists()
        return asdict(lists)


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
        "logprobs": None if call.generation.top_logprobs is None else logprobs.taken(),
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
