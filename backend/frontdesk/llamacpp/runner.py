"""Carries out a batch on llama.cpp: KV operations, one `llama_decode`, one draw for each chunk that wants it.

The logits are one view a step. Knows neither requests nor scheduling: what is in the batch was decided in `engine/`.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from time import perf_counter
from typing import Any, Final, Protocol

import numpy as np

from frontdesk.engine.batch import Batch, CacheOp, Chunk, Copy, Drop, Park, Restore, Sampled, Swap, Trim
from frontdesk.engine.core import Interrupted, OutOfCells
from frontdesk.engine.kv_cache import Kept
from frontdesk.llamacpp.choice import GROUP, Padding, TimedChoice
from frontdesk.llamacpp.library import ContextPlan, last_words, llama_cpp, open_context
from frontdesk.llamacpp.rows import Rows
from frontdesk.llamacpp.sampler import Sampler
from frontdesk.llamacpp.states import DecodeFailed, State, restore, saved
from frontdesk.llamacpp.step_costs import MeasuredCosts

INTERRUPTIBLE: Final = 64  # rows; smaller steps are over before an interruption would be noticed
NO_ROOM, ABORTED = 1, 2  # llama_decode's return codes


class StoredState(Protocol):
    """A parked state that lies somewhere else than in memory."""

    def read(self) -> memoryview | None:
        """Its bytes; `None` if they are not there any more, or damaged."""
        ...

    def remove(self) -> None: ...


class LlamaRunner:
    """One context. Not thread-safe, but for `interrupt`, which another thread may set while `execute` runs."""

    def __init__(self, model: Any, plan: ContextPlan) -> None:
        self.context = open_context(model, plan)
        self.interrupt = False
        self.prefilling: frozenset[int] = frozenset()  # ids of the requests whose prompts are in the current step
        self.decode_seconds = 0.0
        self.cells_per_sequence: int = llama_cpp.llama_n_ctx_seq(self.context)
        self._memory: Any = llama_cpp.llama_get_memory(self.context)
        self._n_vocab: int = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._plan = plan
        self._threads = plan.threads
        self._choice = TimedChoice(plan.threads_least, plan.threads)
        self._padding = Padding() if plan.pad_rows else None
        self.costs = MeasuredCosts()
        self._sampler = Sampler()
        self._rows = Rows(max(plan.rows, 64))
        self._parked: dict[int, State] = {}
        self._stored: dict[int, StoredState] = {}
        self._fetched: dict[int, State] = {}  # read, to be restored in the next step
        self._callback = llama_cpp.ggml_abort_callback(lambda _: self.interrupt)
        self._no_callback = llama_cpp.ggml_abort_callback()

    def execute(self, batch: Batch) -> list[Sampled]:
        """See `engine.core.Runner`. Raises `DecodeFailed` as well."""
        for op in batch.ops:
            self._apply(op)
        if not batch.chunks:
            return []
        rows = self._rows.fill(batch.chunks)
        self.interrupt = False
        self.prefilling = frozenset(c.sequence.id for c in batch.chunks if not c.decodes)
        code = self._padded(batch.chunks, rows)
        self.prefilling = frozenset()
        if code:
            self._undo(batch, code)
        return self._draw([chunk for chunk in batch.chunks if chunk.sample])

    def adopt(self, handle: int, stored: StoredState) -> None:
        """This handle stands for a state that is not in memory; it is read when it is wanted."""
        self._stored[handle] = stored

    def loadable(self, handle: int) -> bool:
        """Can this parked state be restored in the next step? Reads it, if it is not in memory."""
        if handle in self._stored:
            data = self._stored[handle].read()
            if data is None:
                return False
            self._fetched[handle] = np.frombuffer(data, np.uint8)
        return True

    def saved(self, kept: Kept) -> State:
        """The state of a slot, or a parked one. No step may be pending."""
        state = self._parked[kept.handle] if kept.handle else self._state(kept.slot)
        assert state is not None
        return state

    def state_bytes(self) -> tuple[int, int]:
        """(base, per token): the saved state of n tokens takes base + n x per token bytes. Computes two tokens."""
        sizes = []
        for position in range(2):
            self._rows.clear()
            self._rows.add(0, position)
            if code := llama_cpp.llama_decode(self.context, self._rows.batch):
                raise DecodeFailed(f"llama_decode returned {code}: {last_words()}")
            sizes.append(llama_cpp.llama_state_seq_get_size(self.context, 0))
        llama_cpp.llama_memory_seq_rm(self._memory, 0, -1, -1)
        return 2 * sizes[0] - sizes[1], sizes[1] - sizes[0]

    def close(self) -> None:
        llama_cpp.llama_free(self.context)

    def _padded(self, chunks: list[Chunk], rows: int) -> int:
        """Decode; where nothing but single tokens is computed, with as many rows to fill up as proved best."""
        if not all(chunk.decodes for chunk in chunks):
            return self._with(self._behind_prompt(chunks, rows) if self._padding else [], rows, wanted=False)
        single = self._padding if rows == len(chunks) else None  # guesses fill up already
        wanted = single.choose(rows) if single else 0
        pads = self._pads(chunks, wanted)
        code = self._with(pads, rows)
        if not code:
            self.costs.note(len(chunks), rows, self.decode_seconds)
            if single and len(pads) == wanted:
                single.note(rows, self.decode_seconds)
        return code

    def _with(self, pads: list[tuple[int, int]], rows: int, *, wanted: bool = True) -> int:
        """Decode with these (sequence, position) as further rows, and forget them."""
        for slot, position in pads:
            self._rows.add(slot, position, wanted=wanted)
        code = self._timed(rows + len(pads))
        for slot, position in pads:
            llama_cpp.llama_memory_seq_rm(self._memory, slot, position, -1)
        return code

    def _behind_prompt(self, chunks: list[Chunk], rows: int) -> list[tuple[int, int]]:
        """What fills up a group of rows behind a prompt's chunk. With streams, llama.cpp computes a row of each
        sequence first, then the rest of a single prompt by itself."""
        room = self._rows.capacity - rows
        if self._plan.unified:
            return [(self._plan.sequences, i) for i in range(min(-rows % GROUP, room))]
        prompts = [chunk for chunk in chunks if not chunk.decodes]
        if len(prompts) > 1:
            return []
        end = prompts[0].start + len(prompts[0].tokens)
        missing = -(len(prompts[0].tokens) - (len(chunks) > 1)) % GROUP
        return [(prompts[0].slot, end + i) for i in range(min(missing, room, self.cells_per_sequence - end))]

    def _pads(self, chunks: list[Chunk], count: int) -> list[tuple[int, int]]:
        """(llama.cpp sequence, position) of rows that may be added; none if there is no place for `count` of them.

        In one pool a sequence of their own has them. With streams, rows are computed together only if their sequences
        are neighbours: the next slots get them, behind whatever they hold.
        """
        if not count or self._rows.capacity < len(chunks) + count:
            return []
        if self._plan.unified:
            return [(self._plan.sequences, position) for position in range(count)]
        after = chunks[-1].slot + 1
        if chunks[0].slot or after != len(chunks) or after + count > self._plan.sequences:
            return []
        pads = [
            (slot, llama_cpp.llama_memory_seq_pos_max(self._memory, slot) + 1) for slot in range(after, after + count)
        ]
        return pads if all(position < self.cells_per_sequence for _, position in pads) else []

    def _draw(self, chunks: list[Chunk]) -> list[Sampled]:
        """One `Sampled` for each chunk. Its logits are one row, and one more for each guess."""
        if not chunks:
            return []
        logits = self._logits(sum(1 + chunk.drafts for chunk in chunks))
        if not any(chunk.drafts for chunk in chunks):
            return self._sampler.sample(logits, [chunk.sequence for chunk in chunks])
        drawn, row = [], 0
        for chunk in chunks:
            drawn.append(self._follow(chunk, logits[row : row + 1 + chunk.drafts]))
            row += 1 + chunk.drafts
        return drawn

    def _follow(self, chunk: Chunk, logits: np.ndarray[Any, np.dtype[np.float32]]) -> Sampled:
        """Draw as without guesses, token after token, for as long as the next row stands behind what was drawn."""
        sequence = chunk.sequence
        guesses = chunk.tokens[len(chunk.tokens) - chunk.drafts :]
        length, draws = len(sequence.tokens), list[Sampled]()
        try:
            for row in range(1 + chunk.drafts):
                draw = self._sampler.sample(logits[row : row + 1], [sequence])[0]
                draws.append(draw)
                sequence.tokens.append(draw.token)  # penalties and random numbers depend on it
                if sequence.finish or guesses[row : row + 1] != [draw.token]:
                    break
        finally:
            del sequence.tokens[length:]
        return replace(draws[0], then=tuple(draws[1:]))

    def _timed(self, rows: int) -> int:
        """Decode with as many threads as proved best for so many rows."""
        self._use_threads(self._choice.choose(rows))
        begun = perf_counter()
        code = self._decode(rows)
        self.decode_seconds = perf_counter() - begun
        self._choice.note(rows, self.decode_seconds)
        return code

    def _decode(self, rows: int) -> int:
        watched = rows >= INTERRUPTIBLE
        if watched:
            llama_cpp.llama_set_abort_callback(self.context, self._callback, ctypes.c_void_p(0))
        code = llama_cpp.llama_decode(self.context, self._rows.batch)
        if watched:
            llama_cpp.llama_set_abort_callback(self.context, self._no_callback, ctypes.c_void_p(0))
        return code

    def _use_threads(self, count: int) -> None:
        if count != self._threads:
            self._threads = count
            llama_cpp.llama_set_n_threads(self.context, 1 if self._plan.exact else count, count)

    def _undo(self, batch: Batch, code: int) -> None:
        """Forget what a broken-off step left behind: llama.cpp keeps the parts that were done."""
        for chunk in batch.chunks:
            llama_cpp.llama_memory_seq_rm(self._memory, chunk.slot, chunk.start, -1)
        if code == ABORTED:
            raise Interrupted
        if code == NO_ROOM:
            raise OutOfCells
        raise DecodeFailed(f"llama_decode returned {code}: {last_words()}")

    def _logits(self, rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        address = ctypes.cast(llama_cpp.llama_get_logits(self.context), ctypes.c_void_p).value
        if address is None:
            raise DecodeFailed("llama.cpp has no logits")
        flat = (ctypes.c_float * (rows * self._n_vocab)).from_address(address)
        return np.frombuffer(memoryview(flat), np.float32).reshape(rows, self._n_vocab)

    # --- KV operations ------------------------------------------------------------------------------------------------

    def _apply(self, op: CacheOp) -> None:
        match op:
            case Trim(slot, length):
                llama_cpp.llama_memory_seq_rm(self._memory, slot, length, -1)
            case Copy(src, dst, length) if self._plan.unified:
                llama_cpp.llama_memory_seq_cp(self._memory, src, dst, 0, length)
            case Copy(src, dst, length):
                self._restore(dst, self._state(src))
                llama_cpp.llama_memory_seq_rm(self._memory, dst, length, -1)
            case Swap(a, b):
                state_a, state_b = self._state(a), self._state(b)
                self._restore(b, state_a)
                self._restore(a, state_b)
            case Park(slot, handle):
                if (state := self._state(slot)) is None:
                    raise DecodeFailed(f"sequence {slot} is to be parked and holds nothing")
                self._parked[handle] = state
            case Restore(handle, slot, length):
                self._unpark(handle, slot)
                llama_cpp.llama_memory_seq_rm(self._memory, slot, length, -1)
            case Drop(handle) if handle in self._stored:
                self._stored.pop(handle).remove()
            case Drop(handle):
                del self._parked[handle]

    def _unpark(self, handle: int, slot: int) -> None:
        if handle in self._parked:
            self._restore(slot, self._parked[handle])
            return
        try:
            self._restore(slot, self._fetched.pop(handle))
        except DecodeFailed:
            self._stored[handle].remove()  # or the next engine would stumble over it as well
            raise

    def _state(self, slot: int) -> State | None:
        return saved(self.context, slot)

    def _restore(self, slot: int, state: State | None) -> None:
        restore(self.context, slot, state)
