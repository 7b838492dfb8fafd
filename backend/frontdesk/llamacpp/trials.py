"""Times steps of given shapes on an open model: one KV cache for each trial, nothing sampled.

The tokens are arbitrary, the times are not: what a step costs depends on its shape alone. A step warms up, and the
first round does not count either, unless it takes most of the time that there is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any, Final

from frontdesk.engine.trial import Shape, Timed, Timing, Trial
from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.library import ContextPlan, last_words, llama_cpp, open_context
from frontdesk.llamacpp.rows import Rows
from frontdesk.llamacpp.states import DecodeFailed, restore, saved

PREFILL: Final = 512  # most rows of a step
MOST: Final = 0.5


def timed(model: Any, trial: Trial) -> Timed:
    """Carry out a trial. One that finds no room is answered with its reason."""
    try:
        bench = _Bench(model, trial)
    except ModelLoadFailed as error:
        return Timed((), error.message)
    try:
        return Timed(bench.run())
    except DecodeFailed as error:
        return Timed((), str(error))
    finally:
        bench.close()


class _Bench:
    """A context with `trial.resident` tokens in every sequence, and one empty sequence for prompts."""

    def __init__(self, model: Any, trial: Trial) -> None:
        self._trial = trial
        self._streams = trial.sequences - 1
        rows = max(PREFILL if trial.resident else 1, *(shape.size for shape in trial.shapes))
        most = max(trial.threads)
        plan = ContextPlan(
            cells=trial.cells,
            sequences=trial.sequences,
            rows=rows,
            threads=most,
            threads_least=most,
            kv_type=trial.kv_type,
            unified=trial.unified,
            exact=trial.exact,
            flash=trial.flash,
        )
        self._context = open_context(model, plan)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._rows = Rows(max(rows, 64))

    def run(self) -> tuple[Timing, ...]:
        trial, taken = self._trial, defaultdict[tuple[Shape, int], list[float]](list)
        if trial.resident:
            self._fill()
        self._use_threads(trial.threads[0])
        self._time(trial.shapes[0])  # the first step of all reads weights from the disk
        begun = perf_counter()
        for turn in range(trial.repeats + 1):
            for threads, shape in product(trial.threads, trial.shapes):
                self._use_threads(threads)
                taken[shape, threads].append(self._time(shape))
                if perf_counter() - begun > trial.seconds:
                    return _medians(taken)
            if turn == 0 and perf_counter() - begun > trial.seconds * MOST:
                break
        return _medians(taken)

    def close(self) -> None:
        llama_cpp.llama_free(self._context)

    def _use_threads(self, count: int) -> None:
        """As the engine does: see `library.open_context` on `exact`."""
        llama_cpp.llama_set_n_threads(self._context, 1 if self._trial.exact else count, count)

    def _fill(self) -> None:
        """Every stream gets a state of its own: streams that share cells would read fewer of them."""
        for start in range(0, self._trial.resident, PREFILL):
            self._rows.clear()
            for position in range(start, min(start + PREFILL, self._trial.resident)):
                self._rows.add(0, position, wanted=False)
            self._decode()
        state = saved(self._context, 0)
        for slot in range(1, self._streams):
            restore(self._context, slot, state)

    def _time(self, shape: Shape) -> float:
        """Seconds of one step; the cache is afterwards as before."""
        resident, last = self._trial.resident, self._streams
        self._rows.clear()
        if shape.kind == "decode":
            touched, start = range(shape.size), resident
            for slot in touched:
                self._rows.add(slot, start)
        else:
            touched, start = ((0,), resident) if shape.kind == "verify" else ((last,), 0)
            for offset in range(shape.size):
                wanted = shape.kind == "verify" or offset == shape.size - 1
                self._rows.add(touched[0], start + offset, wanted=wanted)
        begun = perf_counter()
        self._decode()
        seconds = perf_counter() - begun
        for slot in touched:
            llama_cpp.llama_memory_seq_rm(self._memory, slot, start, -1)
        return seconds

    def _decode(self) -> None:
        if code := llama_cpp.llama_decode(self._context, self._rows.batch):
            raise DecodeFailed(f"llama_decode returned {code}: {last_words()}")
        llama_cpp.llama_synchronize(self._context)


def _medians(taken: Mapping[tuple[Shape, int], list[float]]) -> tuple[Timing, ...]:
    return tuple(
        Timing(shape, threads, median(times[1:] or times), max(1, len(times) - 1))
        for (shape, threads), times in taken.items()
    )
