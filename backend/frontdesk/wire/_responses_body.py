"""The request of the OpenAI Responses API: its fields, and how its items become messages.

Shared by `POST /v1/responses` and the WebSocket of the same path, so that both are equally strict. What needs kept
responses (`conversation`, `background`, …) is refused by name. Knows no events and no transport.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from frontdesk.errors import InvalidRequest
from frontdesk.generation import GenerationRequest
from frontdesk.messages import Message, ToolCall
from frontdesk.wire._fields import (
    MAX_MESSAGES,
    Content,
    Metadata,
    Name,
    SamplingFields,
    StrictModel,
    StringOrList,
    TextPart,
    TokenCount,
    TopLogprobs,
)
from frontdesk.wire._format import Call
from frontdesk.wire._validation import refuse_unsupported, unsupported, validated

LOGPROBS = "message.output_text.logprobs"
TEXT_PARTS = ("input_text", "output_text", "text")

_NOT_KEPT = "this server does not keep responses yet: send the whole conversation in 'input'"
_REFUSED = {
    "conversation": _NOT_KEPT,
    "background": _NOT_KEPT,
    "prompt": "stored prompts are not supported by this server",
    "context_management": "compaction is not supported by this server yet",
    "moderation": "moderation is not supported by this server",
}
_NO_TOOLS = "tools are not supported by this server yet; leave the field out or set tool_choice to 'none'"


class MessageItem(StrictModel):
    """A message; `type` may be left out."""

    type: Literal["message"] | None = Field(None, description="Kind of the item.")
    role: Literal["user", "assistant", "system", "developer"] = Field(description="Who speaks.")
    content: Content = Field(description="Text, or a list of input_text, output_text or text parts, which are joined.")


class FunctionCallItem(StrictModel):
    """A tool call that the assistant made earlier."""

    type: Literal["function_call"] = Field(description="Kind of the item.")
    call_id: Name = Field(description="The id that its output refers to.")
    name: Name = Field(description="Name of the function.")
    arguments: str = Field(description="Its arguments as JSON text.")


class FunctionCallOutputItem(StrictModel):
    """What an earlier tool call returned."""

    type: Literal["function_call_output"] = Field(description="Kind of the item.")
    call_id: Name = Field(description="The call that it answers.")
    output: Content = Field(description="Text, or a list of text parts, which are joined.")


def _item_kind(item: Any) -> str | None:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    if kind is None and isinstance(item, dict | MessageItem):
        return "<message>"
    return f"<{kind}>" if kind in ("message", "function_call", "function_call_output") else None


Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")],
    Discriminator(
        _item_kind,
        custom_error_type="unsupported_parameter",
        custom_error_message="Input should be an item of type message, function_call or function_call_output",
    ),
]
Input = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[Item], Field(max_length=MAX_MESSAGES, fail_fast=True), Tag("<list>")],
    StringOrList,
]


class TextFormat(StrictModel):
    """Form of the answer."""

    type: Annotated[str, Field(max_length=64)] = Field(description="Only `text`.")


class TextOptions(StrictModel):
    """Options of the answer's text."""

    format: TextFormat | None = Field(None, description="Form of the answer.")


class ResponsesRequest(SamplingFields):
    """Body of `POST /v1/responses`. Unknown fields are ignored."""

    input: Input | None = Field(None, description="A user message, or the items of the conversation so far.")
    instructions: str | None = Field(None, description="A system message put in front; not inherited by later turns.")
    max_output_tokens: TokenCount | None = Field(None, description="Most tokens the reply may take.")
    top_logprobs: TopLogprobs | None = Field(None, description="Alternatives per token; switches logprobs on.")
    include: Annotated[list[str], Field(max_length=32, fail_fast=True)] | None = Field(
        None, description=f"Only `{LOGPROBS}` has an effect."
    )
    metadata: Metadata | None = Field(None, description="Up to 16 strings that are sent back with the response.")
    text: TextOptions | None = Field(None, description="Only the format `text`.")
    truncation: Literal["auto", "disabled"] | None = Field(None, description="Sent back; nothing is truncated yet.")
    store: bool | None = Field(None, description="Accepted; responses are not stored yet, so `false` is sent back.")
    generate: bool | None = Field(None, description="false: only prepare the prompt. Extension on HTTP.")
    previous_response_id: Name | None = Field(None, description="Only on the WebSocket; refused over HTTP.")
    tools: list[Any] | None = Field(None, description="Refused unless empty or tool_choice is `none`.")
    tool_choice: Any = Field(None, description="Only `none` has an effect.")
    parallel_tool_calls: bool | None = Field(None, description="Sent back.")
    max_tool_calls: TokenCount | None = Field(None, description="Sent back.")
    user: Annotated[str, Field(max_length=512)] | None = Field(None, description="Sent back.")
    safety_identifier: Annotated[str, Field(max_length=512)] | None = Field(None, description="Sent back.")
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = Field(None, description="Sent back.")
    conversation: Any = Field(None, description="Not supported yet: refused.")
    background: bool | None = Field(None, description="true is not supported yet: refused.")
    prompt: Any = Field(None, description="Not supported: refused.")
    context_management: Any = Field(None, description="Not supported yet: refused.")
    moderation: Any = Field(None, description="Not supported: refused.")


def responses_request(body: object) -> ResponsesRequest:
    """The validated request; refuses what would silently change the meaning, except `previous_response_id`."""
    request = validated(ResponsesRequest, body)
    refuse_unsupported(request, _REFUSED)
    if request.tool_choice != "none":
        refuse_unsupported(request, {"tools": _NO_TOOLS})
    if request.text and request.text.format and request.text.format.type != "text":
        raise unsupported("text.format.type", "only 'text' is supported by this server yet")
    return request


def refuse_previous(request: ResponsesRequest) -> None:
    if request.previous_response_id is not None:
        raise unsupported("previous_response_id", _NOT_KEPT)


def input_messages(request: ResponsesRequest) -> tuple[Message, ...]:
    """The new messages of this turn, without instructions."""
    if isinstance(request.input, str):
        return (Message("user", request.input),)
    return tuple(_joined(_message(f"input.{i}", item) for i, item in enumerate(request.input or ())))


def responses_call(request: ResponsesRequest, context: tuple[Message, ...]) -> Call:
    """The call for `context`: everything said so far, this turn's input included."""
    system = (Message("system", request.instructions),) if request.instructions else ()
    if not system + context:
        raise InvalidRequest(
            "'input' is required and must not be empty", param="input", code="missing_required_parameter"
        )
    wants_logprobs = request.top_logprobs is not None or LOGPROBS in (request.include or ())
    generation = GenerationRequest(
        model=request.model,
        messages=system + context,
        sampling=request.sampling(),
        max_tokens=request.max_output_tokens,
        stop=request.stop_strings(),
        top_logprobs=(request.top_logprobs or 0) if wants_logprobs else None,
        generate=request.generate is not False,
    )
    return Call(generation, request, stream=bool(request.stream))


def _message(param: str, item: MessageItem | FunctionCallItem | FunctionCallOutputItem) -> Message:
    if isinstance(item, FunctionCallItem):
        return Message("assistant", "", tool_calls=(ToolCall(item.call_id, item.name, item.arguments),))
    if isinstance(item, FunctionCallOutputItem):
        return Message("tool", _text(f"{param}.output", item.output), tool_call_id=item.call_id)
    return Message(item.role, _text(f"{param}.content", item.content))


def _joined(messages: Iterable[Message]) -> list[Message]:
    """Tool calls that follow an assistant's text, or each other, are one message: so templates know them."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if message.tool_calls and last and last.role == "assistant":
            joined[-1] = Message("assistant", last.content, tool_calls=last.tool_calls + message.tool_calls)
        else:
            joined.append(message)
    return joined


def _text(param: str, content: str | list[TextPart]) -> str:
    if isinstance(content, str):
        return content
    return "".join(_part(f"{param}.{i}", part) for i, part in enumerate(content))


def _part(param: str, part: TextPart) -> str:
    if part.type not in TEXT_PARTS:
        raise unsupported(f"{param}.type", f"only {', '.join(TEXT_PARTS)} parts are supported: this server reads text")
    if part.text is None:
        raise InvalidRequest(f"'{param}.text' is required", param=f"{param}.text", code="missing_required_parameter")
    return part.text
