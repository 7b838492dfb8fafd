"""The statistics behind every published figure, against brute force."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.bench.arrivals import poisson, thinking
from frontdesk.bench.figures import busiest, length, paired_ratios, percentile, quantiles, spread

numbers = st.floats(0, 1e6, allow_nan=False)
moments = st.integers(0, 30)
intervals = st.lists(st.tuples(moments, moments).map(lambda pair: (float(min(pair)), float(max(pair)))), max_size=12)


@given(st.lists(numbers, min_size=1), st.floats(0, 100))
def test_a_percentile_is_one_of_the_values(values: list[float], percent: float) -> None:
    """A figure would be published that nobody ever measured."""
    found = percentile(values, percent)
    assert found in values
    assert percentile(values, 0) == min(values) <= found <= max(values) == percentile(values, 100)


def test_the_worst_of_few_is_their_p99() -> None:
    """A P99 of ten values would hide the worst of them."""
    assert percentile(list(range(10)), 99) == 9
    assert percentile([], 50) == 0.0


@given(st.lists(numbers))
def test_quantiles_are_in_order(values: list[float]) -> None:
    """P95 could be told to be better than P50."""
    found = quantiles(values)
    assert found.count == len(values)
    assert found.p50 <= found.p95 <= found.p99 <= found.max
    if values:
        assert min(values) <= found.mean * (1 + 1e-9)
        assert found.mean <= found.max * (1 + 1e-9)


def test_spread_tells_median_and_range() -> None:
    """A median would stand alone, and nobody could see how much it moves."""
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0 to 3.0)"
    assert (spread([2.0], 0), spread([])) == ("2", "-")


@given(intervals)
def test_the_busiest_times_are_those_of_brute_force(found: list[tuple[float, float]]) -> None:
    """Speed "while all wrote" would be taken from moments in which some did not."""
    most, times = busiest(found)
    at = [sum(a <= moment < b for a, b in found) for moment in range(31)]  # every interval ends at whole numbers
    assert most == max(at)
    assert length(times) == (sum(n == most for n in at) if most else 0)
    assert all(a < b for a, b in times)


def test_pairs_without_a_figure_do_not_count() -> None:
    """A round in which a server failed would count as infinitely better or worse."""
    assert paired_ratios([2.0, 0.0, 3.0, 5.0], [1.0, 1.0, 0.0]) == [2.0]


@given(st.floats(0.01, 1000), st.integers(1, 200), st.integers())
def test_arrivals_begin_at_once_and_never_go_back(rate: float, count: int, seed: int) -> None:
    """An open loop would wait for nothing at its begin, or lose visitors."""
    times = poisson(random.Random(seed), rate, count)
    assert len(times) == count
    assert times[0] == 0.0
    assert times == sorted(times)


def test_arrivals_come_at_the_rate_that_was_asked_for() -> None:
    """A load of 5 a second would really be another one."""
    rng = random.Random(1)
    assert poisson(rng, 5.0, 20_000)[-1] == pytest.approx(20_000 / 5, rel=0.03)
    gaps = [thinking(rng, 4.0) for _ in range(20_000)]
    assert sum(gaps) / len(gaps) == pytest.approx(4.0, rel=0.03)
    assert thinking(rng, 0.0) == 0.0
