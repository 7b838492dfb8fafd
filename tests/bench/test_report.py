"""The statistics that the benchmarks publish."""

# pyright: reportMissingImports=false

from __future__ import annotations

import pytest
from report import upper_bound


def test_no_failure_is_the_rule_of_three() -> None:
    """Breaks if a clean run claims more than it can: 0 of N bounds the rate by about 3/N at 95 %."""
    assert upper_bound(0, 300) == pytest.approx(3 / 300, rel=0.01)
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))


@pytest.mark.parametrize(
    ("failures", "trials", "bound"), [(1, 10, 0.3942), (5, 100, 0.1023), (9, 10, 0.9949), (10, 10, 1.0), (0, 0, 1.0)]
)
def test_bounds_of_the_tables(failures: int, trials: int, bound: float) -> None:
    """Breaks if a run with failures is told as better than it was. Values: Clopper and Pearson's tables."""
    assert upper_bound(failures, trials) == pytest.approx(bound, abs=1e-4)
