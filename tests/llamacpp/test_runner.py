"""llama.cpp behind the runner, with the shipped model: who else is computed must not change anybody's logits.

`Lab` is one context with a scheduler on top; it records the logits of every drawn token.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frontdesk.engine.batch import Batch, Chunk, Copy, Drop, Park, Restore, Sampled, Swap, Trim
from frontdesk.engine.core import Engine, Interrupted, OutOfCells
from frontdesk.engine.kv_cache import KVCache
from frontdesk.engine.parked import ParkedPrefixes
from frontdesk.engine.request import SamplingParams, Submit
from frontdesk.engine.scheduler import Scheduler, most_rows
from frontdesk.engine.sequence import Sequence
from frontdesk.engine.speculative import StepCosts
from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.choice import Padding
from frontdesk.llamacpp.library import ContextPlan, llama_cpp, open_model
from frontdesk.llamacpp.runner import LlamaRunner
from frontdesk.llamacpp.sampler import Sampler

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
GREEDY = SamplingParams(0, 0, 1, 0, 1, 0, 0, 1, 0, (), 0)
WINDOW = 1536
Requests = list[tuple[list[int], int]]


class Recorder(Sampler):
    """Draws as usual and keeps the logits, by request and position."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[int, int], np.ndarray] = {}

    def sample(self, logits: np.ndarray, sequences: list[Sequence]) -> list[Sampled]:
        for row, sequence in zip(logits, sequences, strict=True):
            self.rows[sequence.id, sequence.generated] = row.copy()
        return super().sample(logits, sequences)


class Lab:
    def __init__(
        self, model: Any, *, slots: int, cells: int | None = None, threads: int = 1, exact: bool = True,
        chunk: int = 256, busy: int = 64, parked: int = 0, costs: StepCosts | None = None, pad: bool = False,
        steps: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        unified = cells is not None
        total = cells or slots * WINDOW
        plan = ContextPlan(
            cells=total,
            sequences=slots,
            rows=most_rows(slots, chunk, chunk),
            threads=threads,
            threads_least=threads,
            kv_type="f16",
            unified=unified,
            exact=exact,
            pad_rows=pad,
            steps=steps or {},
        )
        self.runner = LlamaRunner(model, plan)
        self.recorder = self.runner._sampler = Recorder()
        parked_prefixes = ParkedPrefixes(parked, *self.runner.state_bytes()) if parked else None
        self.cache = KVCache(slots, total, unified=unified, parked=parked_prefixes)
        scheduler = Scheduler(self.cache, slots=slots, chunk=chunk, chunk_busy=busy, costs=costs)
        self.engine = Engine(scheduler, self.runner, WINDOW)
        self.drafted = self.accepted = 0
        self.tokens: dict[int, list[int]] = {}
        self.preempted = 0
        self.ops: set[type] = set()

    def ask(
        self, id: int, prompt: list[int], most: int, tenant: int = 0, sampling: SamplingParams = GREEDY, top: int = -1
    ) -> None:
        self.tokens[id] = []
        self.engine.submit(Submit(id, tuple(prompt), (), most, (), sampling, top, tenant))

    def step(self) -> None:
        batch, outputs = self.engine.step()
        self.preempted += batch.preempted
        self.ops |= {type(op) for op in batch.ops}
        self.drafted += sum(chunk.drafts for chunk in batch.chunks)
        self.accepted += batch.accepted
        for output in outputs:
            self.tokens[output.id] += output.tokens
            assert len(output.logprobs) in (0, len(output.tokens))

    def run(self) -> None:
        while self.engine.busy:
            self.step()


MakeLab = Callable[..., Lab]


@pytest.fixture(scope="module")
def model() -> Any:
    return open_model(str(SHIPPED), lambda _: None)


@pytest.fixture
def lab(model: Any) -> Iterator[MakeLab]:
    made: list[Lab] = []

    def make(**settings: Any) -> Lab:
        made.append(Lab(model, **settings))
        return made[-1]

    yield make
    for one in made:
        one.runner.close()


def prompt(seed: int, length: int) -> list[int]:
    numbers = random.Random(seed)
    return [numbers.randrange(300, 2000) for _ in range(length)]


# Lengths on both sides of every border in the kernels; some begin alike, so that prefixes are copied.
REQUESTS: Requests = [
    (prompt(0, 10), 60), (prompt(1, 1), 50), (prompt(2, 33), 40), (prompt(3, 700), 60), (prompt(4, 64), 30),
    (prompt(3, 400) + prompt(9, 40), 12), (prompt(5, 1490), 8), (prompt(2, 30) + prompt(8, 100), 20),
    (prompt(6, 257), 12),
]  # fmt: skip


MANY = [*REQUESTS[:6], *((prompt(20 + i, 150), 100) for i in range(8))]  # grow beyond one window together


def crowd(lab: Lab, requests: Requests = REQUESTS) -> None:
    """All requests, one arriving every three steps; slots are few, so that they move and are taken over."""
    for id, (tokens, most) in enumerate(requests):
        lab.ask(id, tokens, most)
        for _ in range(3):
            lab.step()
    lab.run()


def solo(lab: MakeLab, id: int, requests: Requests = REQUESTS) -> Lab:
    one = lab(slots=1)
    one.ask(id, *requests[id])
    one.run()
    return one


@pytest.mark.parametrize(("threads", "chunk", "busy"), [(1, 100, 7), (2, 256, 64)])
def test_logits_do_not_depend_on_the_others(lab: MakeLab, threads: int, chunk: int, busy: int) -> None:
    """In exact mode a reply would change with the load, and could not be continued by another engine."""
    together = lab(slots=5, threads=threads, chunk=chunk, busy=busy)
    crowd(together)
    assert together.ops >= {Copy, Trim, Swap}
    for id in range(len(REQUESTS)):
        alone = solo(lab, id)
        assert together.tokens[id] == alone.tokens[id]
        for place, row in alone.recorder.rows.items():
            assert (row == together.recorder.rows[place]).all(), f"request {id}, token {place[1]}"


@pytest.mark.parametrize("exact", [True, False])
def test_one_pool_gives_the_same_text(lab: MakeLab, exact: bool) -> None:
    """Sharing cells would change what is said beyond rounding.

    Rounding differs here, so what is asserted: along the common text the logits are apart by less than 15 % of their
    spread (root mean square; measured: 5 %), and where the texts part, the two candidates were close to each other.
    """
    together = lab(slots=12, cells=WINDOW, exact=exact)
    crowd(together, MANY)
    assert together.preempted > 0
    for id in range(len(MANY)):
        alone = solo(lab, id, MANY)
        for at, (ours, theirs) in enumerate(zip(together.tokens[id], alone.tokens[id], strict=True)):
            row, reference = together.recorder.rows[id, at], alone.recorder.rows[id, at]
            apart = np.sqrt(((row - reference) ** 2).mean())
            assert apart < 0.15 * reference.std()
            if ours != theirs:
                assert reference[theirs] - reference[ours] < 0.5 * reference.std()
                break


def test_parked_conversations_come_back_as_they_were(lab: MakeLab) -> None:
    """A visitor who returns would read something else than one who stayed, or would wait as if new."""
    requests: Requests = [(prompt(i, 200 + 30 * i), 20) for i in range(6)]
    one = lab(slots=2, parked=64 << 20)
    for id, request in enumerate(requests):
        one.ask(id, *request)
    one.run()
    returned = [(tokens + one.tokens[id] + prompt(50 + id, 9), 20) for id, (tokens, _) in enumerate(requests)]
    computed = 0
    for id, request in enumerate(returned):
        one.ask(10 + id, *request)
        while one.engine.busy:
            batch, outputs = one.engine.step()
            computed += batch.rows
            one.ops |= {type(op) for op in batch.ops}
            for output in outputs:
                one.tokens[output.id] += output.tokens
    assert one.ops >= {Park, Restore, Drop}
    assert computed <= 6 * (1 + 9 + 20)
    for id in range(6):
        alone = solo(lab, id, returned)
        assert one.tokens[10 + id] == alone.tokens[id]
        for (_, at), row in alone.recorder.rows.items():
            assert (row == one.recorder.rows[10 + id, at]).all(), f"conversation {id}, token {at}"


def test_who_steps_back_in_one_pool_is_restored(lab: MakeLab) -> None:
    """A full pool would cost its victims all that was computed of them, or put their KV back wrong."""
    rows = {}
    texts = {}
    for parked in (0, 64 << 20):
        one = lab(slots=8, cells=WINDOW, exact=False, parked=parked)
        for id in range(8):
            one.ask(id, prompt(id, 150), 120)
        rows[parked] = 0
        while one.engine.busy:
            batch, outputs = one.engine.step()
            rows[parked] += batch.rows
            one.preempted += batch.preempted
            for output in outputs:
                one.tokens[output.id] += output.tokens
        assert one.preempted > 0
        texts[parked] = one.tokens
    whole = 8 * (150 + 120)
    assert rows[64 << 20] <= whole < rows[0]
    same = sum(a == b for id in range(8) for a, b in zip(texts[0][id], texts[64 << 20][id], strict=True))
    assert same >= 0.5 * 8 * 120  # near ties may part; nonsense would part at once


@pytest.mark.parametrize("unified", [True, False])
def test_the_size_of_a_state_is_foreseen(lab: MakeLab, unified: bool) -> None:
    """Parked conversations would take more memory than the books say."""
    one = lab(slots=2, cells=WINDOW if unified else None)
    base, each = one.runner.state_bytes()
    one.ask(0, prompt(1, 333), 1)
    one.run()
    state = one.runner._state(0)
    assert state is not None
    assert state.size == base + 333 * each


class Free:
    """As if guesses cost nothing: they are made wherever there is one."""

    def factor(self, streams: int, rows: int) -> float | None:
        return 0.1 if rows > streams else 1.0


class Always(Padding):
    """Fills up every step, to groups of five, whatever the clock says."""

    def __init__(self) -> None:
        super().__init__(64)
        self.asked = 0

    def choose(self, rows: int) -> int:
        self.asked += 1
        return -rows % 5

    def note(self, rows: int, seconds: float) -> None:
        assert seconds > 0


DRAWN = SamplingParams(0.7, 40, 0.95, 0.05, 1, 0.3, 0.1, 1.1, 64, ((500, 1.5),), 42)


def loops(seed: int, length: int) -> list[int]:
    """A text that comes again and again, so that there is something to guess."""
    part = prompt(seed, 17)
    return (part * (length // len(part) + 1))[:length]


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (2, 1), (1, 3)])
def test_guesses_change_nothing(lab: MakeLab, sampling: SamplingParams, threads: int, streams: int) -> None:
    """A reply that quotes would say something else than without guesses: another logit, token or random number."""
    one, other = lab(slots=3, threads=threads, costs=Free()), lab(slots=3, threads=threads)
    for each in (one, other):
        for id in range(streams):
            each.ask(id, loops(id, 60 + id), 90 + 10 * id, sampling=sampling, top=id)
        each.run()
    assert other.drafted == 0
    assert one.accepted > 0 or sampling is DRAWN
    assert one.accepted < one.drafted or sampling is GREEDY
    assert one.tokens == other.tokens
    for place, row in other.recorder.rows.items():
        assert (row == one.recorder.rows[place]).all(), f"request and token {place}"
    for slot in range(3):
        held = llama_cpp.llama_memory_seq_pos_max(one.runner._memory, slot) + 1
        pending = [op.length for op in one.cache.ops if isinstance(op, Trim) and op.slot == slot]
        assert min([held, *pending]) == len(one.cache.slots[slot].tokens)


def test_guesses_in_one_pool(lab: MakeLab) -> None:
    """Sequences that guess differently share a step in one pool: rows, draws and cells would get mixed up."""
    texts = []
    for costs in (Free(), None):
        one = lab(slots=8, cells=WINDOW, exact=False, costs=costs)
        for id in range(8):
            one.ask(id, loops(id, 90) if id % 2 else prompt(id, 90), 180, sampling=GREEDY)
        one.run()
        assert one.preempted > 0
        assert bool(one.accepted) == bool(costs)
        texts.append(one.tokens)
    same = sum(a == b for id in range(8) for a, b in zip(texts[0][id], texts[1][id], strict=True))
    assert same >= 0.5 * 8 * 180  # near ties may part; nonsense would part at once


def test_rows_that_fill_up_change_nothing(lab: MakeLab) -> None:
    """Rows for nothing would be seen by somebody's attention, or stay in the KV cache."""
    one, other = lab(slots=5), lab(slots=5)
    one.runner._padding = Always()
    for each in (one, other):
        crowd(each, [(prompt(i, 30 + 20 * i), 20 + 5 * i) for i in range(7)])
    assert one.runner._padding.asked > 20
    assert one.tokens == other.tokens
    for place, row in other.recorder.rows.items():
        assert (row == one.recorder.rows[place]).all(), f"request and token {place}"
    held = [llama_cpp.llama_memory_seq_pos_max(one.runner._memory, slot) + 1 for slot in range(5)]
    assert held == [len(slot.tokens) for slot in one.cache.slots]


class Fuller(Padding):
    """Fills up to sixteen, whatever the clock says, and remembers what found a place."""

    def __init__(self) -> None:
        super().__init__(64)
        self.noted: list[int] = []

    def choose(self, rows: int) -> int:
        return -rows % 16

    def note(self, rows: int, seconds: float) -> None:
        self.noted.append(rows)


@pytest.mark.parametrize(("slots", "placed"), [(16, True), (12, False)])
def test_steps_of_sixteen_change_nothing(lab: MakeLab, slots: int, placed: bool) -> None:
    """Seven rows for nothing would change a neighbour's logits; where there is no slot for them, two may still do."""
    one, other = lab(slots=slots), lab(slots=slots)
    one.runner._padding = padding = Fuller()
    for each in (one, other):
        for id in range(9):
            each.ask(id, prompt(id, 40), 12)
        each.run()
    assert (9 in padding.noted) == placed
    assert one.tokens == other.tokens
    for place, row in other.recorder.rows.items():
        assert (row == one.recorder.rows[place]).all(), f"request and token {place}"


def test_the_runner_begins_with_what_was_tuned(lab: MakeLab) -> None:
    """What was measured at the first start would be found out anew at every other."""
    steps = {"decode 1": 10.0, "decode 3": 30.0, "decode 4": 40.0, "verify 4": 20.0}
    for known, factor, extra in ((steps, 2.0, 0), ({}, None, 1)):
        one = lab(slots=4, pad=True, steps=known)
        for _ in range(3):
            one.runner.costs.note(1, 1, 0.1)
        assert one.runner.costs.factor(1, 4) == factor
        assert one.runner._padding is not None
        assert one.runner._padding.choose(3) == extra


@pytest.mark.parametrize("kind", ["recurrent", "hybrid"])
def test_a_model_that_cannot_go_back_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conversations would go wrong: reuse, guesses and rows that fill up all take tokens back."""
    monkeypatch.setattr(llama_cpp, f"llama_model_is_{kind}", lambda model: True)
    with pytest.raises(ModelLoadFailed, match="cannot go back"):
        open_model(str(SHIPPED), lambda _: None)


def test_a_prompt_between_streams(lab: MakeLab) -> None:
    """Logits of the row that stands for the prompt would be taken for a stream's, or its KV stay in the prompt's."""
    one, other = lab(slots=5), lab(slots=5)
    lone = one.runner._holes
    holes = []
    one.runner._holes = lambda chunks: holes.append(lone(chunks)) or holes[-1]
    other.runner._holes = lambda chunks: []
    for each in (one, other):
        for id, most in enumerate((60, 4, 60, 60)):
            each.ask(id, prompt(id, 20 + id), most)
        each.step()
        each.ask(4, prompt(4, 400), 20)  # it takes the place of the second, which ends while it is read
        each.run()
    assert any(holes)
    assert one.tokens == other.tokens
    for place, row in other.recorder.rows.items():
        assert (row == one.recorder.rows[place]).all(), f"request and token {place}"


def test_rows_that_fill_up_one_pool(lab: MakeLab) -> None:
    """They would take cells that the books have given to somebody, who then finds no room."""
    one = lab(slots=12, cells=WINDOW, exact=False, pad=True)
    one.runner._padding = Always()
    crowd(one, MANY)
    assert one.preempted > 0
    assert llama_cpp.llama_memory_seq_pos_max(one.runner._memory, 12) == -1
    one.cache.evict_all()
    one.runner.execute(Batch(ops=one.cache.ops))
    assert all(llama_cpp.llama_memory_seq_pos_max(one.runner._memory, slot) == -1 for slot in range(13))


def test_an_interrupted_step_leaves_no_trace(lab: MakeLab) -> None:
    """After an abort in a long prefill the others' KV would be wrong, or the next prompt would not fit."""
    one = lab(slots=2, chunk=WINDOW)
    one.ask(0, *REQUESTS[0])
    for _ in range(5):
        one.step()
    one.ask(1, prompt(5, 1500), 4)
    one.engine.scheduler._chunk_busy = WINDOW  # the whole prompt in one step
    threading.Thread(target=interrupt_soon, args=(one.runner,)).start()
    with pytest.raises(Interrupted):
        one.step()
    memory = one.runner._memory
    held = [len(slot.tokens) - 1 for slot in one.cache.slots]
    assert [llama_cpp.llama_memory_seq_pos_max(memory, slot) for slot in range(2)] == held
    one.engine.abort(1)
    one.run()
    alone = solo(lab, 0)
    assert one.tokens[0] == alone.tokens[0]
    assert all((row == one.recorder.rows[place]).all() for place, row in alone.recorder.rows.items())


def interrupt_soon(runner: LlamaRunner) -> None:
    """As the thread that reads the socket: once the prompt is being computed."""
    while 1 not in runner.prefilling:
        time.sleep(0.001)
    time.sleep(0.02)
    runner.interrupt = True


def test_no_room_leaves_no_trace(lab: MakeLab) -> None:
    """A cache that is fuller than the books say would cost somebody the reply, or the engine its life."""
    one = lab(slots=4, cells=1536)
    one.ask(0, *REQUESTS[0])
    for _ in range(5):
        one.step()
    stranger = Sequence(9, prompt(7, 1530), 1530, 1, WINDOW, frozenset(), GREEDY, slot=3)

    def take(begin: int, end: int) -> None:  # cells behind the books' back
        one.runner.execute(Batch(chunks=[Chunk(stranger, 3, begin, stranger.tokens[begin:end], False)]))

    for begin in range(0, 1400, 200):
        take(begin, begin + 200)
    with pytest.raises(OutOfCells):
        take(1400, 1530)
    assert llama_cpp.llama_memory_seq_pos_max(one.runner._memory, 3) == 1399
    one.runner.execute(Batch(ops=[Trim(3, 0)]))
    one.run()
    assert one.tokens[0] == solo(lab, 0).tokens[0]
