"""Which of a few ways to compute a step is fastest, learnt from how long steps took: threads, and rows that fill it up.

On a tiny model a second core pays for some numbers of rows and not for others, and as soon as somebody else wants that
core, threads that wait for each other take many times longer than one thread alone. Some matrix kernels take rows in
fours and sixteens, and sixteen are faster than nine. Nothing tells this for sure beforehand, so all ways are timed, for
each size of step by itself. Where a result must not depend on the choice, it does not (`library.open_context`). Knows
no clock: it is told the seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from frontdesk.engine.scheduler import GROUP
from frontdesk.engine.trial import sizes

WEIGHT: Final = 0.2  # of a new measurement in the running mean
BLOCK: Final = 16  # rows that the widest kernels compute together; fuller than half, it may be worth filling up
TRIAL: Final = 6  # steps in a row that a trial of another count takes: the first may wake threads and does not count
HOPELESS: Final = 4.0  # times slower than the mean: a trial is broken off, or one is made soon
SOON: Final = 3  # steps
WORTH: Final = 0.97  # of the mean: less is no reason to change, or equals would be tried for ever
FIRST_PAUSE: Final = 32  # steps until the others are tried again; doubles while they keep losing
LAST_PAUSE: Final = 1024


@dataclass(slots=True)
class _Size:
    """What is known of steps of one size. `mean` is of the count in use, in seconds a row."""

    chosen: int
    wait: int  # steps until the next trial
    mean: float = 0.0
    pause: int = FIRST_PAUSE
    beaten: set[int] = field(default_factory=set)  # counts that have lost since the last pause
    trial: list[float] | None = field(default=None)


class TimedChoice:
    """Chooses among `options`, numbers of something; begins with the last, or with `first` where one is known."""

    def __init__(self, *options: int, first: int | None = None) -> None:
        self._options = tuple(dict.fromkeys(options))
        self._first = options[-1] if first is None else first
        self._wait = TRIAL if first is None else FIRST_PAUSE
        self._sizes: dict[int, _Size] = {}

    def choose(self, rows: int) -> int:
        """How many for a step of this many rows. `note` must follow."""
        size = self._size(rows)
        return size.chosen if size.trial is None else self._others(size)[0]

    def note(self, rows: int, seconds: float) -> None:
        """The step took this long, with the number that was chosen."""
        size, cost = self._size(rows), seconds / rows
        if size.trial is not None:
            self._try(size, size.trial, cost)
            return
        if size.mean and cost > HOPELESS * size.mean:  # the machine has changed: do not wait for the end of the pause
            size.wait = min(size.wait, SOON)
        size.mean += (cost - size.mean) * (WEIGHT if size.mean else 1.0)
        size.wait -= 1
        if size.wait <= 0 and len(self._options) > 1:
            size.trial = []

    def _try(self, size: _Size, trial: list[float], cost: float) -> None:
        trial.append(cost)
        if len(trial) == TRIAL or cost > HOPELESS * size.mean:
            self._judge(size, median(trial[1:] or trial))

    def _judge(self, size: _Size, cost: float) -> None:
        other = self._others(size)[0]
        if cost < WORTH * size.mean:
            size.beaten.add(size.chosen)
            size.chosen, size.mean, size.pause = other, cost, FIRST_PAUSE // 2
        else:
            size.beaten.add(other)
        size.wait, size.trial = SOON, None
        if not self._others(size):
            size.wait = size.pause = min(2 * size.pause, LAST_PAUSE)
            size.beaten.clear()

    def _size(self, rows: int) -> _Size:
        return self._sizes.setdefault(rows.bit_length(), _Size(self._first, self._wait))

    def _others(self, size: _Size) -> list[int]:
        """Those still to be tried before the next pause."""
        return [option for option in self._options if option != size.chosen and option not in size.beaten]


class Padding:
    """How many rows to compute beside those of a step, for no other use than to fill up a group of four or sixteen.

    Tried with three rows, and with five or more that leave a group unfilled: on some machines that saves up to a third
    of the step, on others nothing. No step gets more than `most` rows. `tuned`: milliseconds by shape, as in
    `worker.protocol.Load`; where they tell which is best it begins with that.
    """

    def __init__(self, most: int, tuned: Mapping[str, float] | None = None) -> None:
        self._most = most
        self._tuned = sizes(tuned or {}, "decode")
        self._choices: dict[int, TimedChoice] = {}

    def choose(self, rows: int) -> int:
        """Extra rows for a step of this many. `note` must follow, unless they find no place."""
        return self._choice(rows).choose(rows)

    def note(self, rows: int, seconds: float) -> None:
        """The step took this long, with the extra rows that were chosen."""
        self._choice(rows).note(rows, seconds)

    def _choice(self, rows: int) -> TimedChoice:
        if rows not in self._choices:
            fills = [-rows % BLOCK] if rows % BLOCK > BLOCK // 2 else []
            fills += [-rows % GROUP] if rows >= GROUP - 1 else []
            options = [0, *(extra for extra in fills if rows + extra <= self._most)]
            known = {extra: ms for extra in options if (ms := self._tuned.get(rows + extra))}
            first = min(known, key=lambda extra: known[extra]) if len(known) == len(set(options)) else None
            self._choices[rows] = TimedChoice(*options, first=first)
        return self._choices[rows]
