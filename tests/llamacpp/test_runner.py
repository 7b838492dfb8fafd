"""llama.cpp behind the runner, with the shipped model: who else is computed must not change anybody's logits."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from tests.llamacpp.lab import GREEDY, MANY, REQUESTS, SHIPPED, WINDOW, Lab, MakeLab, Requests, crowd, prompt

from frontdesk.engine.batch import Batch, Chunk, Copy, Drop, Park, Restore, Swap, Trim
from frontdesk.engine.core import Interrupted, OutOfCells
from frontdesk.engine.sequence import Sequence
from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.library import llama_cpp, open_model
from frontdesk.llamacpp.runner import LlamaRunner


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


def test_a_reply_that_is_read_again_goes_on_as_it_would_have(lab: MakeLab) -> None:
    """After the death of an engine, or with the history of a next turn, what was written token by token is read in one
    piece: by other kernels it would go on in other words."""
    one = lab(slots=1, threads=2)
    begun = prompt(30, 90)
    one.ask(0, begun, 150)
    one.run()
    written = one.tokens[0]
    for cut in range(1, 150, 8):
        again = lab(slots=1, threads=2, chunk=512)
        again.ask(1, begun + written[:cut], 2)
        again.run()
        for at in range(2):
            assert (again.recorder.rows[1, at] == one.recorder.rows[0, cut + at]).all(), f"token {cut + at}"


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


@pytest.mark.parametrize("kind", ["recurrent", "hybrid"])
def test_a_model_that_cannot_go_back_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conversations would go wrong: reuse, guesses and rows that fill up all take tokens back."""
    monkeypatch.setattr(llama_cpp, f"llama_model_is_{kind}", lambda model: True)
    with pytest.raises(ModelLoadFailed, match="cannot go back"):
        open_model(str(SHIPPED), lambda _: None)


def test_a_sliding_window_is_not_opened_with_shared_cells(lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that a window has left behind would go to another conversation, unseen by the books."""
    monkeypatch.setattr(llama_cpp, "llama_model_n_swa", lambda model: 512)
    lab(slots=2)
    with pytest.raises(ModelLoadFailed, match="sliding window"):
        lab(slots=2, cells=WINDOW)


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
