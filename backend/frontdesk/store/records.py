"""What the store keeps, as pure values. Nothing here knows SQL, HTTP or what a token means.

Times are in whole seconds since 1970 unless they are `float`. `bytes` fields that a docstring calls JSON are opaque:
the store gives back exactly what it was given. Every record that has an `owner` is visible to that owner alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from frontdesk.generation import Usage
from frontdesk.messages import Item
from frontdesk.principal import Limits

ResponseStatus = Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]
Outcome = Literal["finished", "cancelled", "failed"]
BudgetKind = Literal["key", "visitor", "conversation"]
Grouping = Literal["key", "visitor", "model", "day", "conversation"]
HandoffState = Literal["open", "done"]
Rating = Literal["up", "down"]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Page(Generic[Value]):
    """A stretch of a list; `has_more` says whether anything follows in the direction that was asked for."""

    items: list[Value]
    has_more: bool


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """A conversation without its items. `options` is a JSON object; `updated` moves with every change and reply."""

    id: str
    owner: str
    created: int
    updated: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays for a response, besides its conversation: ids of a key and of a visitor."""

    key: str | None = None
    visitor: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """One reply: what was asked, what it needs to be continued after a crash, and what came of it.

    `id` is 32 hex digits. `request`, `parameters`, `context` and `error` are JSON; `prompt` is what the engine was
    given, and empty once the reply has ended. `output`, `completed`, `usage` and `error` are there from then on.
    """

    id: str
    owner: str
    conversation: str | None
    previous: str | None
    status: ResponseStatus
    created: int
    model: str
    completed: int | None = None
    background: bool = False
    request: bytes = b"{}"
    parameters: bytes = b"{}"
    prompt: tuple[int, ...] = ()
    input: tuple[Item, ...] = ()
    output: tuple[Item, ...] = ()
    context: bytes = b"{}"
    account: Account = field(default_factory=Account)
    usage: Usage | None = None
    error: bytes | None = None

    @property
    def ended(self) -> bool:
        return self.status != "in_progress"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a response: `output` is empty while it has not ended, and when it failed."""

    id: str
    status: ResponseStatus
    output: tuple[Item, ...]

    @property
    def ended(self) -> bool:
        return self.status != "in_progress"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Some tokens of a reply. `position` is the index of the first one in the reply; `logprobs` is opaque."""

    response: str
    position: int
    tokens: tuple[int, ...]
    finish: str = ""
    cached: int = -1  # prompt tokens whose KV was there; -1 = not known yet
    logprobs: bytes = b""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What one reply used, in tokens. `reply` is unique: a reply is paid for once. `at` is in seconds since 1970."""

    reply: str
    at: float
    owner: str
    key: str | None
    visitor: str | None
    conversation: str | None
    model: str
    prompt: int
    cached: int
    completion: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Ending:
    """How a response ends. `error` is JSON `{code, message}`, for failed ones. `kept_out`: it adds nothing to its
    conversation though it did not fail."""

    response: str
    status: ResponseStatus
    completed: int
    usage: Usage
    output: tuple[Item, ...]
    error: bytes | None
    ledger: LedgerEntry
    kept_out: bool = False

    @property
    def adds(self) -> bool:
        """Whether its conversation gets what was said. A turn that failed can be sent again."""
        return self.status != "failed" and not self.kept_out


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's own name for a request. `fingerprint` tells another request under the same name from a repetition;
    `expires` is in seconds since 1970."""

    key: str
    fingerprint: bytes
    expires: float


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key, without the secret itself: `hash` is what is left of it."""

    id: str
    name: str
    hash: bytes
    scopes: frozenset[str]
    limits: Limits
    created: int
    expires: int | None = None
    revoked: int | None = None
    last_used: int | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """What somebody thinks of one item of a conversation. `id` stays when they change their mind; `created` is
    when they last did."""

    id: str
    conversation: str
    item: str
    rating: Rating
    comment: str | None
    created: int


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """Feedback with what it is about: texts of the question and the answer, and the model that wrote it. No question
    where none was asked, no model where none was asked for the answer."""

    feedback: FeedbackRecord
    question: str | None
    answer: str
    model: str | None


@dataclass(frozen=True, slots=True)
class WidgetRecord:
    """A chat window that pages of some origins may embed.

    `key` pays for all of its visitors, and holds its name, its limits as a whole, its age and its end; nobody knows
    that key's secret. `persona` None is the model's own. `identified_only`: nobody comes without a signed identity.
    `visitor_limits` are those of each visitor.
    """

    id: str
    key: KeyRecord
    origins: tuple[str, ...]
    persona: str | None = None
    identified_only: bool = False
    visitor_limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class HandoffRecord:
    """A visitor's wish to be answered by a person: how to reach them, and about what. It goes with its conversation."""

    id: str
    conversation: str
    state: HandoffState
    created: int
    contact: str | None = None
    message: str | None = None
