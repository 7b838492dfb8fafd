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
    """Compute `tokens` of `sequence`, the first at position `start`; draw a token after the last one if `sample`.

    The last `drafts` of the tokens are guesses: a token is drawn before each of them, and the next one only where what
    was drawn is what was guessed.
    """

    sequence: Sequence
    slot: int
    start: int
    tokens: list[int]
    sample: bool
    drafts: int = 0

    @property
    def decodes(self) -> bool:
        """Is it one token of a running reply, rather than a part of a prompt?"""
        return self.sample and len(self.tokens) - self.drafts == 1


@dataclass(slots=True)
class Batch:
    """One step. `chunks` are in rising order of slot, which llama.cpp needs to compute them together."""

    ops: list[CacheOp] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    preempted: int = 0
    accepted: int = 0  # guesses that proved right, known when the step is done

    @property
    def rows(self) -> int:
        return sum(len(chunk.tokens) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token drawn for one chunk; `then` are those drawn behind guesses that were right."""

    token: int
    logprobs: Logprobs | None = None
    then: tuple[Sampled, ...] = ()

    def all(self) -> tuple[Sampled, ...]:
        return (self, *self.then)
