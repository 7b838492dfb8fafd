"""Guesses and rows that fill a step up, behind the runner with the shipped model: they must not change what is said."""

from __future__ import annotations

import pytest
from tests.llamacpp.lab import GREEDY, MANY, WINDOW, MakeLab, crowd, prompt

from frontdesk.engine.batch import Batch, Trim
from frontdesk.engine.request import SamplingParams
from frontdesk.llamacpp.choice import Padding
from frontdesk.llamacpp.library import llama_cpp


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
        one = lab(slots=8, cells=1280, exact=False, costs=costs)
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
