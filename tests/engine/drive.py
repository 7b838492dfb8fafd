"""Runs an engine over the oracle and checks, at every step, what must hold whatever comes.

`House` is one engine with its oracle; `submit`, `abort` and `step` are what a worker does. Every step is checked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.engine.oracle import SAMPLING, Memory, Oracle, alone

from frontdesk.engine.batch import Batch, Swap
from frontdesk.engine.core import Engine, Interrupted, OutOfCells
from frontdesk.engine.kv_cache import KVCache
from frontdesk.engine.parked import ParkedPrefixes, decode
from frontdesk.engine.request import SequenceOutput, Submit
from frontdesk.engine.scheduler import Scheduler, least_piece, most_rows
from frontdesk.engine.sequence import Sequence


@dataclass(frozen=True)
class Plan:
    """How an engine is set up. `cells` is for all slots together; without `unified` each slot has one window."""

    slots: int = 4
    idle: int = 4
    window: int = 256
    cells: int = 1024
    chunk: int = 64
    busy: int = 16
    unified: bool = True
    parked: int = 0  # bytes; a token takes 3, a state 7 more
    factor: float | None = -1.0  # cost of a step with guesses, `StepCosts`; -1: none are made
    swaps: bool = True


@dataclass
class Costs:
    """Every step with guesses costs this much."""

    value: float | None

    def factor(self, streams: int, rows: int) -> float | None:
        return 1.0 if streams == rows else self.value


@dataclass
class Told:
    """What a request heard."""

    tokens: list[int] = field(default_factory=list)
    finishes: list[str] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)


class Watched(Scheduler):
    """Checks whose turn it is, and remembers in which order everybody got a slot for the first time."""

    begun: dict[Sequence, None]

    def _admit(self, wants: dict[Sequence, int]) -> Sequence | None:
        running = Counter(sequence.tenant for sequence in self.running)
        back = [sequence for sequence in self.waiting if sequence.preemptions]
        new = [sequence for sequence in self.waiting if not sequence.preemptions]
        turns = [*back, *sorted(new, key=lambda sequence: running[sequence.tenant])]
        admitted = super()._admit(wants)
        if admitted:
            assert admitted is turns[0], "somebody jumped the line"
            self.begun.setdefault(admitted)
        return admitted


class House:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        slots = plan.slots + plan.idle if plan.unified else plan.slots
        cells = plan.cells if plan.unified else plan.window * plan.slots
        parked = ParkedPrefixes(plan.parked, 7, 3)
        self.cache = KVCache(slots, cells, unified=plan.unified, swaps=plan.swaps, parked=parked)
        memory = Memory([{} for _ in range(slots)], cells if plan.unified else plan.window, plan.unified)
        self.oracle = Oracle(memory, most_rows(plan.slots, plan.chunk, plan.busy))
        costs = None if plan.factor == -1 else Costs(plan.factor)
        self.scheduler = Watched(self.cache, slots=plan.slots, chunk=plan.chunk, chunk_busy=plan.busy, costs=costs)
        self.scheduler.begun = {}
        self.engine = Engine(self.scheduler, self.oracle, plan.window)
        self.requests: dict[int, Submit] = {}
        self.told: dict[int, Told] = {}
        self.aborted: set[int] = set()
        self.preempted = 0
        self.given_up = 0  # steps that found no way to make room

    def submit(self, request: Submit) -> None:
        self.requests[request.id] = request
        self.told[request.id] = Told()
        if output := self.engine.submit(request):
            self._hear([output])

    def ask(self, prompt: list[int], max_tokens: int = 8, **more: object) -> int:
        """Submit a request with the next free id; returns the id."""
        values = {"emitted": (), "stop_tokens": (), "sampling": SAMPLING, **more}
        request = Submit(id=len(self.requests), prompt=tuple(prompt), max_tokens=max_tokens, **values)  # pyright: ignore[reportArgumentType]
        self.submit(request)
        return request.id

    def abort(self, id: int) -> None:
        self.aborted.add(id)
        self.engine.abort(id)

    def step(self) -> None:
        """One step with all checks. A fault of the oracle is survived, as the worker does."""
        before = self._line()
        progress = [(s, len(s.tokens), s.computed) for s in before[:1]]
        streams = [s for s in self.scheduler.running if s.remaining == 1]
        faulty = self.oracle.fault is not None
        try:
            batch, outputs = self.engine.step()
        except Interrupted:
            assert faulty
        except OutOfCells:
            assert faulty
            assert len(self.scheduler.running) == 1
            self.given_up += 1
        else:
            self.preempted += batch.preempted
            assert self.plan.swaps or not any(isinstance(op, Swap) for op in batch.ops), "somebody changed the slot"
            self._hear(outputs)
            if not faulty:
                for oldest, length, computed in progress:
                    assert oldest not in self._line() or (len(oldest.tokens), oldest.computed) > (length, computed)
                self._check_shares(batch, streams, {output.id for output in outputs})
        self._check_books()

    def run(self, steps: int = 5_000) -> None:
        """Until nothing is left to do; by then everybody was heard."""
        while self.engine.busy:
            assert steps, "no end"
            steps -= 1
            self.step()
        for id, request in self.requests.items():
            tokens, finish = alone(request, self.plan.window)
            told = self.told[id]
            if id in self.aborted:
                assert told.tokens == tokens[: len(told.tokens)]
                assert len(told.finishes) <= 1
            else:
                assert (told.tokens, told.finishes) == (tokens, [finish]), f"request {id}"
        self._check_nothing_leaked()

    def run_to_end(self, id: int) -> None:
        """Until this request is done."""
        while not self.told[id].finishes:
            self.step()

    def _hear(self, outputs: list[SequenceOutput]) -> None:
        for output in outputs:
            told = self.told[output.id]
            assert output.id not in self.aborted, "spoke after its abort"
            assert not told.finishes, "spoke after its end"
            told.tokens += output.tokens
            told.finishes += [output.finish] if output.finish else []
            if output.cached >= 0:
                assert not told.cached, "cached was told twice"
                told.cached.append(output.cached)

    def _line(self) -> list[Sequence]:
        """Everybody who is not done: those who had a slot, the oldest first, then the others in order of arrival."""
        line = [*self.scheduler.running, *self.scheduler.waiting]
        begun, order = list(self.scheduler.begun), list(self.requests)
        had = [s for s in line if s in self.scheduler.begun]
        new = [s for s in line if s not in self.scheduler.begun]
        assert had == sorted(had, key=begun.index), "who had a slot is not in the order in which they got it"
        assert line == [*had, *sorted(new, key=lambda s: order.index(s.id))], "who waits is not in order of arrival"
        return line

    def _check_shares(self, batch: Batch, streams: list[Sequence], heard: set[int]) -> None:
        # Guesses are no part of a prompt: they come along where somebody who stepped back lacks but one token again.
        prompts = sum(len(c.tokens) - c.drafts for c in batch.chunks if c.sequence not in streams)
        decoding = [c for c in batch.chunks if c.sequence in streams]
        chunk = self.plan.busy if decoding else self.plan.chunk
        assert prompts < chunk + max(1, least_piece(chunk)), "the prompt's chunk is over its budget"
        for stream in streams:
            stepped_back = stream in self.scheduler.waiting
            assert stream.id in heard or stepped_back or not stream.max_tokens, "a running stream got no token"

    def _check_books(self) -> None:
        memory = self.oracle.memory.copy()
        for op in self.cache.ops:
            memory.apply(op)
        for i, slot in enumerate(self.cache.slots):
            assert slot.tokens == memory.tokens(i), f"slot {i}: the books differ from the memory"
            assert len(slot.cells) == len(slot.tokens)
        counts = Counter(cell for slot in self.cache.slots for cell in slot.cells)
        assert self.cache.used_cells == len(counts) == memory.used()
        owners = [slot.owner for slot in self.cache.slots if slot.owner]
        assert sorted(s.id for s in owners) == sorted(s.id for s in self.scheduler.running)
        parked = {entry.handle: entry for entry in self.cache.parked.entries()}
        assert parked.keys() == memory.parked.keys(), "the books of what is parked differ"
        for handle, entry in parked.items():
            assert decode(entry.key) == [cell.token for cell in memory.parked[handle]]
            assert {cell.tenant for cell in memory.parked[handle][entry.public :]} <= {entry.tenant}
            assert all(cell.public or cell.tenant == entry.tenant for cell in memory.parked[handle])
        assert self.cache.parked.used == sum(7 + 3 * entry.length for entry in parked.values()) <= self.plan.parked
        if not self.plan.unified and self.plan.swaps:
            assert all(s.slot is not None and s.slot < len(owners) for s in owners), "running slots are not neighbours"

    def _check_nothing_leaked(self) -> None:
        assert self.cache.evict_idle(self.cache.cells), "cells are lost"
        self._check_books()
        assert self.cache.used_cells == 0
        assert sorted(self.cache._free) == list(range(self.cache.cells))
