"""What every wire format offers. The edge (`server/generate`) serves any object of this shape.

A format never does I/O and never sees token ids: it turns a parsed JSON body into a `Call`, and the events of the
replies into frames. Encoders are rebuilt by replay, so live and resumed bytes come from one code path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from frontdesk.generation import ContextReport, Event, GenerationRequest, Sampling, Truncation, Turn


@dataclass(frozen=True, slots=True)
class Call:
    """One parsed request: `n` replies to `generation`. `body` is the validated request, for what the format echoes.

    `turn` is set by formats whose conversations may be kept. Then `generation` says neither messages, text nor tokens:
    what the model reads follows from the turn and from what is kept.
    """

    generation: GenerationRequest
    body: BaseModel
    n: int = 1
    stream: bool = False
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What the service knows of the replies to a call: `id` without prefix (32 hex digits), `created` in seconds.

    `sampling` and `truncation` are what will really be used where the request said nothing, as far as the service
    tells. `conversation` is the id with its prefix; `context` is what of it was sent to the model. `store` says whether
    the reply is kept, `background` whether it goes on without a reader.
    """

    id: str
    model: str
    created: int
    sampling: Sampling = field(default_factory=Sampling)
    truncation: Truncation | None = None
    conversation: str | None = None
    context: ContextReport | None = None
    store: bool = False
    background: bool = False


class Encoder(Protocol):
    """Stateful, one per reader: events of `n` replies in the order in which they are read."""

    def start(self) -> bytes:
        """Frames that come before any event of a reply."""
        ...

    def encode(self, choice: int, events: Sequence[Event]) -> bytes:
        """Frames for the next events of reply number `choice` (0 … n-1); may be empty."""
        ...

    def end(self) -> bytes:
        """Frames after the last event of the last reply. Empty after a failure."""
        ...


class HttpFormat(Protocol):
    """One POST endpoint. `request` is the pydantic model of its body; no other format has it. `has_turns`: its calls
    have a turn, so that its replies may be kept for whoever asks for them by their id."""

    name: str
    path: str
    request: type[BaseModel]
    has_turns: bool

    def parse(self, body: object) -> Call:
        """Raises `InvalidRequest` naming the field and the limit."""
        ...

    def request_json(self, call: Call) -> bytes:
        """The request as JSON, which `parse` makes the same call of again, but for the ids of the turn's items."""
        ...

    def encoder(self, call: Call, identity: Identity) -> Encoder: ...

    def collect(self, call: Call, identity: Identity, replies: Sequence[Sequence[Event]]) -> dict[str, Any]:
        """The whole answer for `stream: false`. Every reply in `replies` has ended with `Finished`, but for a call in
        the background: of that it tells how far the reply has come."""
        ...
