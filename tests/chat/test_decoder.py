"""Token bytes to text: characters stay whole, stop strings stay out, and how tokens arrive makes no difference."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.chat.decoder import Decoder
from frontdesk.generation import Delta, TokenLogprob

PIECES = st.lists(
    st.sampled_from([b"a", b"b", b"ab", b"aba", b"", "é".encode(), b"\xf0\x9f", b"\x98\x80", b"\xff", b"\n", b"stop"]),
    max_size=14,
)
STOPS = st.lists(st.sampled_from(["ab", "aba", "bab", "stop", "\n\n", "é", "😀", "aab\ufffd"]), max_size=3)


def run(
    pieces: list[bytes], stop: list[str], sizes: list[int], with_logprobs: bool = False
) -> tuple[list[Delta], Decoder]:
    decoder = Decoder(lambda token: pieces[token], tuple(stop))
    tokens, deltas, at = list(range(len(pieces))), [], 0
    for size in [*sizes, len(tokens)]:
        chunk = tokens[at : at + size]
        at += size
        logprobs = [TokenLogprob(token, pieces[token], -float(token)) for token in chunk] if with_logprobs else []
        deltas += decoder.feed(chunk, logprobs)
    return deltas + decoder.finish(), decoder


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def expected(pieces: list[bytes], stop: list[str]) -> tuple[str, str | None]:
    """By the definition: the stop string that is complete first, of these the longest."""
    whole = b"".join(pieces).decode("utf-8", "replace")
    for end in range(1, len(whole) + 1):
        if met := [text for text in stop if whole[:end].endswith(text)]:
            longest = max(met, key=len)
            return whole[: end - len(longest)], longest
    return whole, None


@settings(max_examples=400, deadline=None)
@given(pieces=PIECES, stop=STOPS, sizes=st.lists(st.integers(1, 5), max_size=14))
def test_any_cut_gives_the_same_text(pieces: list[bytes], stop: list[str], sizes: list[int]) -> None:
    """A stop string across two tokens would be shown, or a reply would depend on how busy the engine is."""
    deltas, decoder = run(pieces, stop, sizes)
    assert (text_of(deltas), decoder.stopped) == expected(pieces, stop)
    assert sum(delta.tokens for delta in deltas) == decoder.tokens_used
    single, one_by_one = run(pieces, stop, [1] * len(pieces))
    assert (text_of(single), one_by_one.stopped, one_by_one.tokens_used) == (
        text_of(deltas),
        decoder.stopped,
        decoder.tokens_used,
    )


@settings(max_examples=200, deadline=None)
@given(pieces=PIECES, stop=STOPS, sizes=st.lists(st.integers(1, 5), max_size=14))
def test_logprobs_travel_with_their_text(pieces: list[bytes], stop: list[str], sizes: list[int]) -> None:
    """A client would see probabilities of tokens whose text it has not got, or never gets."""
    deltas, decoder = run(pieces, stop, sizes, with_logprobs=True)
    told = [entry.token for delta in deltas for entry in delta.logprobs]
    assert told == list(range(len(told)))
    if decoder.stopped is None:
        assert len(told) == len(pieces)
        assert all(len(delta.logprobs) == delta.tokens for delta in deltas)
    else:
        assert b"".join(pieces[token] for token in told).decode("utf-8", "replace").startswith(text_of(deltas))


def test_text_never_waits_without_reason() -> None:
    """Streaming would stutter: only the beginning of a stop string and half a character may be held."""
    pieces = [b"Hi", b" \xf0\x9f", b"\x98\x80", b"!", b"\nUs", b"e", b"r", b"\nUser:"]
    decoder = Decoder(lambda token: pieces[token], ("\nUser:",))
    steps = [[(d.text, d.tokens) for d in decoder.feed((token,))] for token in range(len(pieces))]
    assert steps == [[("Hi", 1)], [(" ", 0)], [("😀", 2)], [("!", 1)], [], [], [], [("\nUser", 4)]]
    assert (decoder.stopped, decoder.tokens_used) == ("\nUser:", 8)
    assert decoder.feed((0,)) == decoder.finish() == []
    assert decoder.tokens_used == 8


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"\xf0\x9f", b"a"], "\ufffda"),
        ([b"\xf0", b"\x9f", b"\x98"], "\ufffd"),
        ([b"\xff\xfe"], "\ufffd\ufffd"),
        ([b"\xe2\x82", b"\xac", b"\xe2\x82"], "€\ufffd"),
        ([b"\xed\xa0\x80"], "\ufffd\ufffd\ufffd"),
    ],
)
def test_invalid_bytes_become_one_mark_per_part(pieces: list[bytes], text: str) -> None:
    """Clients would receive broken UTF-8, or a character too many."""
    assert text_of(run(pieces, [], [1] * len(pieces))[0]) == text


def test_tokens_without_text_are_counted() -> None:
    """Usage would miss the end-of-turn token."""
    deltas, decoder = run([b"a", b""], [], [1, 1])
    assert [(delta.text, delta.tokens) for delta in deltas] == [("a", 1), ("", 1)]
    assert decoder.tokens_used == 2
    assert Decoder(lambda _: b"").finish() == []


def test_long_stop_strings_cost_no_more() -> None:
    """A stop string of 100,000 characters, nearly met again and again, would stall every stream."""
    decoder = Decoder(lambda _: b"aaaaaaaa", ("a" * 100_000 + "b", "a" * 50_000 + "c"))
    begin = time.process_time()
    for _ in range(20_000):
        decoder.feed((0,))
    text = text_of(decoder.finish())
    assert time.process_time() - begin < 5
    assert len(text) + decoder.tokens_used * 8 >= 100_000


def test_cheap_in_the_common_case() -> None:
    """The decoder runs for every token of every stream on the event loop's thread."""
    decoder = Decoder([b" token"].__getitem__, ("\nUser:", "###", "STOP", "<|x|>"))
    begin = time.process_time()
    for _ in range(20_000):
        decoder.feed((0,))
    assert (time.process_time() - begin) / 20_000 < 30e-6  # measured: 2 to 4 microseconds
