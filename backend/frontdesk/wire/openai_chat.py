"""OpenAI Chat Completions, `POST /v1/chat/completions`: stateless, the whole conversation is in the request.

What is not built yet and would change the answer (tools, structured output, pictures, sound) is refused by name.
Ignored without a word: `user`, `metadata`, `store`, `service_tier`, `reasoning_effort`, `verbosity`, `prediction`,
`parallel_tool_calls`, `safety_identifier`, `prompt_cache_key` and fields that no route has. Histories may have begun
with another provider: a refusal is what the assistant said, and where it said nothing its message is empty, since many
templates want user and assistant to take turns. Knows no tokens and no template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from frontdesk.errors import InvalidRequest
from frontdesk.generation import Delta, Event, Failed, Finished, GenerationRequest, Started, TokenLogprob
from frontdesk.messages import Message, ToolCall
from frontdesk.wire._chunks import HOLE, ChunkStream
from frontdesk.wire._context import context_field
from frontdesk.wire._errors import cancelled
from frontdesk.wire._fields import (
    MAX_MESSAGES,
    Choices,
    Content,
    Name,
    OptionalName,
    SamplingFields,
    StreamOptions,
    StrictModel,
    TokenCount,
    TopLogprobs,
    text_of_part,
)
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._frames import json_bytes
from frontdesk.wire._validation import refuse_misplaced, refuse_unsupported, unsupported, validated
from frontdesk.wire._values import completion_usage, finished, token_logprobs

_REFUSED = {
    "audio": "sound is not supported by this server",
    "web_search_options": "web search is not supported by this server",
    "grammar": "grammars are not supported by this server",
    "json_schema": "structured output is not supported by this server yet",
    "moderation": "moderation is not supported by this server",
    "instructions": "not a field of this route: send a system message",
    "previous_response_id": "not a field of this route: send the messages before, or use POST /v1/responses",
    "conversation": "not a field of this route: send the messages before, or use POST /v1/responses",
}
_ELSEWHERE = {
    "max_output_tokens": "max_tokens",
    "text": "response_format",
}
_NO_TOOLS = "tools are not supported by this server yet; leave the field out or set tool_choice to 'none'"


class FunctionCall(StrictModel):
    """The function of an earlier tool call."""

    name: Name = Field(description="Name of the function.")
    arguments: str = Field(description="Its arguments as JSON text.")


class ToolCallItem(StrictModel):
    """A tool call that the assistant made earlier."""

    id: Name = Field(description="The id that a later tool message refers to.")
    type: Literal["function"] = Field("function", description="Kind of the call.")
    function: FunctionCall


class ChatMessage(StrictModel):
    """One message of the conversation."""

    role: Literal["developer", "system", "user", "assistant", "tool"] = Field(description="Who speaks.")
    content: Content | None = Field(
        None, description="Text, or a list of text parts, which are joined. May be left out by the assistant alone."
    )
    refusal: str | None = Field(None, description="On an assistant message without text: what it said instead.")
    name: OptionalName = Field(None, description="Name of the speaker.")
    tool_calls: Annotated[list[ToolCallItem], Field(max_length=128, fail_fast=True)] | None = Field(
        None, description="Calls made by an assistant message."
    )
    tool_call_id: Name | None = Field(None, description="On a tool message: the call that it answers.")
    function_call: Any = Field(None, description="Outdated and refused; use tool_calls.")
    audio: Any = Field(None, description="Not supported: refused.")


class ResponseFormat(StrictModel):
    """Form of the answer."""

    type: Annotated[str, Field(max_length=64)] = Field(description="Only `text`.")


class ChatRequest(SamplingFields):
    """Body of `POST /v1/chat/completions`. Unknown fields are ignored, those of other routes refused."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)] = Field(
        description="The conversation so far."
    )
    max_tokens: TokenCount | None = Field(None, description="Older name of max_completion_tokens.")
    max_completion_tokens: TokenCount | None = Field(None, description="Most tokens the reply may take.")
    n: Choices | None = Field(None, description="Number of replies to generate.")
    logprobs: bool | None = Field(None, description="Return the log probability of every token.")
    top_logprobs: TopLogprobs | None = Field(None, description="Alternatives per token; above 0 only with logprobs.")
    stream_options: StreamOptions | None = Field(None, description="Only with stream.")
    response_format: ResponseFormat | None = Field(None, description="Only `text`.")
    modalities: Annotated[list[str], Field(max_length=8, fail_fast=True)] | None = Field(
        None, description="Only `text`."
    )
    tools: list[Any] | None = Field(None, description="Refused unless empty or tool_choice is `none`.")
    tool_choice: Any = Field(None, description="Only `none` has an effect.")
    functions: list[Any] | None = Field(None, description="Outdated name of tools; refused unless empty.")
    audio: Any = Field(None, description="Not supported: refused.")
    prediction: Any = Field(None, description="A hint that would change no text: ignored.")
    web_search_options: Any = Field(None, description="Not supported: refused.")
    grammar: Any = Field(None, description="Not supported: refused.")
    json_schema: Any = Field(None, description="Not supported: refused.")
    moderation: Any = Field(None, description="Not supported: refused.")
    instructions: Any = Field(None, description="Of Responses: refused.")
    previous_response_id: Any = Field(None, description="Of Responses: refused.")
    conversation: Any = Field(None, description="Of Responses: refused.")


class OpenAIChat:
    """The format. Holds no state."""

    name = "openai_chat"
    path = "/v1/chat/completions"
    request: type[BaseModel] = ChatRequest
    has_turns = False

    def parse(self, body: object) -> Call:
        request = validated(ChatRequest, body)
        refuse_misplaced(body, _ELSEWHERE)
        _check(request)
        generation = GenerationRequest(
            model=request.model,
            messages=tuple(_message(f"messages.{i}", message) for i, message in enumerate(request.messages)),
            sampling=request.sampling(),
            max_tokens=request.max_completion_tokens or request.max_tokens,
            stop=request.stop_strings(),
            top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        )
        return Call(generation, request, n=request.n or 1, stream=bool(request.stream))

    def request_json(self, call: Call) -> bytes:
        return call.body.model_dump_json(exclude_unset=True).encode()

    def encoder(self, call: Call, identity: Identity) -> ChatEncoder:
        return ChatEncoder(call, identity)

    def collect(self, call: Call, identity: Identity, replies: Sequence[Sequence[Event]]) -> dict[str, Any]:
        logprobs = call.generation.top_logprobs is not None
        return {
            **_head(identity, "chat.completion"),
            "choices": [_choice(i, reply, logprobs) for i, reply in enumerate(replies)],
            "usage": completion_usage([finished(reply).usage for reply in replies]),
            **context_field(identity.context),
        }


class ChatEncoder:
    """Chunks of one call, choices interleaved by their index."""

    def __init__(self, call: Call, identity: Identity) -> None:
        assert isinstance(call.body, ChatRequest)
        self._stream = ChunkStream(_head(identity, "chat.completion.chunk"), call.body.stream_options, identity.context)
        self._frames = [self._stream.around(_entry(i, {"content": HOLE})) for i in range(call.n)]

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
                before, after = self._frames[choice]
                return before + json_bytes(event.text) + after if event.text else b""
            case Delta():
                return self._stream.chunk(_entry(choice, {"content": event.text}, logprobs=event.logprobs))
            case Started():
                return self._stream.chunk(_entry(choice, {"role": "assistant", "content": ""}))
            case Finished(reason="cancelled"):
                return self._stream.fail(cancelled())
            case Finished():
                return self._stream.last(choice, _entry(choice, {}, finish=event.reason), event.usage)
            case Failed():
                return self._stream.fail(event.error)


def _entry(
    index: int, delta: dict[str, str], *, logprobs: tuple[TokenLogprob, ...] = (), finish: str | None = None
) -> dict[str, Any]:
    content = {"content": token_logprobs(logprobs), "refusal": None} if logprobs else None
    return {"index": index, "delta": delta, "logprobs": content, "finish_reason": finish}


def _head(identity: Identity, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{identity.id}", "object": kind, "created": identity.created, "model": identity.model}


def _choice(index: int, reply: Sequence[Event], logprobs: bool) -> dict[str, Any]:
    end = finished(reply)
    if end.reason == "cancelled":
        raise cancelled()
    deltas = [event for event in reply if isinstance(event, Delta)]
    entries = token_logprobs(entry for delta in deltas for entry in delta.logprobs)
    text = "".join(delta.text for delta in deltas)
    return {
        "index": index,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": {"content": entries, "refusal": None} if logprobs else None,
        "finish_reason": end.reason,
    }


def _check(request: ChatRequest) -> None:
    """What no single field can say."""
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            f"'max_tokens' ({old}) and 'max_completion_tokens' ({new}) differ: send only one", param="max_tokens"
        )
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true", param="top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true", param="stream_options")
    _check_supported(request)


def _check_supported(request: ChatRequest) -> None:
    refuse_unsupported(request, _REFUSED)
    if request.tool_choice != "none":
        refuse_unsupported(request, {"tools": _NO_TOOLS, "functions": _NO_TOOLS})
    if request.response_format and request.response_format.type != "text":
        raise unsupported("response_format.type", "only 'text' is supported by this server yet")
    for i, modality in enumerate(request.modalities or ()):
        if modality != "text":
            raise unsupported(f"modalities.{i}", "only 'text' is supported by this server")


def _message(param: str, message: ChatMessage) -> Message:
    for field, why in {"function_call": "use tool_calls instead", "audio": "sound is not supported"}.items():
        if getattr(message, field):
            raise unsupported(f"{param}.{field}", why)
    if message.content is None and message.role != "assistant":
        raise InvalidRequest(
            f"'{param}.content' is required (only an assistant message may leave it out)",
            param=f"{param}.content",
            code="missing_required_parameter",
        )
    if message.tool_calls and message.role != "assistant":
        raise InvalidRequest(f"'{param}.tool_calls' belongs on assistant messages", param=f"{param}.tool_calls")
    if message.role == "tool" and message.tool_call_id is None:
        where = f"{param}.tool_call_id"
        raise InvalidRequest(f"'{where}' is required", param=where, code="missing_required_parameter")
    return Message(
        message.role,
        _text(f"{param}.content", message),
        message.name,
        tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()),
        message.tool_call_id if message.role == "tool" else None,
    )


def _text(param: str, message: ChatMessage) -> str:
    text, said = message.content, message.role == "assistant"
    if isinstance(text, list):
        why = "only 'text' parts are supported: this server reads text alone"
        text = "".join(text_of_part(f"{param}.{i}", part, ("text",), why, said) for i, part in enumerate(text))
    return text or (message.refusal if said else None) or ""
