"""One reply between an engine that may die, a keeper that takes its time, and readers: for any interleaving of steps,
commits, cancels and deaths of the server, events are a function of the committed tokens alone.

The engine and the keeper are scripted, so that hypothesis can decide what happens when; the real ones are in
`test_service` and in tests/acceptance.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.chat.reply import Done, Order, Outcome, Parameters, Reply
from frontdesk.chat.sampling import DEFAULTS
from frontdesk.errors import EngineFailed, StorageFailed
from frontdesk.fleet.pool import Backend
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tokenizer import Tokenizer, open_tokenizer
from frontdesk.generation import ContextReport, Delta, Event, Failed, Finished, GenerationRequest, Started
from frontdesk.store.records import JournalEntry
from frontdesk.telemetry.problems import Problems
from frontdesk.telemetry.recent import Metered, Recent
from frontdesk.wire._format import Call
from frontdesk.wire.openai_responses import OpenAIResponses
from frontdesk.worker.protocol import Logprobs, SequenceOutput

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
TOKENIZER: Tokenizer = open_tokenizer(SHIPPED)
CARD = card_for_file(SHIPPED)
SILENT = min(TOKENIZER.eog)  # a token without a text


@dataclass
class ScriptedEngine:
    """Says what the test tells it to say."""

    submitted: list[dict[str, Any]] = field(default_factory=list)
    aborted: int = 0

    def submit(self, prompt: tuple[int, ...], **order: Any) -> int:
        self.submitted.append(order)
        return 7

    def abort(self, id: int) -> None:
        self.aborted += 1

    def say(self, *tokens: int, finish: str = "", cached: int = -1, logprobs: Sequence[Logprobs] = ()) -> None:
        self.submitted[-1]["on_output"](SequenceOutput(7, tokens, finish, cached, tuple(logprobs)))


@dataclass
class SlowKeeper:
    """Commits when the test says so, in order, as the store does."""

    queue: list[tuple[object, Done]] = field(default_factory=list)
    written: list[JournalEntry] = field(default_factory=list)
    ended: list[Outcome] = field(default_factory=list)

    def write(self, entry: JournalEntry, done: Done) -> None:
        self.queue.append((entry, done))

    def end(self, reply: Reply, outcome: Outcome, done: Done) -> None:
        self.queue.append((outcome, done))

    def commit(self, count: int | None = None) -> None:
        """The next `count` writes; `None` for all, also those that the commits bring about."""
        while self.queue and count != 0:
            count = None if count is None else count - 1
            what, done = self.queue.pop(0)
            self.written.append(what) if isinstance(what, JournalEntry) else self.ended.append(cast(Outcome, what))
            done(None)


def order(engine: ScriptedEngine, stop: tuple[str, ...] = (), most: int = 1000) -> Order:
    backend = Backend(CARD, TOKENIZER, "", cast(Any, engine))
    call = OpenAIResponses().parse({"input": "hello"})
    call = Call(GenerationRequest(None, stop=stop), call.body, turn=call.turn)
    parameters = Parameters(DEFAULTS, most, tuple(TOKENIZER.eog), -1)
    return Order("ab" * 16, 1, call, backend, (5, 6, 7), parameters, ContextReport(64, 8, 3, ()), stored=True)


def begun(stop: tuple[str, ...] = ()) -> tuple[Reply, ScriptedEngine, SlowKeeper]:
    engine, keeper = ScriptedEngine(), SlowKeeper()
    reply = Reply(order(engine, stop), keeper)
    reply.begin()
    return reply, engine, keeper


def without_time(events: list[Event]) -> list[object]:
    return [
        (type(event).__name__, event.reason, event.usage, event.stop_string) if isinstance(event, Finished) else event
        for event in events
    ]


words = st.lists(st.integers(300, 900) | st.just(SILENT), min_size=1, max_size=40)
cuts = st.lists(st.integers(1, 5), min_size=1, max_size=40)


def probabilities(tokens: list[int], wanted: bool) -> list[Logprobs]:
    """Other ones at each place; none unless they are wanted."""
    return [Logprobs(-i - 0.5, (token, SILENT), (-i - 0.5, -i - 2.0)) for i, token in enumerate(tokens) if wanted]


def pieces(tokens: list[int], sizes: list[int], logprobs: list[Logprobs]) -> list[tuple[list[int], list[Logprobs]]]:
    out, at = [], 0
    for i in range(len(tokens)):
        if at >= len(tokens):
            break
        size = sizes[i % len(sizes)]
        out.append((tokens[at : at + size], logprobs[at : at + size]))
        at += size
    return out


@given(
    tokens=words,
    sizes=cuts,
    waits=st.lists(st.integers(0, 3), max_size=40),
    stop_at=st.none() | st.integers(0, 39),
    likely=st.booleans(),
)
def test_events_do_not_depend_on_steps_and_commits(
    tokens: list[int], sizes: list[int], waits: list[int], stop_at: int | None, likely: bool
) -> None:
    """A resumed reader would count other sequence numbers than the first one saw."""
    stop: tuple[str, ...] = ()
    logprobs = probabilities(tokens, likely)
    if stop_at is not None:
        text = b"".join(TOKENIZER.token_bytes(token) for token in tokens).decode("utf-8", "replace")
        stop = (text[stop_at % max(1, len(text)) :][:3],)
    one, engine, keeper = begun(stop)
    for i, token in enumerate(tokens):
        engine.say(token, cached=0, logprobs=logprobs[i : i + 1])
        keeper.commit()
    engine.say(finish="length")
    keeper.commit()
    other, engine, keeper = begun(stop)
    for i, (piece, likelihoods) in enumerate(pieces(tokens, sizes, logprobs)):
        engine.say(*piece, cached=0, logprobs=likelihoods)
        keeper.commit(waits[i] if i < len(waits) else 0)
    engine.say(finish="length")
    keeper.commit()
    assert one.log.ended
    assert other.log.ended
    assert without_time(one.log.events) == without_time(other.log.events)


@given(tokens=words, sizes=cuts, committed=st.integers(0, 40), cancel_first=st.booleans(), likely=st.booleans())
@settings(max_examples=200)
def test_a_death_at_any_moment_loses_and_repeats_nothing(
    tokens: list[int], sizes: list[int], committed: int, cancel_first: bool, likely: bool
) -> None:
    """After a restart a reader's prefix would change, or the engine would be asked to go on at the wrong place."""
    reply, engine, keeper = begun()
    logprobs = probabilities(tokens, likely)
    for piece, likelihoods in pieces(tokens, sizes, logprobs):
        engine.say(*piece, cached=2, logprobs=likelihoods)
    if cancel_first:
        reply.cancel()
    keeper.commit(committed)
    seen = list(reply.log.events)  # what a reader may have got when the server dies
    kept = keeper.written

    again, keeper = ScriptedEngine(), SlowKeeper()
    second = Reply(order(again), keeper)
    second.begin(kept)
    emitted = [token for entry in kept for token in entry.tokens]
    if again.submitted:
        assert list(again.submitted[0]["emitted"]) == emitted
        for i, token in enumerate(tokens[len(emitted) :], start=len(emitted)):
            again.say(token, cached=1, logprobs=logprobs[i : i + 1])
        again.say(finish="length")
    keeper.commit()
    now = second.log.events
    if isinstance(seen[-1], Finished):
        seen = seen[:-1]
    assert now[: len(seen)] == seen
    last = now[-1]
    assert isinstance(last, Finished)
    assert last.usage.completion == len(tokens)
    deltas = [event for event in now if isinstance(event, Delta)]
    assert sum(delta.tokens for delta in deltas) == len(tokens)
    told = [(entry.token, entry.data, entry.logprob) for delta in deltas for entry in delta.logprobs]
    said = zip(tokens, logprobs, strict=False)
    assert told == [(token, TOKENIZER.token_bytes(token), entry.logprob) for token, entry in said]


@given(tokens=words, sizes=cuts, outcome=st.sampled_from(["stop", "length", "cancelled"]), likely=st.booleans())
def test_a_reply_read_from_the_store_is_the_one_that_was_written(
    tokens: list[int], sizes: list[int], outcome: str, likely: bool
) -> None:
    """A finished reply would be shown differently the next day."""
    reply, engine, keeper = begun()
    for piece, likelihoods in pieces(tokens, sizes, probabilities(tokens, likely)):
        engine.say(*piece, cached=0, logprobs=likelihoods)
    reply.cancel() if outcome == "cancelled" else engine.say(finish=outcome)
    keeper.commit()
    restored = Reply(order(ScriptedEngine()), SlowKeeper())
    restored.restore(keeper.written, keeper.ended[0])
    assert restored.log.events == reply.log.events


def test_nothing_is_seen_before_it_is_safe() -> None:
    """A server that dies would have shown a token that it cannot know any more."""
    reply, engine, keeper = begun()
    engine.say(300, 301, cached=0)
    assert [type(event) for event in reply.log.events] == [Started]
    keeper.commit(1)
    assert reply.log.text()
    engine.say(finish="stop")
    keeper.commit(1)
    assert not reply.log.ended  # the end itself is not yet committed
    keeper.commit(1)
    assert reply.log.ended


def test_a_cancel_waits_for_what_is_being_written() -> None:
    """Tokens that were committed would be missing from the answer, its usage and its bill."""
    reply, engine, keeper = begun()
    engine.say(300, cached=0)
    reply.cancel()
    assert engine.aborted == 1
    engine.say(301)  # was on its way
    assert not keeper.ended
    keeper.commit()
    last = reply.log.events[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.usage.completion) == ("cancelled", 1)
    assert len(keeper.ended) == 1


def test_a_store_that_refuses_ends_the_reply_with_its_error() -> None:
    """A full disk would leave readers waiting, or show them tokens that nobody keeps."""
    reply, engine, keeper = begun()
    engine.say(300, cached=0)
    _, done = keeper.queue.pop(0)
    done(StorageFailed("the disk is full"))
    assert engine.aborted == 1
    keeper.commit()
    last = reply.log.events[-1]
    assert isinstance(last, Failed)
    assert last.error.code == "storage_unavailable"
    assert not reply.log.text()


@pytest.mark.parametrize("error", [EngineFailed("no"), StorageFailed("no")])
def test_an_end_that_cannot_be_kept_is_a_failure(error: Exception) -> None:
    """A reader would hold an answer for finished that the next start continues."""
    reply, engine, keeper = begun()
    engine.say(300, finish="stop", cached=0)
    keeper.commit(1)
    _, done = keeper.queue.pop(0)
    done(error)
    assert isinstance(reply.log.events[-1], Failed)


def test_what_comes_behind_a_refused_token_is_not_shown() -> None:
    """Who cancels while the store refuses one write and takes the next would be left with a hole in the text, and the
    conversation would go on from it."""
    reply, engine, keeper = begun()
    for token in (300, 301, 302, 303):
        engine.say(token, cached=0 if token == 300 else -1)
    keeper.commit(1)
    reply.cancel()
    _, done = keeper.queue.pop(0)
    done(StorageFailed("the disk is full"))
    keeper.commit()
    assert reply.log.text() == TOKENIZER.token_bytes(300).decode()
    again = Reply(order(ScriptedEngine()), SlowKeeper())
    again.restore(keeper.written, keeper.ended[0])
    assert without_time(again.log.events) == without_time(reply.log.events)


def test_what_was_on_its_way_when_the_server_stopped_is_counted() -> None:
    """The operator's numbers would lack tokens that are in the ledger: the next life takes them for told."""
    reply, engine, keeper = begun()
    recent = Recent(time.time, Problems(time.time, lambda error: 503))
    reply.meter = meter = recent.started(reply.id, Metered("m", 7, "anonymous", lambda: 0), since=0.0)
    engine.say(300, cached=0)
    engine.say(301)
    reply.suspend()
    keeper.commit()
    assert meter.tokens == 2


def test_a_suspended_reply_ends_for_nobody() -> None:
    """At a restart readers would be told that a reply failed which then goes on."""
    reply, engine, keeper = begun()
    engine.say(300, cached=0)
    keeper.commit()
    engine.say(301)
    reply.suspend()
    keeper.commit()
    engine.say(302)
    reply.cancel()
    assert reply.log.suspended
    assert not reply.log.ended
    assert not keeper.ended
