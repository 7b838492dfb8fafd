"""From replies to figures, and from figures to JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor
from typing import Any, Final

from frontdesk.bench.figures import Quantiles, busiest, length, quantiles
from frontdesk.bench.processes import Cpu
from frontdesk.bench.reply import Reply

MESSAGES: Final = 5  # different error messages that are told
SLICES: Final = 60  # points of the timeline, at most


@dataclass(frozen=True, slots=True)
class Slo:
    """What a reply must keep to count as good, in seconds: to its first token, and between tokens on its average."""

    ttft: float | None = None
    itl: float | None = None

    def met(self, reply: Reply) -> bool:
        return (self.ttft is None or reply.ttft <= self.ttft) and (self.itl is None or reply.pace <= self.itl)


@dataclass(frozen=True, slots=True)
class Group:
    """The replies of one kind. Durations in seconds; `itl` are the gaps between frames of all of them."""

    kind: str
    replies: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    ttft: Quantiles
    itl: Quantiles


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens that came in one slice of the run, and the streams that wrote in it."""

    at: float
    seconds: float
    tokens: float
    streams: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. Rates are tokens/s: `rate` over all of it, prefill and waiting included; `steady` over the
    `steady_seconds` in which the most streams (`peak`) wrote at once. `good` are the replies that kept the SLO."""

    seconds: float
    replies: int
    errors: int
    messages: tuple[str, ...]
    tokens: int
    rate: float
    steady: float
    steady_seconds: float
    peak: int
    groups: tuple[Group, ...]
    good: int | None
    cpu: Cpu | None
    timeline: tuple[Slice, ...]

    @property
    def whole(self) -> Group:
        return self.groups[-1]


def summarise(
    replies: Sequence[Reply],
    background: Sequence[Reply] = (),
    windows: Sequence[tuple[float, float]] = (),
    *,
    slo: Slo | None = None,
    cpu: Cpu | None = None,
) -> Summary:
    """`windows`: when the rounds ran; what background streams did outside of them does not count."""
    inside = [_within(reply, windows) for reply in background]
    everything = [*replies, *(reply for reply in inside if reply.arrivals or reply.error)]
    good = [reply for reply in everything if reply.good]
    seconds = length(windows)
    tokens = sum(reply.tokens for reply in good)
    spans = [(reply.first, reply.last) for reply in good]
    peak, times = busiest(spans)
    steady = sum(_tokens_in(reply, begin, end) for begin, end in times for reply in good)
    errors = [reply.error for reply in everything if reply.error]
    kept = [reply for reply in replies if reply.good and slo and slo.met(reply)]
    return Summary(
        seconds=seconds,
        replies=len(replies),
        errors=len(errors),
        messages=tuple(dict.fromkeys(errors))[:MESSAGES],
        tokens=tokens,
        rate=tokens / seconds if seconds else 0.0,
        steady=steady / length(times) if times else 0.0,
        steady_seconds=length(times),
        peak=peak,
        groups=_groups(replies, inside),
        good=len(kept) if slo else None,
        cpu=cpu,
        timeline=_timeline(good, windows),
    )


def _groups(replies: Sequence[Reply], background: Sequence[Reply]) -> tuple[Group, ...]:
    """Each kind in its order of appearance, then all that were asked for; the last has no name."""
    kinds = dict.fromkeys(reply.kind for reply in (*background, *replies))
    named = [_group(kind, [r for r in (*background, *replies) if r.kind == kind]) for kind in kinds if kind]
    return (*(named if len(named) > 1 else ()), _group("", replies))


def _group(kind: str, replies: Sequence[Reply]) -> Group:
    good = [reply for reply in replies if reply.good]
    return Group(
        kind=kind,
        replies=len(replies),
        errors=sum(bool(reply.error) for reply in replies),
        prompt_tokens=sum(reply.prompt_tokens for reply in good),
        cached_tokens=sum(reply.cached_tokens for reply in good),
        tokens=sum(reply.tokens for reply in good),
        ttft=quantiles(reply.ttft for reply in good if not reply.stopped),
        itl=quantiles(gap for reply in good for gap in reply.gaps),
    )


def _within(reply: Reply, windows: Sequence[tuple[float, float]]) -> Reply:
    """What of a background stream came while a round ran, and the frame before it: the gap in which a round began is
    the round's. Its first token was not waited for in the round."""
    kept = [
        i for i, at in enumerate(reply.arrivals)
        if any(begin <= at <= end for begin, end in windows)
    ]  # fmt: skip
    before = kept[0] - 1 if kept and kept[0] else None
    arrivals = [reply.arrivals[i] for i in ([before] if before is not None else []) + kept]
    share = len(kept) / len(reply.arrivals) if reply.arrivals else 0.0
    return Reply(
        reply.kind, reply.turn, reply.asked, reply.sent, error=reply.error, stopped=True, arrivals=arrivals,
        tokens=round(reply.tokens * share), prompt_tokens=reply.prompt_tokens,
    )  # fmt: skip


def _tokens_in(reply: Reply, begin: float, end: float) -> float:
    """A frame counts its reply's mean tokens."""
    return sum(begin < at <= end for at in reply.arrivals) * reply.tokens / len(reply.arrivals)


def _timeline(good: Sequence[Reply], windows: Sequence[tuple[float, float]]) -> tuple[Slice, ...]:
    """The run from its begin to its end in equal slices of at least half a second, pauses between rounds included."""
    begin, end = (windows[0][0], windows[-1][1]) if windows else (0.0, 0.0)
    if not good or end <= begin:
        return ()
    width = max(0.5, (end - begin) / SLICES)
    count = max(1, floor((end - begin) / width))  # the last slice is up to twice as wide
    tokens = [0.0] * count
    streams: list[set[int]] = [set() for _ in range(count)]
    for number, reply in enumerate(good):
        for at in reply.arrivals:
            slot = max(0, min(count - 1, floor((at - begin) / width)))
            tokens[slot] += reply.tokens / len(reply.arrivals)
            streams[slot].add(number)
    widths = [width] * (count - 1) + [end - begin - (count - 1) * width]
    return tuple(Slice(i * width, widths[i], tokens[i], len(streams[i])) for i in range(count))


def to_json(summary: Summary, about: dict[str, Any], slo: Slo | None = None) -> dict[str, Any]:
    """The run as plain JSON; `about` says what was measured, and how. Durations are milliseconds, as in the table."""
    cpu = summary.cpu
    return {
        "object": "bench",
        **about,
        "seconds": round(summary.seconds, 3),
        "replies": summary.replies,
        "errors": summary.errors,
        "error_messages": list(summary.messages),
        "tokens": summary.tokens,
        "tokens_per_second": round(summary.rate, 2),
        "steady_tokens_per_second": round(summary.steady, 2),
        "steady_seconds": round(summary.steady_seconds, 3),
        "peak_streams": summary.peak,
        "groups": [_group_json(group) for group in summary.groups],
        "slo": _slo_json(summary, slo),
        "cpu": cpu and {
            "server_seconds": round(cpu.own, 3),
            "children_seconds": round(cpu.children, 3),
            "client_seconds": round(cpu.client, 3),
            "server_us_per_token": round(1e6 * cpu.own / max(1, summary.tokens), 1),
            "children_us_per_token": round(1e6 * cpu.children / max(1, summary.tokens), 1),
        },
        "timeline": [
            {"at": round(s.at, 3), "tokens_per_second": round(s.tokens / s.seconds, 2), "streams": s.streams}
            for s in summary.timeline
        ],
    }  # fmt: skip


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "kind": group.kind or "all",
        "replies": group.replies,
        "errors": group.errors,
        "prompt_tokens": group.prompt_tokens,
        "cached_tokens": group.cached_tokens,
        "tokens": group.tokens,
        "ttft_ms": _milliseconds(group.ttft),
        "itl_ms": _milliseconds(group.itl),
    }


def _milliseconds(found: Quantiles) -> dict[str, float]:
    numbers = {name: round(1000 * value, 3) for name, value in asdict(found).items() if name != "count"}
    return {"count": found.count, **numbers}


def _slo_json(summary: Summary, slo: Slo | None) -> dict[str, Any] | None:
    if slo is None or summary.good is None:
        return None
    return {
        "ttft_ms": None if slo.ttft is None else 1000 * slo.ttft,
        "itl_ms": None if slo.itl is None else 1000 * slo.itl,
        "good": summary.good,
        "share": round(summary.good / max(1, summary.replies), 4),
        "goodput_per_second": round(summary.good / summary.seconds, 4) if summary.seconds else 0.0,
    }
