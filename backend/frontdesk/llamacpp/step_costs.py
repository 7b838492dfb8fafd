"""What rows cost, as a multiple of a plain step, learnt from how long steps took.

A guess that is computed beside a token is cheap on a machine that waits for memory and dear on one that computes, and
it depends on kernels, threads and neighbours. So rows are tried a few times wherever a guess looks good, and each trial
is held against the plain steps of its own time: a busy machine slows both. Knows no clock: it is told the seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Final

TRIALS: Final = 3  # steps after which a cost counts as known
REMEMBERED: Final = 7  # latest steps of one kind
FIRST_PAUSE: Final = 64  # questions after which an old cost is doubted; doubles every time that it is confirmed
LAST_PAUSE: Final = 4096


@dataclass(slots=True)
class _Kind:
    """Steps of one number of streams and rows."""

    factors: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    asked: int = 0
    pause: int = FIRST_PAUSE


class MeasuredCosts:
    """Implements `engine.speculative.StepCosts`."""

    def __init__(self) -> None:
        self._plain: dict[int, deque[float]] = {}  # seconds of the latest steps with a row for each stream
        self._kinds: dict[tuple[int, int], _Kind] = {}

    def factor(self, streams: int, rows: int) -> float | None:
        if rows == streams:
            return 1.0
        if len(self._plain.get(streams, ())) < TRIALS:
            return float("inf")  # a few plain steps first
        kind = self._kinds.setdefault((streams, rows), _Kind())
        if len(kind.factors) < TRIALS:
            return None
        kind.asked += 1
        if kind.asked >= kind.pause:
            kind.asked, kind.pause = 0, min(2 * kind.pause, LAST_PAUSE)
            kind.factors.clear()
            return None
        return median(kind.factors)

    def note(self, streams: int, rows: int, seconds: float) -> None:
        """A step took this long in which nothing but these rows was computed."""
        plain = self._plain.setdefault(streams, deque(maxlen=REMEMBERED))
        if rows == streams:
            plain.append(seconds)
        elif plain:
            kind = self._kinds.setdefault((streams, rows), _Kind())
            kind.factors.append(seconds / median(plain))
            kind.asked = 0
