"""Items of a conversation: OpenAI's JSON to `messages.Item` and back.

Shared by the Responses body, the WebSocket and the Conversations routes, so that all read and show the same. Text is
kept exactly; the parts of one message are joined. An item that comes in always gets an id of its own, whatever id it
brings: a client may send the same item twice, or one that belongs to somebody else. Knows no events and no store.

A summary is OpenAI's `compaction` item. Its `encrypted_content` is opaque to clients; here it is the plain text, since
there is nothing to hide from the one whose conversation it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from frontdesk.errors import InvalidRequest
from frontdesk.generation import Reference
from frontdesk.messages import Item, ItemKind, ItemStatus, Message, ToolCall, item_id
from frontdesk.wire._fields import MAX_MESSAGES, Content, Name, StrictModel, StringOrList, TextPart, text_of_part
from frontdesk.wire._ids import is_item_id
from frontdesk.wire._lists import list_json

TEXT_PARTS = ("input_text", "output_text", "text")
MAX_REFERENCES = 1000  # of one request: the answers of the longest talk that `MAX_MESSAGES` allows


class _ItemFields(StrictModel):
    status: ItemStatus | None = Field(None, description="Absent: completed.")


class MessageItem(_ItemFields):
    """A message; `type` may be left out."""

    type: Literal["message"] | None = Field(None, description="Kind of the item.")
    role: Literal["user", "assistant", "system", "developer"] = Field(description="Who speaks.")
    content: Content = Field(description="Text, or a list of input_text, output_text or text parts, which are joined.")


class FunctionCallItem(_ItemFields):
    """A tool call that the assistant made earlier."""

    type: Literal["function_call"] = Field(description="Kind of the item.")
    call_id: Name = Field(description="The id that its output refers to.")
    name: Name = Field(description="Name of the function.")
    arguments: str = Field(description="Its arguments as JSON text.")


class FunctionCallOutputItem(_ItemFields):
    """What an earlier tool call returned."""

    type: Literal["function_call_output"] = Field(description="Kind of the item.")
    call_id: Name = Field(description="The call that it answers.")
    output: Content = Field(description="Text, or a list of text parts, which are joined.")


class CompactionItem(_ItemFields):
    """What `POST /v1/responses/compact` made of a conversation."""

    type: Literal["compaction"] = Field(description="Kind of the item.")
    encrypted_content: str = Field(description="The summary, as it was given.")


class ItemReference(StrictModel):
    """An item that the server has: the answer of a kept response, or an item of a conversation."""

    type: Literal["item_reference"] = Field(description="Kind of the item.")
    id: Name = Field(description="The item's id, as the server gave it.")


def _kind_among(*kinds: str) -> Discriminator:
    """Which of these items is meant; `message` when nothing is said."""

    def kind_of(item: Any) -> str | None:
        kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
        if kind is None and isinstance(item, dict | MessageItem):
            return "<message>"
        return f"<{kind}>" if kind in kinds else None

    return Discriminator(
        kind_of,
        custom_error_type="unsupported_parameter",
        custom_error_message=f"Input should be an item of type {', '.join(kinds[:-1])} or {kinds[-1]}",
    )


_KINDS = ("message", "function_call", "function_call_output", "compaction")
AnyItem = (
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")]
    | Annotated[CompactionItem, Tag("<compaction>")]
)
InputItem = Annotated[AnyItem, _kind_among(*_KINDS)]
TurnItem = Annotated[
    AnyItem | Annotated[ItemReference, Tag("<item_reference>")], _kind_among(*_KINDS, "item_reference")
]
Input = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[TurnItem], Field(max_length=MAX_MESSAGES, fail_fast=True), Tag("<list>")],
    StringOrList,
]


def parse_items(items: Iterable[AnyItem], param: str, *, created: int = 0) -> tuple[Item, ...]:
    """Validated items as domain items, with fresh ids. Raises `InvalidRequest` naming `param.<index>…`."""
    return tuple(_item(f"{param}.{i}", item, created) for i, item in enumerate(items))


def parse_input(given: Input | None) -> tuple[tuple[Item, ...], tuple[Reference, ...]]:
    """Like `parse_items`, and what is only referred to; a string is one message of the user, and nothing is no item."""
    if isinstance(given, str):
        return (Item(item_id("message"), "message", Message("user", given)),), ()
    said: list[Item] = []
    references: dict[str, Reference] = {}
    for i, item in enumerate(given or ()):
        if not isinstance(item, ItemReference):
            said.append(_item(f"input.{i}", item, 0))
            continue
        _check_reference(f"input.{i}", item.id, references)
        references[item.id] = Reference(i, item.id)
    return tuple(said), tuple(references.values())


def _check_reference(param: str, id: str, others: Mapping[str, Reference]) -> None:
    """Twice the same is refused, as OpenAI does: a small request could ask for much text."""
    if not is_item_id(id):
        wanted = "the id of an item that this server gave out, such as 'msg_' and 32 hex digits"
        raise InvalidRequest(f"'{param}.id' should be {wanted}: there is no {id!r}", param=f"{param}.id")
    if id in others:
        raise InvalidRequest(f"'{param}.id': item '{id}' is referred to twice", param=f"{param}.id")
    if len(others) == MAX_REFERENCES:
        raise InvalidRequest(f"'{param}' is one item_reference too many: at most {MAX_REFERENCES:,}", param=param)


def item_json(item: Item) -> dict[str, Any]:
    """The item as OpenAI's clients read it."""
    message = item.message
    head: dict[str, Any] = {"id": item.id, "type": item.kind, "status": item.status}
    if item.kind == "function_call":
        (call,) = message.tool_calls
        return {**head, "call_id": call.id, "name": call.name, "arguments": call.arguments}
    if item.kind == "function_call_output":
        return {**head, "call_id": message.tool_call_id, "output": message.content}
    if item.kind == "summary":
        return {
            "id": item.id, "type": "compaction", "encrypted_content": message.content, "covers": list(item.covers)
        }  # fmt: skip
    return {**head, "role": message.role, "content": [_text_part(message)]}


def item_list(items: Sequence[Item], *, has_more: bool = False) -> dict[str, Any]:
    """A page of items."""
    return list_json([item_json(item) for item in items], has_more=has_more)


def text_of(param: str, content: str | list[TextPart], said: bool = False) -> str:
    """The text of string or parts. Raises `InvalidRequest` for parts that are no text."""
    if isinstance(content, str):
        return content
    return "".join(part_text(f"{param}.{i}", part, said) for i, part in enumerate(content))


def part_text(param: str, part: TextPart, said: bool = False) -> str:
    """The part's text; `said` by the assistant. Raises `InvalidRequest`."""
    why = f"only {', '.join(TEXT_PARTS)} parts are supported: this server reads text"
    return text_of_part(param, part, TEXT_PARTS, why, said)


def _item(param: str, item: AnyItem, created: int) -> Item:
    kind: ItemKind
    match item:
        case FunctionCallItem():
            kind = "function_call"
            message = Message("assistant", "", tool_calls=(ToolCall(item.call_id, item.name, item.arguments),))
        case FunctionCallOutputItem():
            kind = "function_call_output"
            message = Message("tool", text_of(f"{param}.output", item.output), tool_call_id=item.call_id)
        case CompactionItem():
            kind, message = "summary", Message("system", item.encrypted_content)
        case MessageItem():
            text = text_of(f"{param}.content", item.content, item.role == "assistant")
            kind, message = "message", Message(item.role, text)
    return Item(item_id(kind), kind, message, item.status or "completed", created)


def _text_part(message: Message) -> dict[str, Any]:
    if message.role == "assistant":
        return {"type": "output_text", "text": message.content, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": message.content}
