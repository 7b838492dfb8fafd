"""Readers that begin in the middle: whoever has the first N events and gets the rest has the whole stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.errors import EngineDied
from frontdesk.generation import ContextReport, Delta, Event, Failed, Finished, Started, TokenLogprob, Usage
from frontdesk.wire._format import Identity
from frontdesk.wire.openai_responses import OpenAIResponses, last_number, response_object_of

FORMAT = OpenAIResponses()
CONTEXT = ContextReport(4096, 512, 7, (("input", 7),))
IDENTITY = Identity("ab" * 16, "m", 1, conversation=f"conv_{'c' * 32}", context=CONTEXT, store=True, background=True)
CALL = FORMAT.parse({"input": "x", "stream": True, "top_logprobs": 1})
STARTED = Started("m", 1)
END = Finished("stop", Usage(7, 0, 2), at=5)

texts = st.text(max_size=6) | st.sampled_from(["\n\n", "data: ", "\u2028", "🙂", "id: 5\n"])
logprobs = st.sampled_from([(), (TokenLogprob(1, b"\xff", -0.5, ((1, b"\xff", -0.5),)),)])
deltas = st.lists(st.builds(Delta, texts, st.just(1), logprobs), max_size=8)
reasons: st.SearchStrategy[Literal["stop", "length", "cancelled"]] = st.sampled_from(["stop", "length", "cancelled"])
ends = st.builds(Finished, reasons, st.just(Usage(7, 3, 2)), at=st.just(9)) | st.just(
    Failed(EngineDied("it died"), Usage(7, 3, 2), 9)
)
replies: st.SearchStrategy[list[Event]] = st.builds(lambda middle, end: [STARTED, *middle, end], deltas, ends)


def batches(events: Sequence[Event], cuts: Sequence[int]) -> list[Sequence[Event]]:
    places = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    return [events[start:stop] for start, stop in pairwise(places)]


def frames(stream: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in stream.split(b"\n\n")[:-1]]


@pytest.mark.parametrize("native", [False, True])
@given(events=replies, cuts=st.lists(st.integers(0, 99), max_size=4))
def test_the_first_events_and_the_rest_are_the_whole(native: bool, events: list[Event], cuts: list[int]) -> None:
    """If this fails, a reader that comes back loses, repeats or misreads what was written meanwhile."""
    make = FORMAT.events_encoder if native else FORMAT.encoder
    encoder = make(CALL, IDENTITY)
    whole = frames(encoder.encode(0, events) + encoder.end())
    count = last_number(CALL, IDENTITY, events) + 1
    assert len(whole) == count + (not native and not isinstance(events[-1], Failed))
    for after in range(-1, count + 2):
        resumed = make(CALL, IDENTITY, after)
        rest = b"".join(resumed.encode(0, batch) for batch in batches(events, cuts)) + resumed.end()
        assert b"".join(whole[: after + 1]) + rest == b"".join(whole) or after >= count
        assert frames(rest) == (whole[after + 1 :] if after < count else whole[count:])


def test_native_frames_carry_their_number() -> None:
    """If this fails, a browser that reconnects by itself tells us a wrong place, and its page repeats or loses text."""
    encoder = FORMAT.events_encoder(CALL, IDENTITY, 2)
    stream = encoder.encode(0, [STARTED, Delta("a", 1), Delta("b\n", 1), END]) + encoder.end()
    for number, frame in enumerate(frames(stream), start=3):
        id, event, data = frame.decode().rstrip("\n").split("\n")
        payload = json.loads(data.removeprefix("data: "))
        assert (id, event) == (f"id: {number}", f"event: {payload['type']}")
        assert payload["sequence_number"] == number
    assert b"[DONE]" not in stream


@given(events=replies, stop=st.integers(0, 12))
def test_the_object_at_any_moment(events: list[Event], stop: int) -> None:
    """If this fails, a client that polls sees text vanish, or another text than the one that streams."""
    seen = events[:stop]
    response: dict[str, Any] = response_object_of(CALL, IDENTITY, seen)
    text = "".join(event.text for event in seen if isinstance(event, Delta))
    shown = "".join(part["text"] for item in response["output"] for part in item["content"])
    assert shown == text
    ended = bool(seen) and isinstance(seen[-1], Finished | Failed)
    assert (response["status"] == "in_progress") == (not ended)
    assert (response["usage"] is None) == (not ended)
    assert response["completed_at"] == (9 if response["status"] == "completed" else None)
    if not ended:
        assert all(item["status"] == "in_progress" for item in response["output"])


def test_what_the_service_knows_is_told() -> None:
    """If this fails, a client cannot tell where its response belongs, or what of the conversation the model saw."""
    response = response_object_of(CALL, IDENTITY, [STARTED, END])
    assert response["conversation"] == {"id": IDENTITY.conversation}
    assert (response["store"], response["background"], response["truncation"]) == (True, True, "auto")
    assert (response["context"]["prompt_tokens"], response["context"]["parts"]) == (7, {"input": 7})
    assert response["completed_at"] == 5
