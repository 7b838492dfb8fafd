"""The plan of one step, as data: which KV operations come first, then which tokens of which sequences are computed.

Made by the scheduler, carried out by a `Runner` (`engine/core`). Positions are in tokens from the sequence's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from frontdesk.engine.request import Logprobs
from frontdesk.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Copy:
    """Slot `dst` (empty) gets the first `length` tokens' KV of slot `src`, which keeps its own."""

    src: int
    dst: int
    length: int


@dataclass(frozen=True, slots=True)
class Trim:
    """Slot `slot` forgets everything from position `length` on; 0 empties it."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Slots `a` and `b` exchange their contents."""

    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Park:
    """Keep a copy of all that slot `slot` holds, outside of the KV cache, under this new `handle`."""

    slot: int
    handle: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Slot `slot` (empty) gets the first `length` tokens' KV of a parked state, which is kept."""

    handle: int
    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Drop:
    """The parked state is not needed any more."""

    handle: int


CacheOp = Copy | Trim | Swap | Park | Restore | Drop


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `tokens` of `sequence`, the first at position `start`; draw a token after the last one if `sample`."""

    sequence: Sequence
    slot: int
    start: int
    tokens: list[int]
    sample: bool


@dataclass(slots=True)
class Batch:
    """One step. `chunks` are in rising order of slot, which llama.cpp needs to compute them together."""

    ops: list[CacheOp] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    preempted: int = 0

    @property
    def rows(self) -> int:
        return sum(len(chunk.tokens) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token drawn for one chunk."""

    token: int
    logprobs: Logprobs | None = None
