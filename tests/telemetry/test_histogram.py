"""Quantiles from buckets against quantiles of the durations themselves."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from frontdesk.telemetry.histogram import LEAST, MOST, Histogram

WIDTH = 2 ** (1 / 16) * 1.000001  # from the middle of a bucket to its edge, as a factor

durations = st.lists(st.tuples(st.floats(LEAST, MOST), st.integers(1, 50)), min_size=1, max_size=40)


@given(durations=durations, share=st.floats(0, 1))
def test_a_quantile_is_near_the_true_one(durations: list[tuple[float, int]], share: float) -> None:
    """The operator would be shown times that no user waited."""
    histogram = Histogram()
    for seconds, times in durations:
        histogram.add(seconds, times)
    every = sorted(seconds for seconds, times in durations for _ in range(times))
    assert histogram.count == len(every)
    true = every[max(1, ceil(share * len(every))) - 1]
    assert true / WIDTH <= histogram.quantile(share) <= true * WIDTH


@given(durations=durations)
def test_more_of_them_take_no_less_time(durations: list[tuple[float, int]]) -> None:
    """A 95th percentile would lie below the median."""
    histogram = Histogram()
    for seconds, times in durations:
        histogram.add(seconds, times)
    shares = [histogram.quantile(share / 20) for share in range(21)]
    assert shares == sorted(shares)


def test_the_edges_are_kept() -> None:
    """A clock that jumped would break the count of every token after it, or an empty slot the page's chart."""
    assert Histogram().quantile(0.5) == 0.0
    histogram = Histogram()
    for seconds in (-3.0, 0.0, 1e-300, float("inf"), 1e300):
        histogram.add(seconds)
    assert histogram.count == 5
    assert LEAST / WIDTH <= histogram.quantile(0.5) <= LEAST * WIDTH
    assert MOST / WIDTH <= histogram.quantile(1) <= MOST * WIDTH
