"""The last hour in slots, under a clock that the tests move: against a plain list of everything that happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.errors import EngineDied, FrontdeskError
from frontdesk.telemetry.problems import Asked, Problems
from frontdesk.telemetry.recent import SLOT_SECONDS, SLOTS, Level, Metered, Recent

HOUR = SLOT_SECONDS * SLOTS
START = 1_795_533_600.0


@dataclass
class Clock:
    at: float = START

    def __call__(self) -> float:
        return self.at


def house() -> tuple[Recent, Clock]:
    clock = Clock()
    return Recent(clock, Problems(clock, lambda error: 500)), clock


def about(prompt: int = 10, place: Callable[[], int] = lambda: 0, **changes: Any) -> Metered:
    return replace(Metered("small", prompt, "anonymous", place), **changes)


def totals(recent: Recent) -> Counter[str]:
    names = ("started", "finished", "cancelled", "failed", "refused", "prompt_tokens", "tokens")
    return Counter({name: sum(getattr(slot, name) for slot in recent.slots()) for name in names})


# What happens, and the seconds that pass before it.
HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["start", "tokens", "finished", "cancelled", "failed", "refused", "nothing"]),
        st.floats(0, 3 * SLOT_SECONDS) | st.sampled_from([HOUR - SLOT_SECONDS, HOUR, 5.5 * HOUR]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(happenings=HAPPENINGS)
def test_slots_hold_what_happened_in_their_ten_seconds(happenings: list[tuple[str, float, int]]) -> None:
    """A chart would show a load that was at another time, count something twice, or show what is older than an hour."""
    recent, clock = house()
    events: list[tuple[int, str, int]] = []  # slot, name, how many
    open_replies: list[Any] = []

    def note(name: str, many: int = 1) -> None:
        events.append((int(clock.at) // SLOT_SECONDS * SLOT_SECONDS, name, many))

    for number, (what, pause, count) in enumerate(happenings):
        clock.at += pause
        if what == "start":
            open_replies.append(recent.started(str(number), about(prompt=7), since=clock.at))
            note("started")
        elif what == "refused":
            recent.refused()
            note("refused")
        elif what == "tokens" and open_replies:
            open_replies[count % len(open_replies)].advanced(count, read=count == 0)
            note("tokens", count)
            note("prompt_tokens", 7 if count == 0 else 0)
        elif what in ("finished", "cancelled", "failed") and open_replies:
            meter = open_replies.pop(count % len(open_replies))
            meter.failed(EngineDied("gone")) if what == "failed" else meter.ended(what)
            note(what)
    slots = recent.slots()
    newest = int(clock.at) // SLOT_SECONDS * SLOT_SECONDS
    assert [slot.at for slot in slots] == list(range(newest - HOUR + SLOT_SECONDS, newest + 1, SLOT_SECONDS))
    for slot in slots:
        for name in ("started", "finished", "cancelled", "failed", "refused", "prompt_tokens", "tokens"):
            assert getattr(slot, name) == sum(n for at, what, n in events if (at, what) == (slot.at, name)), (
                slot,
                name,
            )
    assert [meter.id for meter in recent.live()] == [meter.id for meter in open_replies]


@given(gaps=st.lists(st.floats(0.001, 5), min_size=1, max_size=50))
def test_times_are_those_that_passed(gaps: list[float]) -> None:
    """The time to the first token would be a token's, or the pause before an answer would count between tokens."""
    recent, clock = house()
    meter = recent.started("a", about(), since=START - 1)
    for number, gap in enumerate(gaps):
        clock.at += gap
        meter.advanced(1, read=number == 0)
    slots = recent.slots(START)
    assert sum(slot.ttft.count for slot in slots) == 1
    assert sum(slot.itl.count for slot in slots) == len(gaps) - 1
    assert meter.ttft == pytest.approx(1 + gaps[0])
    assert meter.tokens == len(gaps)
    longest = max([slot.itl.quantile(1) for slot in slots])
    assert longest == pytest.approx(max(gaps[1:], default=0.0), rel=0.06)


def test_tokens_that_come_together_share_their_time() -> None:
    """One commit that brings many tokens would look like many tokens that took no time."""
    recent, clock = house()
    meter = recent.started("a", about(), since=START)
    meter.advanced(3, read=True)
    clock.at += 4
    meter.advanced(4, read=False)
    (slot,) = recent.slots(START)
    assert (slot.ttft.count, slot.itl.count, slot.tokens) == (1, 4, 7)
    assert slot.itl.quantile(0) == slot.itl.quantile(1) == pytest.approx(1, rel=0.06)


def test_a_prompt_counts_once_for_all_replies_to_it() -> None:
    """A call for four replies would seem to have read its prompt four times, which nobody was charged for."""
    recent, _ = house()
    for number in range(4):
        recent.started(str(number), about(prompt=100, pays=number == 0), since=START).advanced(1, read=True)
    assert totals(recent)["prompt_tokens"] == 100


def test_a_reply_is_seen_as_what_it_does() -> None:
    """A waiting customer would not be seen, or one who is answered would seem to wait."""
    recent, clock = house()
    line = [2]
    meter = recent.started("a", about(place=lambda: line[0]), since=START)
    assert meter.state() == ("waiting", 2)
    line[0] = 0
    assert meter.state() == ("prefill", None)
    clock.at += 2
    meter.advanced(1, read=True)
    line[0] = 5  # a place as of an older step of the engine
    assert meter.state() == ("streaming", None)
    assert meter.age == 2
    assert recent.live() == [meter]
    meter.left()
    assert recent.live() == []
    assert totals(recent)["finished"] == 0


def test_a_reply_of_a_former_life_has_no_first_token_here() -> None:
    """After a restart the time that the server was down would be the time to the first token."""
    recent, _ = house()
    meter = recent.started("a", about(), since=START - 600, resumed=40)
    meter.advanced(1, read=False)
    assert (meter.tokens, meter.ttft) == (41, None)
    (slot,) = recent.slots(START)
    assert (slot.ttft.count, slot.tokens) == (0, 1)


def test_a_slot_keeps_the_peak_of_a_level() -> None:
    """A rush between two looks at the page would leave no trace."""
    recent, clock = house()
    recent.level(Level(3, 9, 100, 1000, 50))
    recent.level(Level(4, 0, 80, 1000, 40))
    clock.at += SLOT_SECONDS
    recent.level(Level(1, 0, 5, 1000, 30))
    assert [slot.level for slot in recent.slots(START)] == [Level(4, 9, 100, 1000, 50), Level(1, 0, 5, 1000, 30)]


@pytest.mark.parametrize(
    ("since", "count"),
    [(0, SLOTS), (START - HOUR, SLOTS), (START - 20.5, 4), (START - 20, 3), (START, 1), (START + 9, 1), (1e12, 1)],
)
def test_only_what_is_new_is_asked_for(since: float, count: int) -> None:
    """A page that looks every second would fetch the whole hour each time, or miss the end of a slot that it knows."""
    recent, clock = house()
    clock.at = START + 5
    slots = recent.slots(since)
    assert len(slots) == count
    assert slots[-1].at == START


@given(jumps=st.lists(st.floats(-2 * HOUR, 2 * HOUR), max_size=20))
def test_a_clock_that_jumps_breaks_nothing(jumps: list[float]) -> None:
    """Somebody sets the machine's clock, and from then on every token of every reply would raise an error."""
    recent, clock = house()
    meter = recent.started("a", about(), since=clock.at)
    for jump in jumps:
        clock.at += jump
        meter.advanced(1, read=False)
        slots = recent.slots()
        assert len(slots) == SLOTS
        assert slots[-1].at <= clock.at < slots[-1].at + SLOT_SECONDS
        assert slots[-1].tokens >= 1
        assert meter.age >= 0
    assert meter.tokens == len(jumps)


def test_a_failed_reply_is_a_problem_of_its_request() -> None:
    """An operator would see that replies fail and not which, nor why."""
    recent, _ = house()
    asked = Asked("req_1", "POST", "/v1/responses")
    error: FrontdeskError = EngineDied("the engine died")
    recent.started("a", about(asked=asked), since=START).failed(error)
    (problem,) = recent.problems.newest()
    assert (problem.asked, problem.reply, problem.code) == (asked, "a", "engine_died")
    assert totals(recent)["failed"] == 1
