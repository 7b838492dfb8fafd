"""What rows cost, against machines that are written down as tables of seconds."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from frontdesk.llamacpp.step_costs import FIRST_PAUSE, LAST_PAUSE, TRIALS, MeasuredCosts


def measured(plain: float, guessed: float, streams: int = 1, rows: int = 4) -> MeasuredCosts:
    costs = MeasuredCosts()
    for _ in range(TRIALS):
        costs.note(streams, streams, plain)
    for _ in range(TRIALS):
        costs.note(streams, rows, guessed)
    return costs


@given(plain=st.floats(1e-4, 1), guessed=st.floats(1e-4, 10))
def test_the_cost_is_that_of_the_clock(plain: float, guessed: float) -> None:
    """Guesses would be computed where they are dear, or left out where they are cheap."""
    factor = measured(plain, guessed).factor(1, 4)
    assert factor is not None
    assert math.isclose(factor, guessed / plain, rel_tol=1e-9)


def test_nothing_is_tried_before_there_is_something_to_compare_with() -> None:
    """The first steps, in which everything is slow, would decide."""
    costs = MeasuredCosts()
    assert costs.factor(2, 8) == math.inf
    for _ in range(TRIALS):
        costs.note(2, 2, 0.1)
    assert costs.factor(2, 8) is None
    assert costs.factor(3, 12) == math.inf
    assert costs.factor(2, 2) == 1.0


def test_a_busy_machine_slows_both() -> None:
    """A neighbour that takes a core during the trials would turn guesses off, or on."""
    costs = MeasuredCosts()
    for pressure in (1.0, 5.0, 1.0, 8.0, 1.0, 3.0):
        for _ in range(10):
            costs.note(1, 1, 0.04 * pressure)
        costs.note(1, 4, 0.06 * pressure)
    factor = costs.factor(1, 4)
    assert factor is not None
    assert math.isclose(factor, 1.5)


def test_an_old_cost_is_doubted() -> None:
    """One bad moment would turn guesses off for good; doubting all the time would cost more than they bring."""
    costs = measured(0.04, 4.0)
    answers = [costs.factor(1, 4) for _ in range(FIRST_PAUSE)]
    assert answers[-1] is None
    assert None not in answers[:-1]
    trials = 0
    for _ in range(3 * LAST_PAUSE):
        if costs.factor(1, 4) is None:
            costs.note(1, 4, 4.0)
            trials += 1
    assert trials < 10 * TRIALS
