"""What the servers of the comparison are asked, which figures count, and what Frontdesk has set itself to reach.

The numbers in front of the names are those of the list in docs/performance.md. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from frontdesk.bench.report import Group, Summary
from frontdesk.bench.workloads import DEFAULTS, Shape

BEST: Final = "llama-server, best flags"
USUAL: Final = "llama-server -np N"
CLASSIC: Final = "llama_cpp.server"
EXAMPLE: Final = "examples/server"
CEILING: Final = "batched-bench"
SLO_TTFT: Final = 2.0  # seconds, of the widget's goodput
SLO_ITL: Final = 0.25
RAW_SLOTS: Final = 16  # at least: in real life no server is started anew for each number of clients
RAW_AVERAGE: Final = {BEST: 1.1}  # bars of the mean over all numbers of streams


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a run. `higher` is better, or lower. `bars`: server to the ratio (ours by theirs) that Frontdesk
    is to reach."""

    name: str
    read: Callable[[Summary], float]
    higher: bool
    bars: Mapping[str, float] = field(default_factory=dict)

    def reached(self, server: str, ratio: float) -> bool | None:
        """None where there is no bar."""
        bar = self.bars.get(server)
        return None if bar is None else ratio >= bar if self.higher else ratio <= bar


@dataclass(frozen=True, slots=True)
class Case:
    """A workload at one size. The first metric decides which flags are the best. `slots` is what every server is
    started for, `ctx` the tokens of a conversation; `busy` other processes want the cores too."""

    name: str
    workload: str
    shape: Shape
    slots: int
    ctx: int
    metrics: tuple[Metric, ...]
    busy: int = 0

    @property
    def kind(self) -> str:
        """What `--only` calls it."""
        return "busy" if self.busy else "held" if self.shape.context else self.workload


def cases(streams: tuple[int, ...], think: tuple[float, ...] = (DEFAULTS["widget"].think,)) -> list[Case]:
    """All of them; `streams` are the sizes of the first, `think` the seconds that the widget's visitors think."""
    return [
        *(_raw(n) for n in streams),
        *_mixed(),
        *(_widget(seconds) for seconds in think),
        _long(),
        _burst(),
        _busy(),
        *(_quoted(n) for n in (1, 2)),
    ]


def quick(case: Case) -> Case:
    """The same in a few seconds, to see that everything works; its figures mean nothing."""
    shape = case.shape
    small = replace(
        shape,
        streams=min(shape.streams, 4),
        requests=min(shape.requests, 4),
        prompt=max(16, shape.prompt // 8),
        new=max(8, shape.new // 8) if case.workload != "long" else shape.new,
        turns=min(shape.turns, 2),
        think=shape.think / 8,
        persona=shape.persona // 8,
        context=shape.context // 8,
    )
    return replace(case, shape=small, slots=min(case.slots, 5), ctx=1536)


def _raw(n: int) -> Case:
    bars = {BEST: 1.0, CEILING: 0.97, **({EXAMPLE: 1.4} if n == 8 else {}), **({CLASSIC: 2.3} if n == 4 else {})}
    shape = replace(DEFAULTS["raw"], streams=n, requests=n)
    metrics = (_rate(bars), _steady({CEILING: 0.97}), _first("P50"))
    return Case(f"1 raw, {n} streams", "raw", shape, max(n, RAW_SLOTS), 512, metrics)


def _mixed() -> list[Case]:
    short = replace(DEFAULTS["mixed"], requests=16)
    long = replace(short, prompt=1000)
    held = replace(short, context=1000, prompt=32)
    bars = {USUAL: 1.3, BEST: 1.3}
    return [
        Case("2 mixed lengths, 16 requests", "mixed", short, 16, 512, (_rate({USUAL: 1.5, BEST: 1.0}),)),
        Case("2 mixed lengths, 1,000-token contexts to be read", "mixed", long, 16, 1280, (_rate(bars),)),
        Case("2 mixed lengths, in conversations of 1,000 tokens", "mixed", held, 16, 1280, (_rate(bars),)),
    ]


def _widget(think: float) -> Case:
    later = Metric("TTFT P95 of later turns, ms", lambda s: 1000 * _of(s, "later turns").ttft.p95, False, {BEST: 0.45})
    kept = Metric("goodput, replies/s", lambda s: (s.good or 0) / s.seconds, True, {BEST: 1.3})
    shape = replace(DEFAULTS["widget"], think=think)
    return Case(
        f"3 widget: 24 visitors, 5 turns, {think:g} s to think", "widget", shape, 8, 2048,
        (_first("P50", {BEST: 0.4, USUAL: 0.15}), later, kept),
    )  # fmt: skip


def _long() -> Case:
    stall = Metric(
        "worst stall beside it, ms", lambda s: 1000 * _of(s, "beside it").itl.max, False, {USUAL: 0.2, BEST: 1.0}
    )
    first = Metric("TTFT of the long prompt, ms", lambda s: 1000 * s.whole.ttft.p50, False, {USUAL: 1.25, BEST: 1.25})
    shape = replace(DEFAULTS["long"], requests=1)
    return Case("4 a long prompt beside 7 streams", "long", shape, 8, 3072, (stall, first))


def _burst() -> Case:
    shape = replace(DEFAULTS["burst"], requests=8)
    return Case("4 burst of 8 prompts", "burst", shape, 8, 512, (_first("P50", {BEST: 0.75}), _rate()))


def _busy() -> Case:
    shape = replace(DEFAULTS["raw"], streams=4, requests=4)
    return Case("5 a busy box: raw, 4 streams", "raw", shape, 4, 512, (_rate({USUAL: 2.0}), _first("P50")), busy=2)


def _quoted(n: int) -> Case:
    shape = replace(DEFAULTS["quoted"], streams=n, requests=4 * n)  # how much is copied differs from text to text
    bar = {1: 1.6, 2: 1.2}[n]
    return Case(f"6 quoted answers, {n} streams", "quoted", shape, n, 1024, (_steady({BEST: bar}), _rate()))


def _rate(bars: Mapping[str, float] | None = None) -> Metric:
    return Metric("tokens/s", lambda s: s.rate, True, bars or {})


def _steady(bars: Mapping[str, float] | None = None) -> Metric:
    return Metric("tokens/s while all write", lambda s: s.steady, True, bars or {})


def _first(which: str, bars: Mapping[str, float] | None = None) -> Metric:
    return Metric(f"TTFT {which}, ms", lambda s: 1000 * getattr(s.whole.ttft, which.lower()), False, bars or {})


def _of(summary: Summary, kind: str) -> Group:
    return next(group for group in summary.groups if group.kind == kind)
