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
FIRST_PAUSE: Final = 32  # steps until the others are tried again; doubles while they keep losing
LAST_PAUSE: Final = 1024


@dataclass(slots=True)
class _Size:
    """What is known of steps of one size. `mean` is of the count in use, in seconds a row."""

    chosen: int
    mean: float = 0.0
    wait: int = TRIAL  # steps until the next trial
    pause: int = FIRST_PAUSE
    beaten: int = 0  # of the others, since this one is chosen
    trial: list[float] | None = field(default=None)


class TimedChoice:
    """Chooses among `options`, numbers of something; begins with the last, or with `first`."""

    def __init__(self, *options: int, first: int | None = None) -> None:
        self._options = tuple(dict.fromkeys(options))
        self._first = options[-1] if first is None else first
        self._sizes: dict[int, _Size] = {}

    def choose(self, rows: int) -> int:
        """How many for a step of this many rows. `note` must follow."""
        size = self._size(rows)
        return size.chosen if size.trial is None else self._other(size)

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
        if cost < size.mean:
            size.chosen, size.mean, size.pause, size.beaten = self._other(size), cost, FIRST_PAUSE, 0
            size.wait = FIRST_PAUSE if len(self._options) == 2 else SOON  # against those that it has not met
        else:
            size.beaten += 1
            through = size.beaten % (len(self._options) - 1) == 0
            size.pause = min(2 * size.pause, LAST_PAUSE) if through else size.pause
            size.wait = size.pause if through else SOON
        size.trial = None

    def _size(self, rows: int) -> _Size:
        return self._sizes.setdefault(rows.bit_length(), _Size(self._first))

    def _other(self, size: _Size) -> int:
        """The next of those that are not chosen."""
        others = [option for option in self._options if option != size.chosen]
        return others[size.beaten % len(others)]


class Padding:
    """How many rows to compute beside those of a step, for no other use than to fill up a group of four or sixteen.

    Tried with three rows, and with five or more that leave a group unfilled: on some machines that saves up to a third
    of the step, on others nothing. `tuned`: milliseconds by shape, as in `worker.protocol.Load`; where they tell which
    is best it begins with that.
    """

    def __init__(self, tuned: Mapping[str, float] | None = None) -> None:
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
            options = [0, -rows % GROUP if rows >= GROUP - 1 else 0]
            if rows % BLOCK > BLOCK // 2:
                options.insert(1, -rows % BLOCK)
            taken = {extra: self._tuned.get(rows + extra) for extra in options}
            known = {extra: ms for extra, ms in taken.items() if ms is not None}
            first = min(known, key=lambda extra: known[extra]) if len(known) == len(taken) else options[-1]
            self._choices[rows] = TimedChoice(*options, first=first)
        return self._choices[rows]
