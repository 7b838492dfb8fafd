"""When visitors come in an open loop: as they like, whether or not the server keeps up. Pure."""

from __future__ import annotations

import random
from itertools import accumulate


def poisson(rng: random.Random, rate: float, count: int) -> list[float]:
    """Times of `count` arrivals, `rate` a second on average, independent of each other. The first is at 0."""
    return list(accumulate((rng.expovariate(rate) for _ in range(count - 1)), initial=0.0))


def thinking(rng: random.Random, mean: float) -> float:
    """Seconds that a visitor reads and types; none where the mean is 0."""
    return rng.expovariate(1 / mean) if mean else 0.0
