"""The history checker itself: a good history passes however it was read, and every kind of damage is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.acceptance.history import FIRST, History, Kept, Seen, Told, Visit, check, check_books, final

WORDS = [f" word{i}" for i in range(12)]
TEXT = "".join(WORDS)


def events(words: list[str] = WORDS, text: str | None = None) -> list[bytes]:
    """The events of one reply, as the Responses API has them, cut down to what the checker reads."""
    response = {"id": "resp_1", "output": [], "usage": None}
    usage = {"input_tokens": 7, "output_tokens": len(words)}
    output = [{"content": [{"text": "".join(words) if text is None else text}]}]
    body = [
        {"type": "response.created", "response": response},
        *({"type": "response.output_text.delta", "delta": word} for word in words),
        {"type": "response.incomplete", "response": response | {"output": output, "usage": usage}},
    ]
    return [json.dumps({"sequence_number": n, **event}).encode() for n, event in enumerate(body)]


def history(frames: list[bytes], cuts: list[int] | None = None) -> History:
    """One client that was cut off before the events at `cuts` and came back each time."""
    seen = History("a")
    bounds = [0, *sorted(cuts or []), len(frames)]
    for begin, end in pairwise(bounds):
        seen.visit("sse")
        for frame in frames[begin:end]:
            seen.note(frame, 0.0)
    return seen


def kinds(seen: History) -> set[str]:
    return {fault.kind for fault in check(seen, expected=TEXT, tokens=len(WORDS))}


@given(st.lists(st.integers(0, len(WORDS) + 2), max_size=6), st.booleans())
def test_a_whole_history_has_no_fault(cuts: list[int], again: bool) -> None:
    """Breaks if the checker cries at readers that left and came back, or read everything twice: nobody would look."""
    seen = history(events(), cuts)
    if again:
        visit = seen.visit("retry", everything=True)
        visit.seen = [Seen(n, frame, 1.0) for n, frame in enumerate(events())]
    assert check(seen, expected=TEXT, tokens=len(WORDS)) == []
    assert final(seen) == Told("resp_1", TEXT, 7, len(WORDS))


@given(st.integers(0, len(WORDS) + 1), st.lists(st.integers(0, len(WORDS) + 2), max_size=3))
def test_an_event_that_never_came_is_lost(number: int, cuts: list[int]) -> None:
    """Breaks if a gap goes unseen, wherever it is: in mid-stream, at the start, at the end or at a resume."""
    seen = history(events(), cuts)
    for visit in seen.visits:
        visit.seen = [each for each in visit.seen if each.number != number]
    assert kinds(seen) & {"lost", "no end"}


@given(st.integers(0, len(WORDS) + 1))
def test_an_event_that_came_twice_is_repeated(number: int) -> None:
    """Breaks if a resume that begins one event too early goes unseen."""
    frames = events()
    frames.insert(number, frames[number])
    assert "repeated" in kinds(history(frames))
    early = history(events(), [number + 1])
    early.visits[-1].seen.insert(0, Seen(number, events()[number], 0.0))
    assert "repeated" in kinds(early)


@given(st.integers(0, len(WORDS) - 1))
def test_another_word_at_a_known_number_is_changed(index: int) -> None:
    """Breaks if a restarted server may rewrite what a reader has already seen."""
    seen = history(events())
    seen.visit("retrieve", everything=True)
    for frame in events([*WORDS[:index], " other", *WORDS[index + 1 :]]):
        seen.note(frame, 1.0)
    assert "changed" in kinds(seen)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([*WORDS[:4], *WORDS[5:]], "lost"),
        ([*WORDS[:4], WORDS[3], *WORDS[4:]], "repeated"),
        ([*WORDS[:4], " other", *WORDS[5:]], "changed"),
        ([WORDS[1], WORDS[0], *WORDS[2:]], "changed"),
    ],
)
def test_damage_behind_gapless_numbers_is_found(words: list[str], kind: str) -> None:
    """Breaks if a token that is lost, repeated or changed before events are numbered passes for a good stream."""
    assert kind in kinds(history(events(words)))


def test_a_final_text_that_is_not_its_deltas() -> None:
    """Breaks if the end may say something else than the stream did."""
    assert "changed" in kinds(history(events(text=TEXT + "!")))


def test_two_ends_no_end_and_failures() -> None:
    """Breaks if a reply that never ends, ends twice or fails counts as delivered."""
    frames = events()
    assert "no end" in kinds(history(frames[:-1]))
    second = json.dumps(json.loads(frames[-1]) | {"sequence_number": len(frames)}).encode()
    assert "repeated" in kinds(history([*frames, second]))
    failed = json.dumps(json.loads(frames[-1]) | {"type": "response.failed"}).encode()
    assert "failed" in kinds(history([*frames[:-1], failed]))
    refused = history(frames)
    refused.problems.append("404 for a reply that exists")
    assert "failed" in kinds(refused)


def test_a_visit_that_was_never_answered_is_no_fault() -> None:
    """Breaks if connections that a kill refused count as losses."""
    seen = history(events())
    seen.visits.append(Visit("retrieve", FIRST))
    assert kinds(seen) == set()


TOLD = Told("resp_1", TEXT, 7, len(WORDS))
KEPT = Kept("resp_1", TEXT, 7, len(WORDS), True, ((7, len(WORDS)),))


def test_books_that_agree() -> None:
    """Breaks if the comparison with the database cries at what is right."""
    assert check_books([TOLD], [KEPT]) == []


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda: replace(KEPT, rows=KEPT.rows * 2), "ledger"),
        (lambda: replace(KEPT, rows=()), "ledger"),
        (lambda: replace(KEPT, rows=((7, len(WORDS) - 1),)), "ledger"),
        (lambda: replace(KEPT, prompt=8), "ledger"),
        (lambda: replace(KEPT, tokens=len(WORDS) + 1), "journal"),
        (lambda: replace(KEPT, text=TEXT[1:]), "journal"),
        (lambda: replace(KEPT, gapless=False), "journal"),
        (lambda: replace(KEPT, id="resp_2"), "journal"),
    ],
)
def test_books_that_disagree(damage: Callable[[], Kept], kind: str) -> None:
    """Breaks if a double charge, an uncharged reply or a journal with other tokens is not seen."""
    assert kind in {fault.kind for fault in check_books([TOLD], [damage()])}


def test_a_second_generation_is_found() -> None:
    """Breaks if a retried request may run, and be charged, a second time under another id."""
    twin = replace(KEPT, id="resp_2")
    assert [fault.what for fault in check_books([TOLD], [KEPT, twin])] == ["a reply that no client asked for"]
