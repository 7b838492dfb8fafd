"""What every wire format offers. The edge (`server/generate`) serves any object of this shape.

A format never does I/O and never sees tokens ids: it turns a parsed JSON body into a `Call`, and the events of the
replies into frames. Encoders are rebuilt by replay, so live and resumed bytes come from one code path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from frontdesk.generation import Event, GenerationRequest, Sampling


@dataclass(frozen=True, slots=True)
class Call:
    """One parsed request: `n` replies to `generation`. `body` is the validated request, for what the format echoes."""

    generation: GenerationRequest
    body: BaseModel
    n: int = 1
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """What the service knows of the replies to a call: `id` without prefix (32 hex digits), `created` in seconds.

    `sampling` is what will really be used where the request said nothing, as far as the service tells.
    """

    id: str
    model: str
    created: int
    sampling: Sampling = field(default_factory=Sampling)


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
    """One POST endpoint. `request` is the pydantic model of its body, `response` an example-free JSON schema name."""

    name: str
    path: str
    request: type[BaseModel]

    def parse(self, body: object) -> Call:
        """Raises `InvalidRequest` naming the field and the limit."""
        ...

    def encoder(self, call: Call, identity: Identity) -> Encoder: ...

    def collect(self, call: Call, identity: Identity, replies: Sequence[Sequence[Event]]) -> dict[str, Any]:
        """The whole answer for `stream: false`. Every reply in `replies` has ended with `Finished`."""
        ...
