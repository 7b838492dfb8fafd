"""One context of llama.cpp with a scheduler on top, which records the logits of every drawn token; what it is asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frontdesk.engine.batch import Sampled
from frontdesk.engine.core import Engine
from frontdesk.engine.kv_cache import KVCache
from frontdesk.engine.parked import ParkedPrefixes
from frontdesk.engine.request import SamplingParams, Submit
from frontdesk.engine.scheduler import Scheduler, most_rows
from frontdesk.engine.sequence import Sequence
from frontdesk.engine.speculative import StepCosts
from frontdesk.llamacpp.library import ContextPlan
from frontdesk.llamacpp.runner import LlamaRunner
from frontdesk.llamacpp.sampler import Sampler

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
GREEDY = SamplingParams(0, 0, 1, 0, 1, 0, 0, 1, 0, (), 0)
WINDOW = 1536
Requests = list[tuple[list[int], int]]


class Recorder(Sampler):
    """Draws as usual and keeps the logits, by request and position."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[int, int], np.ndarray] = {}

    def sample(self, logits: np.ndarray, sequences: list[Sequence]) -> list[Sampled]:
        for row, sequence in zip(logits, sequences, strict=True):
            self.rows[sequence.id, sequence.generated] = row.copy()
        return super().sample(logits, sequences)


class Lab:
    def __init__(
        self, model: Any, *, slots: int, cells: int | None = None, threads: int = 1, exact: bool = True,
        chunk: int = 256, busy: int = 64, parked: int = 0, costs: StepCosts | None = None, pad: bool = False,
        steps: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        unified = cells is not None
        total = cells or slots * WINDOW
        plan = ContextPlan(
            cells=total,
            sequences=slots,
            rows=most_rows(slots, chunk, chunk),
            threads=threads,
            threads_least=threads,
            kv_type="f16",
            unified=unified,
            exact=exact,
            pad_rows=pad,
            steps=steps or {},
        )
        self.runner = LlamaRunner(model, plan)
        self.recorder = self.runner._sampler = Recorder()
        parked_prefixes = ParkedPrefixes(parked, *self.runner.state_bytes()) if parked else None
        self.cache = KVCache(slots, total, unified=unified, swaps=not self.runner.slides, parked=parked_prefixes)
        scheduler = Scheduler(self.cache, slots=slots, chunk=chunk, chunk_busy=busy, costs=costs)
        self.engine = Engine(scheduler, self.runner, WINDOW)
        self.drafted = self.accepted = 0
        self.tokens: dict[int, list[int]] = {}
        self.preempted = 0
        self.ops: set[type] = set()

    def ask(
        self, id: int, prompt: list[int], most: int, tenant: int = 0, sampling: SamplingParams = GREEDY, top: int = -1
    ) -> None:
        self.tokens[id] = []
        self.engine.submit(Submit(id, tuple(prompt), (), most, (), sampling, top, tenant))

    def step(self) -> None:
        batch, outputs = self.engine.step()
        self.preempted += batch.preempted
        self.ops |= {type(op) for op in batch.ops}
        self.drafted += sum(chunk.drafts for chunk in batch.chunks)
        self.accepted += batch.accepted
        for output in outputs:
            self.tokens[output.id] += output.tokens
            assert len(output.logprobs) in (0, len(output.tokens))

    def run(self) -> None:
        while self.engine.busy:
            self.step()


MakeLab = Callable[..., Lab]


def prompt(seed: int, length: int) -> list[int]:
    numbers = random.Random(seed)
    return [numbers.randrange(300, 2000) for _ in range(length)]


# Lengths on both sides of every border in the kernels; some begin alike, so that prefixes are copied.
REQUESTS: Requests = [
    (prompt(0, 10), 60), (prompt(1, 1), 50), (prompt(2, 33), 40), (prompt(3, 700), 60), (prompt(4, 64), 30),
    (prompt(3, 400) + prompt(9, 40), 12), (prompt(5, 1490), 8), (prompt(2, 30) + prompt(8, 100), 20),
    (prompt(6, 257), 12),
]  # fmt: skip


MANY = [*REQUESTS[:6], *((prompt(20 + i, 150), 100) for i in range(8))]  # grow beyond one window together


def crowd(lab: Lab, requests: Requests = REQUESTS) -> None:
    """All requests, one arriving every three steps; slots are few, so that they move and are taken over."""
    for id, (tokens, most) in enumerate(requests):
        lab.ask(id, tokens, most)
        for _ in range(3):
            lab.step()
    lab.run()
