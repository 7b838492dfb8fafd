"""Which of two ways to compute a step is faster, learnt from how long steps took: threads, and rows that fill it up.

On a tiny model a second core pays for some numbers of rows and not for others, and as soon as somebody else wants that
core, threads that wait for each other take many times longer than one thread alone. Some matrix kernels take rows in
fours, and four are faster than three. Nothing tells this beforehand, so both ways are timed, for each size of step by
itself. Where a result must not depend on the choice, it does not (`library.open_context`). Knows no clock: it is told
the seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Final

from frontdesk.engine.scheduler import GROUP

WEIGHT: Final = 0.2  # of a new measurement in the running mean
TRIAL: Final = 6  # steps in a row that a trial of the other count takes: the first may wake threads and does not count
HOPELESS: Final = 4.0  # times slower than the mean: a trial is broken off, or one is made soon
SOON: Final = 3  # steps
FIRST_PAUSE: Final = 32  # steps until the other count is tried again; doubles while it keeps losing
LAST_PAUSE: Final = 1024


@dataclass(slots=True)
class _Size:
    """What is known of steps of one size. `mean` is of the count in use, in seconds a row."""

    chosen: int
    mean: float = 0.0
    wait: int = TRIAL  # steps until the next trial
    pause: int = FIRST_PAUSE
    trial: list[float] | None = field(default=None)


class TimedChoice:
    """Chooses between `least` and `most` of something; with both the same there is nothing to choose."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._sizes: dict[int, _Size] = {}

    def choose(self, rows: int) -> int:
        """How many for a step of this many rows. `note` must follow."""
        size = self._size(rows)
        return size.chosen if size.trial is None else self._other(size.chosen)

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
        if size.wait <= 0 and self._least != self._most:
            size.trial = []

    def _try(self, size: _Size, trial: list[float], cost: float) -> None:
        trial.append(cost)
        if len(trial) == TRIAL or cost > HOPELESS * size.mean:
            self._judge(size, median(trial[1:] or trial))

    def _judge(self, size: _Size, cost: float) -> None:
        if cost < size.mean:
            size.chosen, size.mean, size.pause = self._other(size.chosen), cost, FIRST_PAUSE
        else:
            size.pause = min(2 * size.pause, LAST_PAUSE)
        size.wait, size.trial = size.pause, None

    def _size(self, rows: int) -> _Size:
        return self._sizes.setdefault(rows.bit_length(), _Size(self._most))

    def _other(self, chosen: int) -> int:
        return self._least if chosen == self._most else self._most


class Padding:
    """How many rows to compute beside those of a step, for no other use than to fill up a group of four.

    Tried with three rows, and with five or more that leave a group unfilled: on some machines that saves up to a third
    of the step, on others nothing.
    """

    def __init__(self) -> None:
        self._choices: dict[int, TimedChoice] = {}

    def choose(self, rows: int) -> int:
        """Extra rows for a step of this many. `note` must follow, unless they find no place."""
        return self._choice(rows).choose(rows)

    def note(self, rows: int, seconds: float) -> None:
        """The step took this long, with the extra rows that were chosen."""
        self._choice(rows).note(rows, seconds)

    def _choice(self, rows: int) -> TimedChoice:
        missing = -rows % GROUP if rows >= GROUP - 1 else 0
        return self._choices.setdefault(rows, TimedChoice(0, missing))
