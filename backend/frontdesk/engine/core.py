"""The engine: submit, abort, step. A step is plan, run, update and nothing else.

Knows token ids only. What computes is a `Runner` (llama.cpp in production); who sends requests is `worker/process`.
"""

from __future__ import annotations

from typing import Protocol

from frontdesk.engine.batch import Batch, Sampled
from frontdesk.engine.request import SequenceOutput, Submit
from frontdesk.engine.scheduler import Scheduler
from frontdesk.engine.sequence import Sequence


class Interrupted(Exception):
    """The runner was told to stop in mid-step. Nothing of the step counts; its KV is as before the step."""


class OutOfCells(Exception):
    """llama.cpp found no room although the books say there is some. Nothing of the step counts."""


class Runner(Protocol):
    """Computes a batch: carries out `batch.ops`, then the chunks, then draws a token for each `sample` chunk."""

    def execute(self, batch: Batch) -> list[Sampled]:
        """One `Sampled` for each chunk with `sample`, in order. Raises `Interrupted`, `OutOfCells`."""
        ...


class Engine:
    """Every submitted request ends in exactly one output with a `finish`, unless it is aborted."""

    def __init__(self, scheduler: Scheduler, runner: Runner, window: int) -> None:
        self.scheduler = scheduler
        self._runner = runner
        self._window = window
        self._sequences: dict[int, Sequence] = {}

    @property
    def busy(self) -> bool:
        return bool(self._sequences)

    def submit(self, request: Submit) -> SequenceOutput | None:
        """Take a request; returns its only output if it is over before it begins (a continuation at its limit)."""
        sequence = Sequence(
            id=request.id,
            tokens=[*request.prompt, *request.emitted],
            n_prompt=len(request.prompt),
            max_tokens=request.max_tokens,
            window=self._window,
            stop_tokens=frozenset(request.stop_tokens),
            sampling=request.sampling,
            top_logprobs=request.top_logprobs,
            tenant=request.tenant,
            public=request.public,
        )
        if not sequence.tokens:
            return SequenceOutput(request.id, (), "error")
        if sequence.finish if request.max_tokens else len(sequence.tokens) >= self._window:
            return SequenceOutput(request.id, (), sequence.finish)
        self._sequences[request.id] = sequence
        self.scheduler.add(sequence)
        return None

    def abort(self, id: int) -> None:
        """Forget a request between steps. Unknown ids are ignored."""
        if sequence := self._sequences.pop(id, None):
            self.scheduler.remove(sequence)

    def step(self) -> tuple[Batch, list[SequenceOutput]]:
        """Advance everybody. Raises `Interrupted`: call again after the abort that caused it."""
        batch = self.scheduler.plan()
        if not batch.chunks and not batch.ops:
            return batch, []
        try:
            sampled = self._runner.execute(batch)
        except OutOfCells:
            before = len(self.scheduler.running)
            if not self.scheduler.shrink():
                raise
            return Batch(preempted=batch.preempted + before - len(self.scheduler.running)), []
        self.scheduler.update(batch, sampled)
        return batch, self._outputs(batch, sampled)

    def _outputs(self, batch: Batch, sampled: list[Sampled]) -> list[SequenceOutput]:
        outputs = []
        draws = iter(sampled)
        for chunk in batch.chunks:
            if chunk.sample:
                outputs.append(self._output(chunk.sequence, next(draws)))
            elif not chunk.sequence.max_tokens and not chunk.sequence.remaining:
                outputs.append(self._output(chunk.sequence, None))
            elif not chunk.sequence.reading_told:
                chunk.sequence.reading_told = True
                outputs.append(SequenceOutput(chunk.sequence.id, ()))
        return outputs

    def _output(self, sequence: Sequence, drawn: Sampled | None) -> SequenceOutput:
        cached = -1 if sequence.cached_told else sequence.cached
        sequence.cached_told = True
        finish = sequence.finish if drawn else "length"
        if finish:
            self.abort(sequence.id)
        draws = drawn.all() if drawn else ()
        tokens = tuple(draw.token for draw in draws)
        logprobs = tuple(draw.logprobs for draw in draws if draw.logprobs)
        return SequenceOutput(sequence.id, tokens, finish, cached, logprobs)
