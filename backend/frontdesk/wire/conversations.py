"""OpenAI's Conversations: bodies to values, records to JSON. Knows no HTTP and no store.

Beside OpenAI's `metadata` a conversation has two fields of ours: `context` (how its history is fitted into the window)
and `budget`. Each is kept and replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from frontdesk.messages import Item
from frontdesk.wire._fields import Metadata, StrictModel
from frontdesk.wire._ids import ITEM_ID
from frontdesk.wire._items import InputItem, parse_items
from frontdesk.wire._validation import validated

MAX_ITEMS = 20  # of one request; OpenAI's limit
MAX_PINNED = 64


TokenBudget = Annotated[int, Field(ge=1, le=2**53)]


class _Options(StrictModel):
    """Of our own making, so no client sends fields here that we do not know: a misspelt one must not pass unseen."""

    model_config = ConfigDict(extra="forbid")


class ContextOptions(_Options):
    """How a conversation's history is fitted into the model's window. What is left out is as the server is set."""

    policy: Literal["drop", "summarise"] | None = Field(
        None, description="What happens to the oldest turns that do not fit: left out, or replaced by a summary."
    )
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="disabled: a turn that does not fit is refused."
    )
    keep_last: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="Turns that never leave.")
    long_message: Literal["refuse", "cut"] | None = Field(
        None, description="A message that alone does not fit is refused, or loses its middle."
    )
    reserve: Annotated[int, Field(ge=1, le=2**20)] | None = Field(
        None, description="Tokens left free for an answer of unknown length."
    )
    pinned: Annotated[list[Annotated[str, Field(pattern=f"^{ITEM_ID}$")]], Field(max_length=MAX_PINNED)] | None = Field(
        None, description=f"Ids of up to {MAX_PINNED} items that never leave."
    )


class BudgetOptions(_Options):
    """What a conversation may use: tokens of prompts and answers together, and requests."""

    tokens_per_minute: TokenBudget | None = Field(None, description="Tokens in each minute.")
    tokens_per_day: TokenBudget | None = Field(None, description="Tokens in each day in UTC.")
    tokens_total: TokenBudget | None = Field(None, description="Tokens of all turns together.")
    requests_per_minute: Annotated[int, Field(ge=1, le=2**31)] | None = Field(
        None, description="Requests in each minute."
    )


class ConversationFields(StrictModel):
    """What may be said about a conversation."""

    metadata: Metadata | None = Field(None, description="Up to 16 strings.")
    context: ContextOptions | None = Field(None, description="How history is fitted into the window. Extension.")
    budget: BudgetOptions | None = Field(None, description="Token budget. Extension.")


class CreateConversation(ConversationFields):
    """Body of `POST /v1/conversations`; all of it may be left out."""

    items: Annotated[list[InputItem], Field(max_length=MAX_ITEMS, fail_fast=True)] | None = Field(
        None, description=f"Up to {MAX_ITEMS} items to begin with."
    )


class UpdateConversation(ConversationFields):
    """Body of `POST /v1/conversations/{id}`. What is left out stays; null empties."""


class CreateItems(StrictModel):
    """Body of `POST /v1/conversations/{id}/items`."""

    items: Annotated[list[InputItem], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)] = Field(
        description=f"Up to {MAX_ITEMS} items to add at the end."
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a conversation. `metadata` None stays as it is; so does an option that `options` has not."""

    metadata: dict[str, str] | None
    options: dict[str, object]

    @property
    def fields(self) -> tuple[str, ...]:
        """What it changes, by its names in the body."""
        return (*(["metadata"] if self.metadata is not None else []), *self.options)

    @property
    def pinned(self) -> tuple[str, ...]:
        """Ids of the items that are to be pinned."""
        context: Any = self.options.get("context") or {}
        return tuple(context.get("pinned") or ())

    def applied_to(self, options: Mapping[str, object]) -> dict[str, object]:
        """The options afterwards: an empty one is gone."""
        return {name: value for name, value in {**options, **self.options}.items() if value}


def parse_create(body: object, *, created: int) -> tuple[Change, tuple[Item, ...]]:
    """Raises `InvalidRequest`, like the other parsers. `created` is in seconds since 1970."""
    request = validated(CreateConversation, body)
    return _change(request, body), parse_items(request.items or (), "items", created=created)


def parse_update(body: object) -> Change:
    return _change(validated(UpdateConversation, body), body)


def parse_new_items(body: object, *, created: int) -> tuple[Item, ...]:
    return parse_items(validated(CreateItems, body).items, "items", created=created)


def conversation_json(
    id: str, *, created: int, updated: int, metadata: Mapping[str, str], options: Mapping[str, object]
) -> dict[str, Any]:
    """A conversation. `context` and `budget` are null where nothing was said about them."""
    return {
        "id": id,
        "object": "conversation",
        "created_at": created,
        "updated_at": updated,
        "metadata": dict(metadata),
        "context": options.get("context"),
        "budget": options.get("budget"),
    }


def deleted_json(id: str) -> dict[str, Any]:
    return {"id": id, "object": "conversation.deleted", "deleted": True}


def _change(request: ConversationFields, body: object) -> Change:
    """A field that is null says that nothing is wanted any more; one that is not there says nothing."""
    given = set(body) if isinstance(body, dict) else set()
    options = {name: _plain(getattr(request, name)) for name in ("context", "budget") if name in given}
    return Change((request.metadata or {}) if "metadata" in given else None, options)


def _plain(value: BaseModel | None) -> object:
    return None if value is None else value.model_dump(exclude_none=True)
