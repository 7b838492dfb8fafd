"""How many threads a step gets, learnt from how long steps took.

On a tiny model a second core pays for some numbers of rows and not for others, and as soon as somebody else wants that
core, threads that wait for each other take many times longer than one thread alone. Nothing tells this beforehand, so
both counts are timed, for each size of step by itself. Where a result must not depend on the choice, it
does not (`library.open_context`). Knows no clock: it is told the seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

WEIGHT: Final = 0.2  # of a new measurement in the running mean
FIRST_PROBE: Final = 32  # steps until the other count is tried again; doubles while it keeps losing
LAST_PROBE: Final = 1024


@dataclass(slots=True)
class _Size:
    """What is known of steps of one size: mean seconds a row for each count of threads."""

    means: dict[int, float] = field(default_factory=dict)
    best: int = 0
    until_probe: int = 0
    interval: int = FIRST_PROBE


class ThreadChoice:
    """Chooses between `least` and `most` threads; with both the same there is nothing to choose."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._sizes: dict[int, _Size] = {}

    def choose(self, rows: int) -> int:
        """Threads for a step of this many rows."""
        if self._least == self._most:
            return self._most
        size = self._sizes.setdefault(rows.bit_length(), _Size())
        if len(size.means) < 2:
            return self._most if self._most not in size.means else self._least
        return self._other(size.best) if size.until_probe <= 0 else size.best

    def note(self, rows: int, threads: int, seconds: float) -> None:
        """A step of this many rows took this long. Call it after every `choose`."""
        if self._least == self._most:
            return
        size = self._sizes.setdefault(rows.bit_length(), _Size())
        probing = len(size.means) == 2 and threads != size.best
        weight = 1.0 if probing else WEIGHT  # what is known of the count that was not used is old
        mean = size.means.get(threads, seconds / rows)
        size.means[threads] = mean + weight * (seconds / rows - mean)
        size.until_probe -= 1
        if len(size.means) == 2:
            self._judge(size, probing)

    def _judge(self, size: _Size, probed: bool) -> None:
        best = min(size.means, key=lambda threads: size.means[threads])
        if best != size.best:
            size.best, size.interval = best, FIRST_PROBE
            size.until_probe = size.interval
        elif probed:
            size.interval = min(2 * size.interval, LAST_PROBE)
            size.until_probe = size.interval

    def _other(self, threads: int) -> int:
        return self._least if threads == self._most else self._most
