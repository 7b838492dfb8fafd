"""A model of llama.cpp's memory that refuses every illegal batch, and draws tokens from what that memory holds.

The next token is a pure function of the whole history in the KV cells of a sequence, not of what the engine believes
to be there: a prefix that was copied wrong, trimmed too little or shared with a stranger changes the text. A token also
carries its tenant here, so that sharing across tenants is seen even for equal tokens. Knows nothing of the scheduler.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from frontdesk.engine.batch import Batch, CacheOp, Chunk, Copy, Drop, Park, Restore, Sampled, Swap, Trim
from frontdesk.engine.core import Interrupted, OutOfCells
from frontdesk.engine.request import SamplingParams, Submit

VOCAB = 40
SAMPLING = SamplingParams(0, 0, 1, 0, 1, 0, 0, 1, 0, (), 0)


@dataclass(eq=False, slots=True)
class Cell:
    """One KV entry. Two slots share it when they hold the same object. One that stood in anybody's `public` beginning
    is for every tenant."""

    token: int
    tenant: int
    public: bool = False


@dataclass(slots=True)
class Memory:
    """What llama.cpp holds: for each slot its cells by position. `cells` for all slots if unified, else for each.

    `parked` is what was saved, by handle.
    """

    slots: list[dict[int, Cell]]
    cells: int
    unified: bool
    parked: dict[int, list[Cell]] = field(default_factory=dict)
    handles: int = 0

    def copy(self) -> Memory:
        return Memory([dict(slot) for slot in self.slots], self.cells, self.unified, dict(self.parked), self.handles)

    def used(self) -> int:
        return len({id(cell) for slot in self.slots for cell in slot.values()})

    def tokens(self, slot: int) -> list[int]:
        held = self.slots[slot]
        assert sorted(held) == list(range(len(held))), f"slot {slot} has holes"
        return [held[position].token for position in range(len(held))]

    def apply(self, op: CacheOp) -> None:
        match op:
            case Trim(slot, length):
                self.slots[slot] = {p: cell for p, cell in self.slots[slot].items() if p < length}
            case Copy(src, dst, length):
                assert src != dst
                assert not self.slots[dst], "copied onto something"
                assert len(self.slots[src]) >= length > 0, "copied more than there is"
                part = {p: cell for p, cell in self.slots[src].items() if p < length}
                if not self.unified:
                    part = {p: replace(cell) for p, cell in part.items()}
                self.slots[dst] = part
            case Swap(a, b):
                assert a != b
                assert not self.unified, "llama.cpp has no cheap swap in one pool, and no need of one"
                self.slots[a], self.slots[b] = self.slots[b], self.slots[a]
            case Park(slot, handle):
                assert handle > self.handles, "a handle is used twice"
                assert self.slots[slot], "nothing to park"
                self.handles = handle
                self.parked[handle] = [self.slots[slot][p] for p in range(len(self.slots[slot]))]
            case Restore(handle, slot, length):
                assert not self.slots[slot], "restored onto something"
                state = self.parked[handle]
                assert 0 < length <= len(state)
                self.slots[slot] = {p: replace(cell) for p, cell in enumerate(state)}
                self.check_capacity()  # llama.cpp restores all of it before it forgets the rest
                self.slots[slot] = {p: cell for p, cell in self.slots[slot].items() if p < length}
            case Drop(handle):
                del self.parked[handle]
        self.check_capacity()

    def write(self, chunk: Chunk) -> None:
        held = self.slots[chunk.slot]
        assert chunk.start == len(held), "positions are not consecutive"
        for position, token in enumerate(chunk.tokens, chunk.start):
            held[position] = Cell(token, chunk.sequence.tenant)
        for position in range(min(chunk.sequence.public, len(held))):
            held[position].public = True
        self.check_capacity()

    def check_capacity(self) -> None:
        if self.unified:
            assert self.used() <= self.cells, "more tokens than cells"
        else:
            assert all(len(slot) <= self.cells for slot in self.slots), "a stream is over its cells"


@dataclass(slots=True)
class Oracle:
    """A `Runner`. `fault` makes the next `execute` fail after it has done a part of its work, as llama.cpp does."""

    memory: Memory
    most_rows: int
    fault: type[Interrupted] | type[OutOfCells] | None = None
    executed: list[Batch] = field(default_factory=list)
    accepted: int = 0

    def execute(self, batch: Batch) -> list[Sampled]:
        for op in batch.ops:
            self.memory.apply(op)
        self._check(batch)
        if self.fault and batch.chunks:
            fault, self.fault = self.fault, None
            raise fault
        self.executed.append(batch)
        for chunk in batch.chunks:
            self.memory.write(chunk)
        return [self._draw(chunk) for chunk in batch.chunks if chunk.sample]

    def _draw(self, chunk: Chunk) -> Sampled:
        """A token behind the chunk, and behind each guess for as long as it is what was drawn and nothing ended."""
        sequence, held = chunk.sequence, self.memory.tokens(chunk.slot)
        first = len(held) - chunk.drafts
        draws: list[int] = []
        for place in range(first, len(held) + 1):
            draws.append(draw(held[:place]))
            generated = place + 1 - sequence.n_prompt
            over = draws[-1] in sequence.stop_tokens or generated == sequence.max_tokens or place + 1 == sequence.window
            if over or held[place : place + 1] != draws[-1:]:
                break
        self.accepted += len(draws) - 1
        return Sampled(draws[0], then=tuple(Sampled(token) for token in draws[1:]))

    def _check(self, batch: Batch) -> None:
        slots = [chunk.slot for chunk in batch.chunks]
        assert slots == sorted(set(slots)), "rows are not in the order of slots, or a slot comes twice"
        assert batch.rows <= self.most_rows, "more rows than the context was opened for"
        for chunk in batch.chunks:
            sequence = chunk.sequence
            assert chunk.tokens, "an empty chunk"
            assert chunk.slot == sequence.slot
            assert self.memory.tokens(chunk.slot) == sequence.tokens[: chunk.start], "the KV is not this sequence's"
            tenants = {cell.tenant for cell in self.memory.slots[chunk.slot].values() if not cell.public}
            assert tenants <= {sequence.tenant}, "a prefix of another tenant"
            known = len(chunk.tokens) - chunk.drafts
            assert known >= 1
            assert chunk.tokens[:known] == sequence.tokens[chunk.start : chunk.start + known]
            if chunk.drafts:
                assert chunk.sample
                assert chunk.start + known == len(sequence.tokens)
                assert len(sequence.tokens) + chunk.drafts < sequence.window, "a guess beyond the window"
        if not self.memory.unified and any(chunk.drafts for chunk in batch.chunks):
            assert len({len(chunk.tokens) for chunk in batch.chunks}) == 1, "llama.cpp would compute them apart"


def draw(history: Iterable[int]) -> int:
    """The token that follows a history: any bit of it matters. Most repeat what followed the last three before."""
    ids = array("H", history)
    chance = zlib.crc32(ids.tobytes())
    if chance % 8 > 1:
        for at in range(len(ids) - 2, 2, -1):
            if ids[at - 3 : at] == ids[-3:]:
                return ids[at]
    return chance // 8 % (3 if chance % 8 else VOCAB)


def alone(request: Submit, window: int) -> tuple[list[int], str]:
    """Tokens and finish of a request by the definition, without any engine."""
    history = [*request.prompt, *request.emitted]
    reply = list(request.emitted)

    def finish() -> str:
        if reply and reply[-1] in request.stop_tokens:
            return "stop"
        return "length" if len(reply) >= request.max_tokens or len(history) >= window else ""

    while not (end := finish()):
        token = draw(history)
        history.append(token)
        reply.append(token)
    return reply[len(request.emitted) :], end
