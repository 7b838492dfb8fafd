"""The choice of threads, against machines that are written down as tables of seconds."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from frontdesk.llamacpp.choice import LAST_PAUSE, TRIAL, Padding, TimedChoice

Cost = Callable[[int, int], float]  # (rows, threads) -> seconds


def run(choice: TimedChoice, cost: Cost, rows: int, steps: int) -> list[int]:
    """The counts of threads that were chosen."""
    chosen = []
    for _ in range(steps):
        threads = choice.choose(rows)
        choice.note(rows, cost(rows, threads))
        chosen.append(threads)
    return chosen


@given(one=st.floats(1e-4, 1), many=st.floats(1e-4, 1), rows=st.integers(1, 600))
def test_the_faster_count_is_found_and_kept(one: float, many: float, rows: int) -> None:
    """Breaks if steps are computed with the slower number of threads more often than probing needs."""
    faster = 1 if one <= many else 2
    chosen = run(TimedChoice(1, 2), lambda _, threads: one if threads == 1 else many, rows, 500)
    if abs(one - many) > 0.04 * max(one, many):
        assert chosen.count(faster) >= 500 - 6 * TRIAL


def test_it_changes_its_mind_when_the_machine_does() -> None:
    """Breaks if a busy neighbour slows two threads down for ever, or the second core is never tried again."""
    choice = TimedChoice(1, 2)
    run(choice, lambda _, threads: (0.002, 0.001)[threads - 1], 8, 100)
    busy = run(choice, lambda _, threads: (0.002, 0.050)[threads - 1], 8, 200)
    assert busy[20:].count(2) <= 6
    quiet = run(choice, lambda _, threads: (0.002, 0.001)[threads - 1], 8, 4 * LAST_PAUSE)
    assert quiet[-100:].count(2) >= 100 - TRIAL


def test_sizes_are_judged_apart() -> None:
    """Breaks if what is best for a prompt of 128 tokens decides about single tokens, or the other way round."""
    choice = TimedChoice(1, 2)
    for _ in range(50):
        assert set(run(choice, lambda rows, threads: rows / threads if rows > 4 else threads, 128, 4)) <= {1, 2}
        run(choice, lambda rows, threads: rows / threads if rows > 4 else threads, 1, 4)
    assert choice.choose(1) == 1
    assert choice.choose(128) == 2


def test_nothing_to_choose() -> None:
    """Breaks if a model that needs every core is ever computed with fewer."""
    assert set(run(TimedChoice(4, 4), lambda _, threads: 1.0 / threads, 8, 50)) == {4}


def fill(padding: Padding, rows: int, steps: int, cost: Callable[[int], float]) -> list[int]:
    """The extra rows that were chosen."""
    chosen = []
    for _ in range(steps):
        extra = padding.choose(rows)
        padding.note(rows, cost(rows + extra))
        chosen.append(extra)
    return chosen


def staircase(rows: int) -> float:
    """A group of four costs as much as one row."""
    return rows // 4 + rows % 4


def test_rows_fill_up_groups_where_that_is_faster() -> None:
    """Breaks if three rows are computed at the price of three although four cost as much as one."""
    for rows, extra in ((3, 1), (7, 1), (14, 2), (15, 1)):
        assert set(fill(Padding(64), rows, 200, staircase)[20:]) <= {0, extra}
        assert fill(Padding(64), rows, 200, staircase).count(extra) >= 150


def test_one_of_five_may_pay_too() -> None:
    """Breaks if five to seven replies take longer than eight: measured on two cores with a Q4_0 model, in ms."""
    steps = {5: 45.9, 6: 51.6, 7: 58.5, 8: 37.8, 9: 53.2, 10: 58.2, 12: 49.2, 13: 68.3, 16: 55.2}
    for rows in (5, 6, 9, 10, 13):
        assert fill(Padding(64), rows, 200, lambda rows: steps[rows]).count(-rows % 4) >= 150


def test_rows_do_not_fill_up_where_that_is_slower() -> None:
    """Breaks if a machine without such kernels computes rows for nothing."""
    for rows in (3, 5, 6, 7, 14, 15):
        assert fill(Padding(64), rows, 500, lambda rows: rows).count(0) >= 500 - 6 * TRIAL


def test_other_numbers_of_rows_are_left_alone() -> None:
    """Breaks if rows are tried where they never paid on any machine, or where none are missing."""
    for rows in (1, 2, 4, 8, 16, 20, 24, 32):
        assert set(fill(Padding(64), rows, 100, staircase)) == {0}


# Milliseconds of steps of so many streams: two cores with AVX-512, a Q4_0 model of 0.5B.
WIDE = {
    **{1: 11.9, 2: 24.4, 3: 32.8, 4: 31.1, 5: 42.3, 6: 52.3, 7: 58.0, 8: 42.9, 9: 52.4, 10: 61.2, 11: 65.1, 12: 52.1},
    **{13: 65.0, 14: 74.2, 15: 83.0, 16: 48.8},
}


def test_sixteen_may_be_faster_than_twelve() -> None:
    """Breaks if ten replies are computed as twelve rows, although the processor takes sixteen at once."""
    for rows in range(9, 16):
        assert fill(Padding(64), rows, 400, lambda n: WIDE[n]).count(16 - rows) >= 300
    narrow = {n: ms for n, ms in WIDE.items() if n < 16} | {16: 80.0}  # the same without the wide kernel
    for rows in (10, 11):
        assert fill(Padding(64), rows, 400, lambda n: narrow[n]).count(12 - rows) >= 300


def test_it_begins_with_what_tuning_found() -> None:
    """Breaks if every start finds out anew, in somebody's reply, what was measured already."""
    tuned = {f"decode {n}": ms for n, ms in WIDE.items()}
    assert [Padding(64, tuned).choose(rows) for rows in (3, 5, 6, 7, 9, 10, 12, 16)] == [1, 0, 2, 1, 7, 6, 4, 0]
    assert Padding(64, tuned | {"decode 8": 99.0}).choose(7) == 0
    steps = fill(Padding(64, tuned), 10, 32, lambda n: WIDE[n])
    assert set(steps) == {6}
    del tuned["decode 16"]
    assert Padding(64, tuned).choose(10) == 2


@example(rows=10, most=12)
@given(rows=st.integers(1, 40), most=st.integers(1, 64))
def test_there_is_always_a_place_for_what_is_chosen(rows: int, most: int) -> None:
    """Breaks if ten replies of twelve slots are to be filled up to sixteen: no place, for ever, not even for two."""
    tuned = {f"decode {n}": ms for n, ms in WIDE.items()}
    for padding in (Padding(most), Padding(most, tuned)):
        chosen = fill(padding, rows, 300, lambda n: WIDE.get(n, 50.0))
        assert all(rows + extra <= max(rows, most) for extra in chosen)
        if (rows, most) == (10, 12):
            assert chosen.count(2) >= 250


def test_two_that_are_as_good_do_not_keep_trying_a_third() -> None:
    """Breaks if noise between equals has the dear way tried all the time."""
    rng, costs = random.Random(1), (52.4, 52.1, 80.0)
    choice, spent = TimedChoice(0, 1, 2), 0.0
    for _ in range(2000):
        way = choice.choose(9)
        spent += costs[way]
        choice.note(9, costs[way] * rng.gauss(1.0, 0.03))
    assert spent < 1.03 * 2000 * min(costs)


@given(costs=st.tuples(*[st.integers(1, 50)] * 3))
def test_the_best_of_three_is_found(costs: tuple[int, int, int]) -> None:
    """Breaks if a way that lost against a slow one is never tried against a fast one, or trials go on for ever."""
    choice = TimedChoice(0, 1, 2)
    best = {way for way in range(3) if costs[way] <= 1.04 * min(costs)}
    chosen = run(choice, lambda _, way: float(costs[way]), 8, 600)
    assert sum(way in best for way in chosen) >= 600 - 16 * TRIAL
