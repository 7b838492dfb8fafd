"""What rows cost, against machines that are written down as tables of seconds."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from frontdesk.llamacpp.step_costs import FIRST_PAUSE, LAST_PAUSE, TRIALS, MeasuredCosts

TUNED = {"decode 1": 10.0, "decode 2": 20.0, "verify 4": 20.0, "verify 8": 40.0, "verify 16": 80.0, "prompt 64": 9.0}


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


def test_one_trial_confirms_a_cost_and_a_few_replace_it() -> None:
    """Doubting would cost three slow steps each time, or a machine that became quick would never be noticed."""
    costs = measured(0.04, 0.16)
    doubt(costs)
    costs.note(1, 4, 0.17)
    assert costs.factor(1, 4) == 4.0
    doubt(costs)
    costs.note(1, 4, 0.06)
    assert costs.factor(1, 4) is None
    for _ in range(TRIALS - 1):
        costs.note(1, 4, 0.06)
    factor = costs.factor(1, 4)
    assert factor is not None
    assert math.isclose(factor, 1.5)


def test_what_tuning_measured_counts_until_something_is_tried() -> None:
    """Every start would pay for finding out again which guesses are worth it, in somebody's reply."""
    costs = MeasuredCosts(TUNED)
    for streams in (1, 2):
        for _ in range(TRIALS):
            costs.note(streams, streams, 0.5)
    assert costs.factor(1, 8) == 4.0
    assert costs.factor(1, 6) == 3.0  # between those measured
    assert costs.factor(1, 32) == 16.0  # beyond them: no cheaper a row than the last
    assert costs.factor(2, 8) == 2.0
    assert MeasuredCosts({**TUNED, "prompt": 1.0, "decode x": 1.0}).factor(1, 1) == 1.0
    assert costs.factor(1, 2) == 2.0  # as two streams, which are two rows as well
    costs.note(1, 4, 1.0)
    assert costs.factor(1, 4) == 2.0  # tuning was right
    costs.note(1, 8, 0.5)
    assert costs.factor(1, 8) is None  # it was wrong


def test_a_tuned_cost_that_one_trial_confirms_stays() -> None:
    """Doubting it would cost three slow steps, and the same again at the next start."""
    costs = MeasuredCosts(TUNED)
    for _ in range(TRIALS):
        costs.note(1, 1, 0.5)
    doubt(costs)
    costs.note(1, 4, 1.1)
    assert costs.factor(1, 4) == 2.0


def test_steps_that_are_filled_up_cost_what_the_fuller_ones_do() -> None:
    """Guesses beside seven streams would look cheap, against a step of seven rows that nobody computes."""
    tuned = {**TUNED, "decode 7": 60.0, "decode 8": 40.0}
    for filled, factor in ((False, 80 / 60), (True, 2.0)):
        costs = MeasuredCosts(tuned, filled=filled)
        for _ in range(TRIALS):
            costs.note(7, 7, 0.5)
        assert costs.factor(7, 16) == factor


@given(
    streams=st.integers(1, 9),
    more=st.integers(1, 40),
    steps=st.dictionaries(st.sampled_from(list(TUNED)), st.floats(-1, 1e3)),
)
def test_half_a_tuning_is_none(streams: int, more: int, steps: dict[str, float]) -> None:
    """A slow machine, on which time ran out, would end the engine, or be told costs that nobody measured."""
    costs = MeasuredCosts(steps)
    for _ in range(TRIALS):
        costs.note(streams, streams, 0.1)
    factor = costs.factor(streams, streams + more)
    assert factor is None or factor >= 1.0
    if steps.get(f"decode {streams}", 0) <= 0:
        assert factor is None


def doubt(costs: MeasuredCosts) -> None:
    while costs.factor(1, 4) is not None:
        pass
