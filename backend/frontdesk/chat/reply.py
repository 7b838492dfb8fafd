"""One reply, from its order to its last event: submit, keep, decode, log, finish.

The only place where tokens from an engine meet the decoder. Tokens go through a `Keeper` first and reach the log when
it says that they are safe; so what a reader has seen is never lost, whoever dies. Tokens are decoded one at a time:
the events are a function of the token ids alone, not of how they came in steps, commits or lives of the server.
Knows no wire format, no socket, no HTTP and no database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import msgspec

from frontdesk.chat.decoder import Decoder
from frontdesk.chat.readers import Readers
from frontdesk.chat.sampling import effective
from frontdesk.chat.streams import StreamLog
from frontdesk.errors import EngineFailed, FrontdeskError
from frontdesk.fleet.pool import Backend
from frontdesk.generation import (
    ContextReport,
    Delta,
    Failed,
    Finished,
    FinishReason,
    Started,
    TokenLogprob,
    Truncation,
    Usage,
)
from frontdesk.principal import ANONYMOUS, Limits, Principal
from frontdesk.store.records import JournalEntry
from frontdesk.telemetry.recent import Meter
from frontdesk.wire._format import Call, Identity
from frontdesk.worker.protocol import Logprobs, SamplingParams, SequenceOutput

_logprobs = msgspec.msgpack.Decoder(tuple[Logprobs, ...])


class Parameters(msgspec.Struct, frozen=True):
    """What an engine needs beside the prompt's ids. Written into the store, so that a later life can go on."""

    sampling: SamplingParams
    max_tokens: int  # 0 = prefill only
    stop_tokens: tuple[int, ...]
    top_logprobs: int  # -1 = none


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that makes a reply what it is. `id` is 32 hex digits, `created` in seconds since 1970."""

    id: str
    created: int
    call: Call
    backend: Backend
    prompt: tuple[int, ...]  # token ids
    parameters: Parameters
    report: ContextReport
    principal: Principal = ANONYMOUS
    tenant: int = 0
    public: int = 0  # tokens of the prompt, from its beginning, that are a persona of the server's
    conversation: str | None = None
    conversation_limits: Limits | None = None  # its own budget
    stored: bool = False
    background: bool = False
    keyed: bool = False  # it has an Idempotency-Key: whoever lost it asks for it again
    paying: str | None = None  # a conversation that is charged though the reply is no turn of it
    truncation: Truncation | None = None  # what was done about it, when the request left that open
    first: bool = True  # of the replies to one call, which share the prompt

    @property
    def identity(self) -> Identity:
        return Identity(
            self.id,
            self.backend.card.name,
            self.created,
            effective(self.parameters.sampling),
            truncation=self.truncation,
            conversation=self.conversation,
            context=self.report,
            store=self.stored,
            background=self.background,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended. `error` is set when it failed; `at` is in seconds since 1970."""

    reason: FinishReason | None
    usage: Usage
    at: int
    error: FrontdeskError | None = None


Done = Callable[[Exception | None], None]


class Keeper(Protocol):
    """Where a reply's tokens and its end are kept. `done` is called when they are safe, in the order of the calls."""

    def write(self, entry: JournalEntry, done: Done) -> None: ...

    def end(self, reply: Reply, outcome: Outcome, done: Done) -> None: ...


class Reply:
    """One reply being written. Ends exactly once, as finished, cancelled or failed, and its log says which."""

    def __init__(self, order: Order, keeper: Keeper, grace: float | None = 0.0) -> None:
        """`grace`: as of its `Readers`."""
        self.order = order
        self.log = StreamLog()
        self.readers = Readers(self.cancel, grace)
        self.usage = Usage(len(order.prompt))
        self._keeper = keeper
        self.headers: dict[str, str] = {}  # for the answer's head: what the budgets have left
        self.meter: Meter | None = None  # of a reply that is being computed, for the operator
        self.reading = False  # the engine has read a part of the prompt
        self.computed = False  # the engine has read the prompt
        asked = order.call.generation
        raw = asked.text is not None or asked.tokens is not None
        ends = () if raw or asked.sampling.ignore_eos else (order.backend.turn_end,)
        self._decoder = Decoder(order.backend.tokenizer.token_bytes, (*asked.stop, *ends))
        self._ticket: int | None = None
        self._position = 0  # tokens handed to the keeper
        self._unsafe = 0  # writes that the keeper has not yet confirmed
        self._closing: FinishReason | FrontdeskError | None = None
        self._ending = False
        self._torn = False  # a write has failed: what comes behind it must not be shown
        self.log.append(Started(order.backend.card.name, order.created))

    @property
    def id(self) -> str:
        return self.order.id

    @property
    def call(self) -> Call:
        return self.order.call

    @property
    def identity(self) -> Identity:
        return self.order.identity

    @property
    def place(self) -> int:
        """Place in the waiting line: 1 is next, 0 is being worked on or over."""
        return 0 if self._ticket is None else self.order.backend.engine.place(self._ticket)

    def begin(self, kept: Sequence[JournalEntry] = ()) -> None:
        """Hand the reply to its engine, behind the tokens that were kept in a former life."""
        self._replay(kept)
        if self._closing is not None:
            return
        parameters = self.order.parameters
        self._ticket = self.order.backend.engine.submit(
            self.order.prompt,
            sampling=parameters.sampling,
            max_tokens=parameters.max_tokens,
            stop_tokens=parameters.stop_tokens,
            top_logprobs=parameters.top_logprobs,
            tenant=self.order.tenant,
            public=self.order.public,
            emitted=tuple(token for entry in kept for token in entry.tokens),
            on_output=self._on_output,
            on_failed=self._close,
        )

    def restore(self, kept: Sequence[JournalEntry], outcome: Outcome) -> None:
        """Fill the log of a reply that has ended before, event for event.

        Tokens that were committed when it had failed already were never shown, and are not now.
        """
        self._ending, self._closing = True, outcome.error or outcome.reason
        shown = outcome.usage.completion
        kept = [replace(e, tokens=e.tokens[: shown - e.position]) for e in kept if e.position < shown]
        self._replay(kept)
        self._append(self._decoder.finish())
        self._conclude(outcome)

    def recite(self, text: str, outcome: Outcome) -> None:
        """Fill the log of a reply that has ended before, and that another model wrote: from its text, in one piece."""
        self._ending, self._closing = True, outcome.error or outcome.reason
        self._append([Delta(text, outcome.usage.completion)] if text else [])
        self._conclude(outcome)

    def charge(self, kept: Sequence[JournalEntry]) -> None:
        """Take over what the tokens of a former life cost, without reading them."""
        cached = next((entry.cached for entry in kept if entry.cached >= 0), None)
        self.computed = cached is not None
        self.usage = Usage(self.usage.prompt, cached or 0, sum(len(entry.tokens) for entry in kept))

    def cancel(self) -> None:
        """Stop now; what was generated stays. Does nothing when the reply has ended."""
        self._close("cancelled")

    def suspend(self) -> None:
        """Leave the reply as it is kept: another life of the server goes on with it."""
        if not self.log.ended:
            self._closing = self._closing or "cancelled"
            self._ending = True
            self._abort()
            self.log.suspend()
            if self.meter is not None:
                self.meter.left()

    def _replay(self, kept: Sequence[JournalEntry]) -> None:
        for entry in kept:
            self._position += len(entry.tokens)
            self._apply(entry, self._readable(entry.tokens, _logprobs.decode(entry.logprobs) if entry.logprobs else ()))

    def _on_output(self, output: SequenceOutput) -> None:
        if self._closing is not None:
            return
        if output.reading:
            self.reading = True
            return
        if output.finish == "error":
            self._close(EngineFailed("the engine could not compute this request"))
            return
        logprobs = msgspec.msgpack.encode(output.logprobs) if output.logprobs else b""
        entry = JournalEntry(self.id, self._position, output.tokens, output.finish, output.cached, logprobs)
        readable = self._readable(output.tokens, output.logprobs)
        self._position += len(output.tokens)
        self._unsafe += 1
        self._keeper.write(entry, partial(self._on_kept, entry, readable))

    def _on_kept(self, entry: JournalEntry, logprobs: tuple[TokenLogprob, ...], error: Exception | None) -> None:
        self._unsafe -= 1
        if self.log.suspended and error is None and self.meter is not None:
            # Committed: the next life finds it and will not count it.
            self.meter.advanced(len(entry.tokens), read=entry.cached >= 0 and not self.computed)
        if self.log.suspended or self._ending:
            return
        if error is not None:
            self._torn = True
            self._close(error if isinstance(error, FrontdeskError) else EngineFailed("the reply could not be kept"))
        elif not self._torn and not isinstance(self._closing, FrontdeskError):
            computed, completion = self.computed, self.usage.completion
            self._apply(entry, logprobs)
            if self.meter is not None:
                self.meter.advanced(self.usage.completion - completion, read=self.computed and not computed)
        if self._closing is not None and not self._unsafe:
            self._end()

    def _apply(self, entry: JournalEntry, logprobs: tuple[TokenLogprob, ...]) -> None:
        if entry.cached >= 0 and not self.computed:  # a later life's engine tells it again
            self.computed = True
            self.usage = Usage(self.usage.prompt, entry.cached, self.usage.completion)
        for index, token in enumerate(entry.tokens):
            self._append(self._decoder.feed((token,), logprobs[index : index + 1]))
        self.usage = Usage(self.usage.prompt, self.usage.cached, self._decoder.tokens_used)
        if self._decoder.stopped is not None:
            self._close("stop")
        elif entry.finish:
            self._close("length" if entry.finish == "length" else "stop", running=False)

    def _close(self, outcome: FinishReason | FrontdeskError, *, running: bool = True) -> None:
        """The first outcome counts. The end waits for tokens that are still on their way to the keeper."""
        if self._closing is not None:
            return
        self._closing = outcome
        if running:
            self._abort()
        if not self._unsafe:
            self._end()

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._append(self._decoder.finish())
        error = self._closing if isinstance(self._closing, FrontdeskError) else None
        reason = None if isinstance(self._closing, FrontdeskError) else self._closing
        outcome = Outcome(reason, self.usage, int(time.time()), error)
        self._keeper.end(self, outcome, partial(self._on_ended, outcome))

    def _on_ended(self, outcome: Outcome, error: Exception | None) -> None:
        if self.log.suspended:
            return
        if error is not None:
            problem = error if isinstance(error, FrontdeskError) else EngineFailed("the reply could not be kept")
            outcome = Outcome(None, outcome.usage, outcome.at, problem)
        self._conclude(outcome)

    def _conclude(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.log.append(Failed(outcome.error, outcome.usage, outcome.at))
        else:
            assert outcome.reason is not None
            self.log.append(Finished(outcome.reason, outcome.usage, self._decoder.stopped, outcome.at))
        self.readers.over()
        if self.meter is None:
            return
        if outcome.error is not None:
            self.meter.failed(outcome.error)
        else:
            self.meter.ended("cancelled" if outcome.reason == "cancelled" else "finished")

    def _abort(self) -> None:
        if self._ticket is not None:
            self.order.backend.engine.abort(self._ticket)

    def _append(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            self.log.append(delta)

    def _readable(self, tokens: Sequence[int], logprobs: Sequence[Logprobs]) -> tuple[TokenLogprob, ...]:
        data = self.order.backend.tokenizer.token_bytes
        return tuple(
            TokenLogprob(
                token,
                data(token),
                entry.logprob,
                tuple((t, data(t), p) for t, p in zip(entry.top_ids, entry.top_logprobs, strict=True)),
            )
            for token, entry in zip(tokens, logprobs, strict=False)
        )
