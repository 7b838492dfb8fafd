"""Guesses: they are what stood there before, they are made where they pay, and they never change a text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.drive import Costs, House, Plan
from tests.engine.oracle import VOCAB

from frontdesk.engine.speculative import CONTEXT, FIRST_RATE, GAIN, MOST_ROWS, Guesser, expected, plan_drafts

TOKENS = st.lists(st.integers(0, 3), max_size=60)


@given(tokens=TOKENS, cuts=st.lists(st.integers(0, 60), max_size=5), most=st.integers(1, 4))
def test_a_guess_is_what_stood_there_last(tokens: list[int], cuts: list[int], most: int) -> None:
    """Guesses would come from somewhere else than the text, and be right by luck only."""
    guesser = Guesser()
    for length in [*sorted(min(cut, len(tokens)) for cut in cuts), len(tokens)]:
        text = tokens[:length]
        found = [at for at in range(CONTEXT, length) if text[at - CONTEXT : at] == text[length - CONTEXT :]]
        assert guesser.guess(text, most) == (text[found[-1] : found[-1] + most] if found else [])


@given(outcomes=st.lists(st.booleans(), min_size=60, max_size=60), last=st.booleans())
def test_the_rate_follows_what_came(outcomes: list[bool], last: bool) -> None:
    """A text that cannot be guessed would be guessed at for ever, or one that can be never again."""
    guesser = Guesser()
    for right in [*outcomes, *[last] * 20]:
        guesser.learn([1], [1 if right else 2])
        assert 0 <= guesser.rate <= 1
    assert (guesser.rate > 0.8) == last
    assert (guesser.rate < 0.2) == (not last)


def test_after_a_wrong_guess_nothing_more_is_learnt() -> None:
    """The second token of a guess would be blamed for the first."""
    one, two = Guesser(), Guesser()
    one.learn([1, 2, 3], [9])
    two.learn([1, 2, 3], [9, 2, 3])
    assert one.rate == two.rate < FIRST_RATE


RATES = st.floats(0, 1)
LIMITS = st.lists(st.tuples(RATES, st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=6)


@settings(max_examples=300)
@given(limits=LIMITS, equal=st.booleans(), most=st.integers(1, 30), per_row=st.floats(0, 1.5))
def test_drafts_keep_their_limits_and_promise_a_gain(
    limits: list[tuple[float, int, int]], equal: bool, most: int, per_row: float
) -> None:
    """Steps would be slower than without guesses, or larger than the context."""
    given = []
    for rate, guess, room in limits:
        guesser = Guesser()
        guesser.rate = rate
        given.append((guesser, guess, room))

    class PerRow:
        def factor(self, streams: int, rows: int) -> float | None:
            return 1 + per_row * (rows - streams) / streams

    streams = len(limits)
    drafts = plan_drafts(given, PerRow(), most_rows=most, equal=equal)
    rows = streams + sum(drafts)
    if rows == streams:
        return
    assert rows <= most
    assert all(count <= room for count, (_, _, room) in zip(drafts, limits, strict=True))
    assert not equal or len(set(drafts)) == 1
    assert equal or all(count <= guess for count, (_, guess, _) in zip(drafts, limits, strict=True))
    gained = sum(expected(rate, min(n, guess)) for n, (rate, guess, _) in zip(drafts, limits, strict=True))
    assert (streams + gained) / (1 + per_row * sum(drafts) / streams) > GAIN * streams


@pytest.mark.parametrize(("factor", "drafts"), [(1.0, 3), (1.5, 3), (3.0, 0), (float("inf"), 0), (None, 3)])
def test_the_measured_cost_decides(factor: float | None, drafts: int) -> None:
    """A machine on which rows are dear would be slowed down by every guess."""
    guesser = Guesser()
    guesser.rate = 0.7
    assert plan_drafts([(guesser, 3, 5)], Costs(factor), most_rows=20, equal=True) == [drafts]
    assert expected(0.7, 3) == pytest.approx(0.7 + 0.49 + 0.343)


@pytest.mark.parametrize(("rate", "drafts"), [(0.95, 15), (0.8, 7), (0.6, 0)])
def test_the_surer_the_longer(rate: float, drafts: int) -> None:
    """A quotation would be computed in bits where steps of 8 and 16 rows are what a processor is good at."""

    class Staircase:  # of a processor that is slow with one to three rows more: measured, as multiples of 11.3 ms
        def factor(self, streams: int, rows: int) -> float | None:
            return {2: 2.2, 4: 2.6, 8: 3.3, 16: 4.9}[rows]

    guesser = Guesser()
    guesser.rate = rate
    assert plan_drafts([(guesser, 15, 40)], Staircase(), most_rows=20, equal=True) == [drafts]


def test_many_streams_guess_less() -> None:
    """The logits of all guesses would take hundreds of megabytes."""
    certain = Guesser()
    certain.rate = 1.0
    for streams in (1, 4, 8, 16, 32):
        drafts = plan_drafts([(certain, 15, 40)] * streams, Costs(1.0), most_rows=1000, equal=False)
        assert 0 < streams + sum(drafts) <= MOST_ROWS


def quoting(seed: int, length: int) -> list[int]:
    numbers = random.Random(seed)
    return [numbers.randrange(VOCAB) for _ in range(length)]


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_quotes_take_fewer_steps(unified: bool, streams: int) -> None:
    """Guesses would be made and never used, or the text would be another one."""
    steps = {}
    for factor in (-1.0, 1.0):
        house = House(Plan(unified=unified, factor=factor))
        for i in range(streams):
            house.ask(quoting(i, 20), max_tokens=200)
        house.run()
        steps[factor] = len(house.oracle.executed)
        assert bool(house.oracle.accepted) == (factor == 1.0)
    assert steps[1.0] < 0.9 * steps[-1.0]


def test_dear_guesses_are_not_made() -> None:
    """Every step would be slower although nothing is gained."""
    house = House(Plan(factor=20.0))
    house.ask(quoting(1, 20), max_tokens=200)
    house.run()
    assert not any(chunk.drafts for batch in house.oracle.executed for chunk in batch.chunks)


def test_prompts_beside_streams_are_left_alone() -> None:
    """Guesses would share a step with a prompt, which is computed apart from them where each slot has its stream."""
    house = House(Plan(factor=0.5, unified=False))
    house.ask(quoting(1, 20), max_tokens=100)
    for _ in range(20):
        house.step()
    house.ask(quoting(2, 200), max_tokens=50)
    house.run()
    mixed = [batch for batch in house.oracle.executed if len({c.decodes for c in batch.chunks}) == 2]
    assert mixed
    assert not any(chunk.drafts for batch in mixed for chunk in batch.chunks)
