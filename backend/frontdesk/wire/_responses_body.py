"""The request of the OpenAI Responses API: its fields, and the turn that they describe.

Shared by `POST /v1/responses` and the WebSocket of the same path, so that both are equally strict. What a request means
depends on its JSON alone: parsed again after a restart it gives the same call, but for the ids of its items. Whether a
conversation or response exists is for the service to say. Knows no events and no transport.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from frontdesk.errors import InvalidRequest
from frontdesk.generation import GenerationRequest, PromptReference, Turn
from frontdesk.wire._fields import (
    Metadata,
    Name,
    SamplingFields,
    StrictModel,
    TextPart,
    TokenCount,
    TopLogprobs,
    at_most,
)
from frontdesk.wire._format import Call
from frontdesk.wire._ids import is_conversation_id, response_id
from frontdesk.wire._items import Input, parse_input, part_text
from frontdesk.wire._validation import refuse_misplaced, refuse_unsupported, unsupported, validated

LOGPROBS = "message.output_text.logprobs"
MAX_VARIABLES = 64

_REFUSED = {
    "context_management": "compaction within a reply is not supported by this server; see POST /v1/responses/compact",
    "moderation": "moderation is not supported by this server",
    "grammar": "grammars are not supported by this server",
    "json_schema": "structured output is not supported by this server yet",
}
_ELSEWHERE = {
    "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens", "response_format": "text",
}  # fmt: skip
_NO_TOOLS = "tools are not supported by this server yet; leave the field out or set tool_choice to 'none'"


def _string_or_object(value: Any) -> str | None:
    return "<string>" if isinstance(value, str) else "<object>" if isinstance(value, dict | StrictModel) else None


StringOrObject = Discriminator(
    _string_or_object,
    custom_error_type="string_or_object_type",
    custom_error_message="Input should be a string or an object",
)


class ConversationReference(StrictModel):
    """A conversation by its id."""

    id: Name = Field(description="The conversation's id.")


Variable = Annotated[Annotated[str, Tag("<string>")] | Annotated[TextPart, Tag("<object>")], StringOrObject]
Variables = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Variable],
    Field(max_length=MAX_VARIABLES),
    at_most(MAX_VARIABLES),
]


class PromptField(StrictModel):
    """A prompt that the server keeps in `prompts/`."""

    id: Name = Field(description="Name of the prompt.")
    version: Name | None = Field(None, description="Absent: the newest.")
    variables: Variables | None = Field(
        None, description=f"Up to {MAX_VARIABLES} texts (strings or input_text parts) for its variables."
    )


class TextFormat(StrictModel):
    """Form of the answer."""

    type: Annotated[str, Field(max_length=64)] = Field(description="Only `text`.")


class TextOptions(StrictModel):
    """Options of the answer's text."""

    format: TextFormat | None = Field(None, description="Form of the answer.")


class PromptCacheOptions(StrictModel):
    """How the prompt is kept in the KV cache."""

    prewarm: bool | None = Field(None, description="true: the same as generate false.")


class ResponsesRequest(SamplingFields):
    """Body of `POST /v1/responses`. Unknown fields are ignored, those of other routes refused."""

    input: Input | None = Field(None, description="A user message, or a list of items.")
    conversation: (
        Annotated[Annotated[Name, Tag("<string>")] | Annotated[ConversationReference, Tag("<object>")], StringOrObject]
        | None
    ) = Field(None, description="The conversation that this turn goes on with and is added to: its id, or `{id}`.")
    previous_response_id: Name | None = Field(
        None, description="The response that this turn follows; not together with conversation."
    )
    instructions: str | None = Field(None, description="A system message put in front; not inherited by later turns.")
    prompt: PromptField | None = Field(None, description="A prompt of the server's, put in front.")
    store: bool | None = Field(None, description="Keep the response, so that it can be read again. Absent: true.")
    background: bool | None = Field(None, description="Go on without a reader; needs store.")
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="auto: leave out the oldest turns that do not fit. disabled: refuse what does not fit."
    )
    max_output_tokens: TokenCount | None = Field(None, description="Most tokens the reply may take.")
    top_logprobs: TopLogprobs | None = Field(None, description="Alternatives per token; switches logprobs on.")
    include: Annotated[list[str], Field(max_length=32, fail_fast=True)] | None = Field(
        None, description=f"Only `{LOGPROBS}` has an effect."
    )
    metadata: Metadata | None = Field(None, description="Up to 16 strings that are sent back with the response.")
    text: TextOptions | None = Field(None, description="Only the format `text`.")
    generate: bool | None = Field(None, description="false: only prepare the prompt. Extension on HTTP.")
    prompt_cache_options: PromptCacheOptions | None = Field(None, description="Only `prewarm` has an effect.")
    tools: list[Any] | None = Field(None, description="Refused unless empty or tool_choice is `none`.")
    tool_choice: Any = Field(None, description="Only `none` has an effect.")
    parallel_tool_calls: bool | None = Field(None, description="Sent back.")
    max_tool_calls: TokenCount | None = Field(None, description="Sent back.")
    user: Annotated[str, Field(max_length=512)] | None = Field(None, description="Sent back.")
    safety_identifier: Annotated[str, Field(max_length=512)] | None = Field(None, description="Sent back.")
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = Field(None, description="Sent back.")
    context_management: Any = Field(None, description="Not supported: refused.")
    moderation: Any = Field(None, description="Not supported: refused.")
    grammar: Any = Field(None, description="Not supported: refused.")
    json_schema: Any = Field(None, description="Not supported: refused.")

    @property
    def answered(self) -> bool:
        """Whether more is wanted than the prompt to be prepared."""
        return self.generate is not False and not (self.prompt_cache_options and self.prompt_cache_options.prewarm)

    @property
    def conversation_id(self) -> str | None:
        return self.conversation.id if isinstance(self.conversation, ConversationReference) else self.conversation


def responses_call(body: object) -> Call:
    """The call that a JSON body asks for. Raises `InvalidRequest`."""
    request = validated(ResponsesRequest, body)
    refuse_misplaced(body, _ELSEWHERE)
    _check(request)
    turn = _turn(request)
    if not (turn.input or turn.references or turn.instructions or turn.prompt or turn.conversation or turn.previous):
        raise InvalidRequest(
            "'input' is required and must not be empty", param="input", code="missing_required_parameter"
        )
    wants_logprobs = request.top_logprobs is not None or LOGPROBS in (request.include or ())
    generation = GenerationRequest(
        model=request.model,
        sampling=request.sampling(),
        max_tokens=request.max_output_tokens,
        stop=request.stop_strings(),
        top_logprobs=(request.top_logprobs or 0) if wants_logprobs else None,
        generate=request.answered,
    )
    return Call(generation, request, stream=bool(request.stream), turn=turn)


def _turn(request: ResponsesRequest) -> Turn:
    said, references = parse_input(request.input)
    return Turn(
        input=said,
        references=references,
        instructions=request.instructions or None,
        prompt=_prompt(request.prompt),
        conversation=None if request.conversation_id is None else _conversation(request.conversation_id),
        previous=None if request.previous_response_id is None else _previous(request.previous_response_id),
        store=request.store is not False,
        background=bool(request.background),
        truncation=request.truncation,
    )


def _previous(text: str) -> str:
    if (id := response_id(text)) is None:
        raise InvalidRequest(
            f"'previous_response_id' should be the id of a response, 'resp_' and 32 hex digits: there is no {text!r}",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return id


def _conversation(text: str) -> str:
    if not is_conversation_id(text):
        raise InvalidRequest(
            "'conversation' should be a conversation's id, 'conv_' and 32 hex digits", param="conversation"
        )
    return text


def _check(request: ResponsesRequest) -> None:
    """Refuse what contradicts itself, and what would silently change the meaning."""
    refuse_unsupported(request, _REFUSED)
    if request.tool_choice != "none":
        refuse_unsupported(request, {"tools": _NO_TOOLS})
    if request.text and request.text.format and request.text.format.type != "text":
        raise unsupported("text.format.type", "only 'text' is supported by this server yet")
    if request.conversation is not None and request.previous_response_id is not None:
        raise InvalidRequest(
            "'conversation' and 'previous_response_id' exclude each other: send only one", param="conversation"
        )
    if request.background and (request.store is False or not request.answered):
        raise InvalidRequest(
            "'background' needs a reply, and 'store' to be true: nobody could read it", param="background"
        )


def _prompt(field: PromptField | None) -> PromptReference | None:
    if field is None:
        return None
    given = field.variables or {}
    variables = tuple((name, _variable(f"prompt.variables.{name}", value)) for name, value in given.items())
    return PromptReference(field.id, field.version, variables)


def _variable(param: str, value: str | TextPart) -> str:
    return value if isinstance(value, str) else part_text(param, value)
