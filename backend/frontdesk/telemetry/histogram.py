"""Durations as counts in buckets, so that any number of them takes little memory and quantiles cost nothing to keep.

A bucket is 9 % wide, so a quantile is right within 4.5 %: enough for a chart, and a duration costs one logarithm.
Knows no clock.
"""

from __future__ import annotations

from math import ceil, floor, log2
from typing import Final

BUCKETS_AN_OCTAVE: Final = 8
LEAST: Final = 1e-6  # seconds; what is shorter counts as this
MOST: Final = 86_400.0  # seconds


class Histogram:
    """Durations in seconds."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}  # number of the bucket: how many fell into it

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration. What lies outside of `LEAST` to `MOST` counts as the nearer of them."""
        if not LEAST <= seconds <= MOST:
            seconds = LEAST if seconds < LEAST else MOST
        bucket = floor(BUCKETS_AN_OCTAVE * log2(seconds))
        self._buckets[bucket] = self._buckets.get(bucket, 0) + times
        self.count += times

    def quantile(self, share: float) -> float:
        """The duration that a `share` (0 to 1) of all do not exceed, by nearest rank; 0 when there are none."""
        rank = max(1, ceil(share * self.count))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return 2 ** ((bucket + 0.5) / BUCKETS_AN_OCTAVE)
        return 0.0
