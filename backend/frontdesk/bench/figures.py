"""The statistics that benchmarks publish. Pure: numbers in, numbers out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Interval = tuple[float, float]


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest value, so that a P99 of few values is the worst of them. 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))] if ordered else 0.0


def spread(values: Sequence[float], digits: int = 1) -> str:
    """`median (lowest to highest)`; `-` for none."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" if len(values) > 1 else f"{middle:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """What is told of many durations, in their unit; all 0 where there are none."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


def quantiles(values: Iterable[float]) -> Quantiles:
    found = sorted(values)
    if not found:
        return Quantiles(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p95, p99 = (percentile(found, percent) for percent in (50, 95, 99))
    return Quantiles(len(found), statistics.fmean(found), p50, p95, p99, found[-1])


def paired_ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours by theirs, round by round: both were measured within minutes of each other. Rounds without a figure of
    either side (0, or missing at the end) are left out."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if a and b]


def busiest(intervals: Sequence[Interval]) -> tuple[int, list[Interval]]:
    """(how many of them overlap at most, the times in which so many do). An interval without length counts nothing."""
    changes = sorted((at, step) for a, b in intervals if b > a for at, step in ((a, 1), (b, -1)))
    most, now, found = 0, 0, []
    for number, (at, step) in enumerate(changes):
        now += step
        if now < most or step < 0:
            continue
        if now > most:
            most, found = now, []
        end = changes[number + 1][0]  # the last change is an end: a begin has a successor
        if end > at:
            found.append((at, end))
    return most, found


def length(intervals: Iterable[Interval]) -> float:
    return sum(b - a for a, b in intervals)
