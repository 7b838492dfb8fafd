"""What the named workloads ask: nothing is lost, the same seed asks the same, and prompts share no prefix."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.bench.plan import Plan, Session
from frontdesk.bench.prompts import SAMPLES, Sizes, samples, sizes
from frontdesk.bench.workloads import DEFAULTS, SHORT, Shape, plan

SIZES = Sizes(base=20.0, per_word=1.5)
shapes = st.builds(
    Shape,
    streams=st.integers(1, 6),
    requests=st.integers(1, 20),
    prompt=st.integers(1, 200),
    new=st.integers(1, 64),
    turns=st.integers(1, 4),
    think=st.floats(0, 2),
    persona=st.integers(1, 100),
    rate=st.sampled_from([0.0, 2.0]),
    seed=st.integers(0, 9),
)


def sessions(made: Plan) -> list[Session]:
    return [session for round in made.rounds for session in round.sessions]


@pytest.mark.parametrize("workload", DEFAULTS)
@given(shape=shapes)
@settings(max_examples=40, deadline=None)
def test_every_session_is_asked_once(workload: str, shape: Shape) -> None:
    """A run would tell of more or fewer requests than it was to send."""
    made = plan(workload, shape, SIZES)
    turns = shape.turns if workload == "widget" else 1
    assert len(sessions(made)) == shape.requests
    assert made.replies == shape.requests * turns
    assert made == plan(workload, shape, SIZES)
    for session in sessions(made):
        assert session.system
        assert all(turn.text and turn.new_tokens for turn in session.turns)


@pytest.mark.parametrize("workload", ["raw", "mixed", "widget", "quoted"])
@given(shape=shapes)
@settings(max_examples=25, deadline=None)
def test_a_closed_loop_has_so_many_streams_and_an_open_one_is_timed(workload: str, shape: Shape) -> None:
    """The load would be another one than the flags say."""
    made = plan(workload, shape, SIZES)
    if shape.rate:
        (round,) = made.rounds
        times = [session.at for session in sessions(made)]
        assert len(round.lanes) == shape.requests
        assert times == sorted(times)
        assert len(set(times)) == shape.requests
    else:
        assert max(len(round.lanes) for round in made.rounds) == min(shape.streams, shape.requests)
        assert not any(session.at for session in sessions(made))


def test_visitors_come_at_the_rate_and_think_as_long_as_the_flags_say() -> None:
    """An open loop that sends everything at once, or visitors who never think, would pass for the load that was named.
    Means of 400 draws lie within a fifth of what they are drawn with."""
    shape = Shape(streams=1, requests=401, prompt=4, new=4, turns=2, think=3.0, persona=4, rate=2.0)
    made = sessions(plan("widget", shape, SIZES))
    times = [session.at for session in made]
    waits = [turn.wait for session in made for turn in session.turns]
    assert (min(times), max(times) / 400) == (0.0, pytest.approx(1 / 2.0, rel=0.2))
    assert (len(set(waits)), sum(waits) / len(waits)) == (802, pytest.approx(3.0, rel=0.2))


def test_another_seed_asks_something_else() -> None:
    """Rounds of a comparison would find each other's prompts in the cache."""
    shape = DEFAULTS["raw"]
    one, other = (plan("raw", replace(shape, seed=seed), SIZES) for seed in (1, 2))
    assert not {s.system for s in sessions(one)} & {s.system for s in sessions(other)}


def test_prompts_share_no_prefix_but_the_persona() -> None:
    """A prefix cache would look like a fast prefill."""
    assert len({session.system for session in sessions(plan("raw", DEFAULTS["raw"], SIZES))}) == 32
    visitors = sessions(plan("widget", DEFAULTS["widget"], SIZES))
    assert len({session.system for session in visitors}) == 1
    assert len({turn.text for session in visitors for turn in session.turns}) == 24 * 5


def test_half_of_mixed_replies_are_short() -> None:
    """Slots would not be left half empty, which is what the workload is for."""
    for round in plan("mixed", DEFAULTS["mixed"], SIZES).rounds:
        lengths = [session.turns[0].new_tokens for session in round.sessions]
        assert lengths == [DEFAULTS["mixed"].new, SHORT] * 8


def test_mixed_conversations_hold_their_context_before_the_clock_begins() -> None:
    """Reading the contexts would be measured instead of what the servers do with them."""
    made = sessions(plan("mixed", replace(DEFAULTS["mixed"], context=1000, prompt=40), SIZES))
    lengths = [len(session.opening.text.split()) * SIZES.per_word for session in made if session.opening]
    assert len(lengths) == len(made)
    assert all(950 < length < 1000 for length in lengths)
    assert all(len(turn.text.split()) * SIZES.per_word < 50 for session in made for turn in session.turns)


def test_a_long_prompt_comes_beside_streams() -> None:
    """The workload would measure a prompt that comes alone."""
    made = plan("long", DEFAULTS["long"], SIZES)
    assert [len(round.background) for round in made.rounds] == [7, 7, 7]
    assert {turn.kind for session in sessions(made) for turn in session.turns} == {"long prompt"}


@given(st.floats(0, 100), st.floats(0.5, 4), st.integers(150, 5000))
def test_prompts_have_about_the_wanted_length(base: float, per_word: float, wanted: int) -> None:
    """128 tokens in would be some other number."""
    counts = tuple(base + per_word * count for count in SAMPLES)
    found = sizes((round(counts[0]), round(counts[1])))
    system, user = found.prompt(Random(1), wanted)
    tokens = base + per_word * len(f"{system} {user}".split())
    assert tokens == pytest.approx(wanted, rel=0.05, abs=4)


def test_a_server_that_cannot_count_is_found_out() -> None:
    """Prompts would be endless, or of one word."""
    with pytest.raises(ValueError, match="cannot have"):
        sizes((50, 50))
    assert [sum(len(m["content"].split()) for m in messages) for messages in samples()] == list(SAMPLES)
