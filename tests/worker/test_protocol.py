"""The boundary between the two processes: what goes in comes out, and what is no frame is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.worker import protocol
from frontdesk.worker.protocol import (
    Abort,
    Load,
    LoadFailed,
    Loading,
    Logprobs,
    Ready,
    SamplingParams,
    SequenceOutput,
    Stepped,
    StepStats,
    Stop,
    Submit,
)

IDS = st.integers(0, 2**31 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TOKENS = st.lists(IDS, max_size=20).map(tuple)
COUNTS = st.integers(0, 2**40)
SAMPLING = st.builds(
    SamplingParams, NUMBERS, IDS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, IDS,
    st.lists(st.tuples(IDS, NUMBERS), max_size=3).map(tuple), st.integers(0, 2**63 - 1),
)  # fmt: skip
SUBMITS = st.builds(Submit, COUNTS, TOKENS, TOKENS, COUNTS, TOKENS, SAMPLING, st.integers(-1, 20), COUNTS)
LOADS = st.builds(
    Load, path=st.text(), window=COUNTS, kv_cells=COUNTS, slots=IDS, threads=IDS, threads_least=IDS, chunk=IDS,
    chunk_busy=IDS, kv_type=st.sampled_from(["f16", "q8_0"]), exact=st.booleans(),
    parked_bytes=COUNTS, shelf=st.text(), shelf_bytes=COUNTS, pad_rows=st.booleans(),
    speculate=st.booleans(), steps=st.dictionaries(st.text(), NUMBERS),
)  # fmt: skip
LOGPROBS = st.builds(Logprobs, NUMBERS, TOKENS, st.lists(NUMBERS, max_size=5).map(tuple))
OUTPUTS = st.builds(
    SequenceOutput, COUNTS, TOKENS, st.sampled_from(["", "stop", "length", "error"]), st.integers(-1, 10_000),
    st.lists(LOGPROBS, max_size=2).map(tuple),
)  # fmt: skip
STATS = st.builds(StepStats, IDS, IDS, COUNTS, COUNTS, IDS, IDS, IDS, NUMBERS, NUMBERS, IDS, COUNTS, IDS, IDS)
TO_CHILD = st.one_of(LOADS, SUBMITS, st.builds(Abort, COUNTS), st.just(Stop()))
TO_PARENT = st.one_of(
    st.builds(Loading, NUMBERS),
    st.builds(Ready, COUNTS, COUNTS, IDS, IDS, IDS, IDS, NUMBERS, st.text()),
    st.builds(LoadFailed, st.text()),
    st.builds(Stepped, st.lists(OUTPUTS, max_size=3).map(tuple), STATS),
)


def body(frame: bytes) -> bytes:
    header, rest = frame[: protocol.HEADER.size], frame[protocol.HEADER.size :]
    assert protocol.body_length(header) == len(rest)
    return rest


@settings(max_examples=200, deadline=None)
@given(message=TO_CHILD)
def test_requests_arrive_as_they_were_sent(message: protocol.ToChild) -> None:
    """The engine would compute something else than was asked for."""
    assert protocol.decode_to_child(body(protocol.encode(message))) == message


@settings(max_examples=200, deadline=None)
@given(message=TO_PARENT)
def test_answers_arrive_as_they_were_sent(message: protocol.ToParent) -> None:
    """Readers would get other tokens than were drawn."""
    assert protocol.decode_to_parent(body(protocol.encode(message))) == message


@settings(max_examples=200, deadline=None)
@given(message=TO_CHILD | TO_PARENT, place=st.floats(0, 1, exclude_max=True))
def test_half_a_message_is_refused(message: protocol.ToChild | protocol.ToParent, place: float) -> None:
    """What is left of a message would be taken for all of it: a prompt without its end, or without its stop tokens."""
    whole = body(protocol.encode(message))
    decode = protocol.decode_to_child if isinstance(message, protocol.ToChild) else protocol.decode_to_parent
    with pytest.raises(ValueError, match="truncated"):
        decode(whole[: int(place * len(whole))])


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_garbage_is_no_other_error(data: bytes) -> None:
    """Damaged bytes would end whoever reads them with an error that nobody expects."""
    for decode in (protocol.decode_to_child, protocol.decode_to_parent):
        try:
            decode(data)
        except ValueError:
            continue


@pytest.mark.parametrize("length", [protocol.MAX_FRAME + 1, 2**32 - 1])
def test_a_frame_over_the_limit_is_refused_by_its_header(length: int) -> None:
    """Four wrong bytes would make the reader take gigabytes of memory."""
    with pytest.raises(ValueError, match="over the limit"):
        protocol.body_length(protocol.HEADER.pack(length))


def test_a_frame_over_the_limit_is_never_sent() -> None:
    """The engine would die of a message that the service could have refused."""
    with pytest.raises(ValueError, match="over the limit"):
        protocol.encode(LoadFailed("x" * (protocol.MAX_FRAME + 1)))


def test_a_message_for_the_other_side_is_refused() -> None:
    """An engine that talks to itself would be taken for a service."""
    with pytest.raises(msgspec.ValidationError):
        protocol.decode_to_child(body(protocol.encode(Loading(0.5))))
