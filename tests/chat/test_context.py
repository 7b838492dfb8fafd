"""Which turns are kept: the laws in the head of `chat/context`, on random histories."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.chat.context import FIXED, Part, Plan, Policy, plan

TURNS = st.lists(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=4), max_size=25)
POLICIES = st.builds(Policy, keep_last=st.integers(1, 4), low_water=st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0]))
LIMITS = st.integers(0, 300)


def history(turns: list[list[tuple[int, bool]]], fixed: tuple[int, ...] = ()) -> list[Part]:
    """`turns` hold (tokens, pinned) of every item; `fixed` are the tokens of system parts."""
    parts = [
        Part(f"{number}.{i}", "pinned" if pinned else "history", tokens, number)
        for number, turn in enumerate(turns)
        for i, (tokens, pinned) in enumerate(turn)
    ]
    return [*(Part(f"s{i}", "system", tokens) for i, tokens in enumerate(fixed)), *parts]


def even(turns: int, tokens: int) -> list[Part]:
    return history([[(tokens, False)]] * turns)


def last(parts: list[Part]) -> int:
    return max((part.turn for part in parts), default=FIXED)


def must_stay(parts: list[Part]) -> set[int]:
    return {i for i, part in enumerate(parts) if part.turn in (FIXED, last(parts)) or part.kind == "pinned"}


@settings(max_examples=300, deadline=None)
@given(turns=TURNS, fixed=st.tuples(st.integers(0, 100)), limit=LIMITS, policy=POLICIES)
def test_never_over_the_limit_and_nothing_lost(
    turns: list[list[tuple[int, bool]]], fixed: tuple[int, ...], limit: int, policy: Policy
) -> None:
    """A prompt that is said to fit would be refused by the engine, or lose the system prompt, a pin or the question."""
    parts = history(turns, fixed)
    chosen = plan(parts, limit=limit, policy=policy)
    assert sorted((*chosen.kept, *chosen.dropped)) == list(range(len(parts)))
    assert list(chosen.kept) == sorted(chosen.kept)
    assert list(chosen.dropped) == sorted(chosen.dropped)
    assert chosen.tokens == sum(parts[i].tokens for i in chosen.kept)
    assert chosen.fits == (chosen.tokens <= limit)
    assert must_stay(parts) <= set(chosen.kept)
    assert chosen == plan(parts, limit=limit, policy=policy)


@settings(max_examples=300, deadline=None)
@given(turns=TURNS, limit=LIMITS, policy=POLICIES)
def test_turns_leave_whole_and_from_the_front(
    turns: list[list[tuple[int, bool]]], limit: int, policy: Policy
) -> None:
    """The model would see an answer without its question, or a hole in the middle of a talk."""
    parts = history(turns)
    chosen = plan(parts, limit=limit, policy=policy)
    loose = {i for i, part in enumerate(parts) if part.kind != "pinned"}
    assert {i for i in loose if parts[i].turn >= chosen.first_turn} == loose & set(chosen.kept)


@settings(max_examples=300, deadline=None)
@given(turns=TURNS, limit=LIMITS, policy=POLICIES)
def test_nothing_leaves_without_need(turns: list[list[tuple[int, bool]]], limit: int, policy: Policy) -> None:
    """A short conversation would lose turns that have room, or a long one would lose everything though it must not."""
    parts = history(turns)
    if sum(part.tokens for part in parts) <= limit:
        assert plan(parts, limit=limit, policy=policy).dropped == ()
    chosen = plan(parts, limit=limit, policy=policy)
    smallest = sum(parts[i].tokens for i in must_stay(parts))
    assert chosen.fits == (smallest <= limit)


@settings(max_examples=300, deadline=None)
@given(turns=TURNS, fixed=st.tuples(st.integers(0, 40)), limit=st.integers(50, 300), policy=POLICIES)
def test_a_growing_history_keeps_its_beginning(
    turns: list[list[tuple[int, bool]]], fixed: tuple[int, ...], limit: int, policy: Policy
) -> None:
    """The engine would read the whole prompt again on every turn: nothing of its KV cache could be used."""
    parts = history(turns, fixed)
    for before, after in pairwise(plan(parts[:n], limit=limit, policy=policy) for n in range(len(parts) + 1)):
        new = len(after.kept) + len(after.dropped) - 1
        assert after.first_turn >= before.first_turn
        if after.first_turn == before.first_turn:
            assert after.kept == ((*before.kept, new) if new >= 0 else ())
        else:
            assert set(after.kept) <= {*before.kept, new}


@settings(max_examples=300, deadline=None)
@given(turns=TURNS, fixed=st.tuples(st.integers(0, 40)), limit=st.integers(50, 300), policy=POLICIES)
def test_drops_are_far_apart(
    turns: list[list[tuple[int, bool]]], fixed: tuple[int, ...], limit: int, policy: Policy
) -> None:
    """Coarse steps are what makes the KV cache worth something: one turn at a time would move the prefix every time."""
    parts = history([[(tokens, False) for tokens, _ in turn] for turn in turns], fixed)
    free = limit - sum(fixed)
    room_since_drop: float | None = None  # tokens that must come before the next drop
    first = 0
    for n in range(1, len(parts) + 1):
        chosen = plan(parts[:n], limit=limit, policy=policy)
        new = parts[n - 1].tokens
        if chosen.first_turn != first:
            if room_since_drop is not None:
                assert new > room_since_drop
            first = chosen.first_turn
            history_kept = chosen.tokens - sum(fixed)
            protected = last(parts[:n]) - first < policy.keep_last
            assert history_kept <= policy.low_water * free or protected
            room_since_drop = None if history_kept > policy.low_water * free else (1 - policy.low_water) * free
        elif room_since_drop is not None:
            room_since_drop -= new


def test_the_last_turns_stay_while_they_fit() -> None:
    """`keep_last` would be a wish, or would make a prompt that cannot be sent."""
    parts = even(11, 20)
    assert plan(parts, limit=100, policy=Policy(keep_last=4, low_water=0.1)).first_turn == 6
    assert plan(parts, limit=100, policy=Policy(keep_last=1, low_water=0.1)).first_turn == 10
    tight = plan(parts, limit=50, policy=Policy(keep_last=4))
    assert (tight.first_turn, tight.fits) == (9, True)


def test_coarse_steps_of_an_even_conversation() -> None:
    """The figure in the documentation: with half as low water, half of the window passes between two drops."""
    firsts = [plan(even(n, 10), limit=100, policy=Policy()).first_turn for n in range(1, 31)]
    assert firsts == [0] * 10 + [6] * 6 + [12] * 6 + [18] * 6 + [24] * 2


def test_disabled_keeps_everything() -> None:
    """What the caller forbade to truncate would be truncated."""
    chosen = plan(even(9, 20), limit=100, policy=Policy(truncation="disabled"))
    assert chosen == Plan(tuple(range(9)), (), 0, 180, False)


@pytest.mark.parametrize(("pinned", "first"), [(False, 4), (True, 4)])
def test_pins_outlive_their_turn(pinned: bool, first: int) -> None:
    """What somebody pinned would leave with the turn that it was said in."""
    parts = history([[(10, pinned), (10, False)], *[[(20, False)]] * 5])
    chosen = plan(parts, limit=110, policy=Policy())
    assert chosen.first_turn == first
    assert (0 in chosen.kept) == pinned
    assert 1 in chosen.dropped


def test_what_a_summary_stands_for_is_counted_all_the_same() -> None:
    """What left would come back when a part of it is summed up, and leave again: the prefix would never stand still."""
    parts = even(15, 10)
    firsts = [plan(parts, limit=100, policy=Policy(), first=covered).first_turn for covered in range(0, 18)]
    assert firsts == [6] * 7 + [7, 8, 9, 10, 11, 12, 13, 14, 14, 14, 14]
    chosen = plan(parts, limit=100, policy=Policy(truncation="disabled"), first=9)
    assert (chosen.kept, chosen.tokens, chosen.fits) == (tuple(range(9, 15)), 60, True)


def test_nothing_at_all() -> None:
    """A preview of an empty conversation would be an error."""
    assert plan([], limit=10, policy=Policy()) == Plan((), (), 0, 0, True)
