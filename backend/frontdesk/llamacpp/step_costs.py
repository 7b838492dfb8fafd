"""What rows cost, as a multiple of a plain step, learnt from how long steps took.

A guess that is computed beside a token is cheap on a machine that waits for memory and dear on one that computes, and
it depends on kernels, threads and neighbours. What tuning measured is believed until a step says otherwise. Where
nothing is known, rows are tried a few times if a guess looks good. Each trial is held against the plain steps of its
own time, since a busy machine slows both. Knows no clock: it is told the seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import numpy as np

from frontdesk.engine.trial import sizes

TRIALS: Final = 3  # steps after which a cost counts as known
REMEMBERED: Final = 7  # latest steps of one kind
FIRST_PAUSE: Final = 64  # questions after which an old cost is doubted; doubles every time that it is confirmed
LAST_PAUSE: Final = 4096
CONFIRMED: Final = 1.25  # times the known cost, up or down: a trial within that changes nothing


@dataclass(slots=True)
class _Kind:
    """Steps of one number of streams and rows. Nothing is known while `doubted`, until a trial; one may confirm it."""

    tuned: float | None
    factors: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    asked: int = 0
    pause: int = FIRST_PAUSE
    doubted: bool = False


class MeasuredCosts:
    """Implements `engine.speculative.StepCosts`.

    `tuned`: milliseconds by shape, as in `worker.protocol.Load`; `filled`: may steps have more rows than are asked for?
    """

    def __init__(self, tuned: Mapping[str, float] | None = None, *, filled: bool = False) -> None:
        self._plain: dict[int, deque[float]] = {}  # seconds of the latest steps with a row for each stream
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._filled = filled
        self._tuned_plain, guesses = sizes(tuned or {}, "decode"), sizes(tuned or {}, "verify")
        self._tuned_rows = dict(sorted((self._tuned_plain | guesses).items())) if guesses else {}

    def factor(self, streams: int, rows: int) -> float | None:
        if rows == streams:
            return 1.0
        if len(self._plain.get(streams, ())) < TRIALS:
            return float("inf")  # a few plain steps first
        kind = self._kind(streams, rows)
        known = _known(kind)
        if known is None or kind.doubted:
            return None
        kind.asked += 1
        if kind.asked >= kind.pause:
            kind.asked, kind.doubted = 0, True
            return None
        return known

    def note(self, streams: int, rows: int, seconds: float) -> None:
        """A step took this long in which nothing but these rows was computed."""
        plain = self._plain.setdefault(streams, deque(maxlen=REMEMBERED))
        if rows == streams:
            plain.append(seconds)
            return
        if not plain:
            return
        kind = self._kind(streams, rows)
        factor, known = seconds / median(plain), _known(kind)
        agrees = known is not None and known / CONFIRMED <= factor <= known * CONFIRMED
        if known is not None and agrees and not kind.factors:  # tuning was right
            kind.factors.extend([known] * (TRIALS - 1))
        if kind.doubted and agrees:
            kind.pause = min(2 * kind.pause, LAST_PAUSE)
        elif kind.doubted:
            kind.pause = FIRST_PAUSE
            kind.factors.clear()
        kind.factors.append(factor)
        kind.asked, kind.doubted = 0, False

    def _kind(self, streams: int, rows: int) -> _Kind:
        if (streams, rows) not in self._kinds:
            self._kinds[streams, rows] = _Kind(self._tuned(streams, rows))
        return self._kinds[streams, rows]

    def _tuned(self, streams: int, rows: int) -> float | None:
        """Rows cost the same whoever they belong to; those not measured as their neighbours do, or in proportion."""
        known = self._tuned_rows
        if streams not in self._tuned_plain or not known:
            return None
        plain = min(ms for n, ms in self._tuned_plain.items() if n == streams or (self._filled and n > streams))
        last = max(known)
        at = float(np.interp(min(rows, last), list(known), list(known.values())))
        return max(1.0, at * max(1.0, rows / last) / plain)


def _known(kind: _Kind) -> float | None:
    """From the trials; before the first of them, from tuning."""
    if len(kind.factors) >= TRIALS:
        return median(kind.factors)
    return None if kind.factors else kind.tuned
