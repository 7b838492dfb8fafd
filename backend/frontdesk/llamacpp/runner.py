"""Carries out a batch on llama.cpp: KV operations, one `llama_decode` for what is computed together, and one draw for
each chunk that wants it.

The logits of each `llama_decode` are one view. Knows neither requests nor scheduling: what is in the batch was decided
in `engine/`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Final, Protocol

import numpy as np

from frontdesk.engine.batch import Batch, CacheOp, Chunk, Copy, Drop, Park, Restore, Sampled, Swap, Trim
from frontdesk.engine.core import Interrupted, OutOfCells
from frontdesk.engine.kv_cache import Prefix
from frontdesk.engine.scheduler import GROUP
from frontdesk.llamacpp.choice import Padding, TimedChoice
from frontdesk.llamacpp.library import ContextPlan, last_words, llama_cpp, open_context, slides
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


Place = tuple[int, int]  # llama.cpp's sequence, position


class LlamaRunner:
    """One context. Not thread-safe, but for `interrupt`, which another thread may set while `execute` runs."""

    def __init__(self, model: Any, plan: ContextPlan) -> None:
        self.context = open_context(model, plan)
        self.interrupt = False
        self.prefilling: frozenset[int] = frozenset()  # ids of the requests whose prompts are in the current step
        self.decode_seconds = 0.0  # of the current step, inside llama.cpp
        self.slides = slides(model)  # then there is no `Swap`, `Park` or `Restore`: see `states`
        self.cells_per_sequence: int = llama_cpp.llama_n_ctx_seq(self.context)
        self._memory: Any = llama_cpp.llama_get_memory(self.context)
        self._n_vocab: int = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._plan = plan
        self._threads = plan.threads
        self._choice = TimedChoice(plan.threads_least, plan.threads)
        self._apart = TimedChoice(0, 1) if plan.unified else None
        self._seconds = 0.0  # of the latest call of llama.cpp
        self.costs = MeasuredCosts(plan.steps, filled=plan.pad_rows)
        self._sampler = Sampler()
        self._rows = Rows(max(plan.rows, 64))
        most = self._rows.capacity if plan.unified else plan.sequences
        self._padding = Padding(most, plan.steps) if plan.pad_rows else None
        self._parked: dict[int, State] = {}
        self._stored: dict[int, StoredState] = {}
        self._fetched: dict[int, State] = {}  # read, to be restored in the next step
        self._callback = llama_cpp.ggml_abort_callback(lambda _: self.interrupt)
        self._no_callback = llama_cpp.ggml_abort_callback()

    def execute(self, batch: Batch) -> list[Sampled]:
        """See `engine.core.Runner`. Raises `DecodeFailed` as well."""
        for op in batch.ops:
            self._apply(op)
        self._fetched.clear()
        self.interrupt, self.decode_seconds = False, 0.0
        self.prefilling = frozenset(chunk.sequence.id for chunk in batch.chunks if not chunk.decodes)
        drawn: dict[int, Sampled] = {}
        for chunks in self._parts(batch):
            if code := self._compute(chunks):
                self.prefilling = frozenset()
                self._undo(batch, code)
            wanted = [chunk for chunk in chunks if chunk.sample]
            drawn |= zip((chunk.slot for chunk in wanted), self._draw(wanted), strict=True)
        self.prefilling = frozenset()
        return [drawn[chunk.slot] for chunk in batch.chunks if chunk.sample]

    def adopt(self, handle: int, stored: StoredState) -> None:
        """This handle stands for a state that is not in memory; it is read when it is wanted."""
        self._stored[handle] = stored

    def loadable(self, handle: int) -> bool:
        """Can this parked state be restored in the next step? Reads it, if it is not in memory."""
        if handle in self._stored and handle not in self._fetched:
            data = self._stored[handle].read()
            if data is None:
                return False
            self._fetched[handle] = np.frombuffer(data, np.uint8)
        return True

    def saved(self, prefix: Prefix) -> State:
        """The state of a slot, or a parked one. No step may be pending."""
        state = self._parked[prefix.handle] if prefix.handle else self._state(prefix.slot)
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

    def _parts(self, batch: Batch) -> Iterator[list[Chunk]]:
        """What is computed together: replies' tokens, then prompts. With streams llama.cpp would take a row of each
        sequence before the rest of a prompt; in one pool it depends on the machine, so both ways are timed."""
        replies, prompts = [c for c in batch.chunks if c.decodes], [c for c in batch.chunks if not c.decodes]
        if self._apart is None:
            yield from filter(None, [replies, *([prompt] for prompt in prompts)])
        elif not replies or not prompts:
            yield from filter(None, [batch.chunks])
        else:
            yield from [replies, prompts] if self._apart.choose(batch.rows) else [batch.chunks]
            self._apart.note(batch.rows, self.decode_seconds)

    def _compute(self, chunks: list[Chunk]) -> int:
        """Decode, with rows that fill up a group of them. Returns llama.cpp's code."""
        if all(chunk.decodes for chunk in chunks):
            return self._compute_replies(chunks)
        self._rows.fill(chunks)
        return self._decode_with(self._behind_prompts(chunks) if self._padding else [], wanted=False)

    def _compute_replies(self, chunks: list[Chunk]) -> int:
        """As many rows fill up as proved best; with streams, guesses are as long as fills up a group already."""
        holes = self._holes(chunks)
        rows = self._rows.fill(chunks, holes)
        plain = rows == len(chunks) + len(holes)
        padding = self._padding if plain or self._plan.unified else None
        extra = padding.choose(rows) if padding else 0
        pads = self._pads(chunks, extra) or self._pads(chunks, extra % GROUP)
        code = self._decode_with(pads, holes)
        if not code:
            if self._plan.unified or chunks[-1].slot + 1 == len(chunks):
                self.costs.note(len(chunks), rows, self._seconds)
            if padding and len(pads) == extra:
                padding.note(rows, self._seconds)
        return code

    def _decode_with(self, pads: list[Place], holes: Sequence[Place] = (), *, wanted: bool = True) -> int:
        """Decode what was filled in, the `holes` too, and `pads` as further rows; forget both."""
        for slot, position in pads:
            self._rows.add(slot, position, wanted=wanted)
        code = self._timed(self._rows.count)
        firsts = dict(reversed([*holes, *pads]))  # of each sequence, the lowest position
        for slot, position in firsts.items():
            llama_cpp.llama_memory_seq_rm(self._memory, slot, position, -1)
        return code

    def _behind_prompts(self, chunks: list[Chunk]) -> list[Place]:
        """What fills up a group of rows: with streams behind the prompt that is computed alone."""
        rows = self._rows.count
        missing = min(-rows % GROUP, self._rows.capacity - rows)
        if self._plan.unified:
            return [(self._plan.sequences, i) for i in range(missing)]
        (prompt,) = chunks
        end = prompt.start + len(prompt.tokens)
        return [(prompt.slot, end + i) for i in range(min(missing, self.cells_per_sequence - end))]

    def _holes(self, chunks: list[Chunk]) -> list[Place]:
        """With streams, llama.cpp computes rows together only if their sequences are neighbours. So those between them,
        whose prompts are being computed, get a row too, if they are few: two sequences are as quick one by one."""
        gaps = chunks[-1].slot + 1 - len(chunks)
        guessing = any(len(chunk.tokens) > 1 for chunk in chunks)
        if self._plan.unified or guessing or len(chunks) < 3 or not 0 < gaps < GROUP:
            return []
        used = {chunk.slot for chunk in chunks}
        return self._behind(slot for slot in range(chunks[-1].slot) if slot not in used)

    def _pads(self, chunks: list[Chunk], count: int) -> list[Place]:
        """Rows that may be added; none if there is no place for `count` of them. In one pool a sequence of their own
        has them; with streams the next slots get them."""
        if not count or self._rows.capacity < self._rows.count + count:
            return []
        if self._plan.unified:
            return [(self._plan.sequences, position) for position in range(count)]
        after = chunks[-1].slot + 1
        if after != self._rows.count or after + count > self._plan.sequences:
            return []
        return self._behind(range(after, after + count))

    def _behind(self, slots: Iterable[int]) -> list[Place]:
        """A place in each of these, behind whatever it holds; none if one of them is full."""
        places = [(slot, llama_cpp.llama_memory_seq_pos_max(self._memory, slot) + 1) for slot in slots]
        return places if all(position < self.cells_per_sequence for _, position in places) else []

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
        self._seconds = perf_counter() - begun
        self.decode_seconds += self._seconds
        if not code:
            self._choice.note(rows, self._seconds)
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
            case Copy(src, dst, length) if self.slides:
                llama_cpp.llama_memory_seq_cp(self._memory, src, dst, -1, -1)  # between streams only the whole
                llama_cpp.llama_memory_seq_rm(self._memory, dst, length, -1)
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
            self._restore(slot, self._fetched[handle])
        except DecodeFailed:
            self._stored[handle].remove()  # or the next engine would stumble over it as well
            raise

    def _state(self, slot: int) -> State | None:
        return saved(self.context, slot)

    def _restore(self, slot: int, state: State | None) -> None:
        restore(self.context, slot, state)
