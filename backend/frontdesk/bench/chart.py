"""Charts as SVG text, for a file or a page: how a run went, and how servers compare. Pure; no library, no script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from frontdesk.bench.reply import Reply
from frontdesk.bench.report import Summary

Point = tuple[float, float]

COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#475569", "#0891b2", "#a16207")
WIDTH: Final = 360  # of a panel, in pixels
HEIGHT: Final = 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 40  # a panel's margins
HEAD: Final = 46
LINE: Final = 18
MOST_POINTS: Final = 200  # of one curve
LEAST_SPAN: Final = 1e-9  # of an axis: what differs by less is drawn as one value


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram. `curves`: name to points, x ascending. With `log`, x is shown in powers of ten."""

    title: str
    x: str
    curves: Mapping[str, Sequence[Point]]
    log: bool = False
    top: float | None = None  # of the y axis; unset: the largest value


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars from 0: group to (bar's name to value). Names have one colour each over all groups."""

    title: str
    groups: Mapping[str, Mapping[str, float]]
    unit: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def run_chart(title: str, summary: Summary, replies: Sequence[Reply], background: Sequence[Reply] = ()) -> str:
    """Three panels: when first tokens came, how long gaps were, and tokens/s over the run."""
    kinds = list(dict.fromkeys(reply.kind for reply in (*background, *replies)))
    good = {kind: [r for r in (*background, *replies) if r.kind == kind and r.good] for kind in kinds}
    first = {
        kind or "all": _distribution(r.ttft * 1000 for r in found if not r.stopped) for kind, found in good.items()
    }
    gaps = {kind or "all": _distribution(gap * 1000 for r in found for gap in r.gaps) for kind, found in good.items()}
    speed = [(s.at + s.seconds / 2, s.tokens / s.seconds) for s in summary.timeline if s.seconds]
    return panels(
        title,
        [
            Panel("Time to first token", "milliseconds; share of replies", first, log=True, top=1.0),
            Panel("Between tokens", "milliseconds; share of gaps", gaps, log=True, top=1.0),
            Panel("Tokens a second", "seconds since the begin", {"tokens/s": speed}),
        ],
    )


def panels(title: str, shown: Sequence[Panel]) -> str:
    """Diagrams side by side."""
    width, height = WIDTH * len(shown), HEAD + HEIGHT
    drawn = "".join(
        f'<g transform="translate({WIDTH * i},{HEAD})">{_panel(panel)}</g>' for i, panel in enumerate(shown)
    )
    return _document(title, width, height, drawn)


def bars(shown: Bars, width: int = 900) -> str:
    """Horizontal bars with their values, the groups below each other."""
    names = list(dict.fromkeys(name for group in shown.groups.values() for name in group))
    most = max((value for group in shown.groups.values() for value in group.values()), default=0.0) or 1.0
    left, y, parts = 300, HEAD, list[str]()
    for group, values in shown.groups.items():
        y += LINE
        parts.append(_text(12, y, group, "600"))
        for name, value in values.items():
            y += LINE
            long = max(1.0, (width - left - 90) * value / most)
            colour = COLOURS[names.index(name) % len(COLOURS)]
            parts.append(_text(left - 8, y, name, anchor="end"))
            parts.append(f'<rect x="{left}" y="{y - 11}" width="{long:.1f}" height="13" fill="{colour}"/>')
            parts.append(_text(left + long + 6, y, f"{value:.4g} {shown.unit}".strip()))
        y += LINE // 2
    for note in shown.notes:
        y += LINE
        parts.append(_text(12, y, note, colour="#6b7280"))
    return _document(shown.title, width, y + LINE, "".join(parts))


def _document(title: str, width: float, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img"><title>{_plain(title)}</title>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{_text(12, 24, title, "600", size=15)}{body}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    curves = {name: _thinned(points) for name, points in panel.curves.items() if points}
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    x_axis = _Axis.of(xs, LEFT, WIDTH - RIGHT, log=panel.log)
    y_axis = _Axis.of([0.0, panel.top or max(ys, default=1.0)], HEIGHT - BOTTOM, TOP)
    parts = [_text(LEFT, 20, panel.title, "600"), _text(LEFT, HEIGHT - 8, panel.x, colour="#6b7280")]
    for value in y_axis.ticks:
        y = y_axis.at(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        parts.append(_text(LEFT - 6, y + 4, _number(value), anchor="end", colour="#6b7280"))
    for value in x_axis.ticks:
        parts.append(_text(x_axis.at(value), HEIGHT - BOTTOM + 15, _number(value), anchor="middle", colour="#6b7280"))
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(curves) > 1:
            parts.append(_text(WIDTH - RIGHT - 4, TOP + 14 + 15 * number, name, anchor="end", colour=colour))
    if not curves:
        parts.append(_text(WIDTH / 2, HEIGHT / 2, "nothing", anchor="middle", colour="#6b7280"))
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values from `low` to `high` on pixels from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float], begin: float, end: float, *, log: bool = False) -> _Axis:
        low, high = (min(values), max(values)) if values else (1.0, 10.0)
        if log:
            first = math.floor(math.log10(max(low, 1e-3)))
            last = max(first + 1, math.ceil(math.log10(max(high, 1e-3))))
            return cls(first, last, begin, end, True, tuple(10.0**power for power in range(first, last + 1)))
        step = _step(high - low if high - low > LEAST_SPAN else 1.0)
        top = math.ceil((high or step) / step) * step
        bottom = math.floor(low / step) * step
        count = round((top - bottom) / step)
        return cls(bottom, top, begin, end, False, tuple(bottom + step * i for i in range(count + 1)))

    def at(self, value: float) -> float:
        shown = math.log10(max(value, 1e-3)) if self.log else value
        return self.begin + (self.end - self.begin) * (shown - self.low) / ((self.high - self.low) or 1.0)


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that the span has at most nine of them."""
    power = 10.0 ** math.floor(math.log10(span))
    return next(power * f for f in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (power * f) <= 9)


def _distribution(values: Iterable[float]) -> list[Point]:
    """Each value with the share of all that are not above it."""
    found = sorted(values)
    return [(value, (i + 1) / len(found)) for i, value in enumerate(found)]


def _thinned(points: Sequence[Point]) -> list[Point]:
    if len(points) <= MOST_POINTS:
        return list(points)
    return [points[round(i * (len(points) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.3g}"


def _text(
    x: float, y: float, text: str, weight: str = "", *, anchor: str = "", colour: str = "#111827", size: int = 0
) -> str:
    more = f' font-weight="{weight}"' * bool(weight) + f' text-anchor="{anchor}"' * bool(anchor)
    more += f' font-size="{size}"' * bool(size)
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{more}>{_plain(text)}</text>'


def _plain(text: str) -> str:
    """Without what XML cannot hold."""
    return escape("".join(c if " " <= c < "\ud800" or "\ue000" <= c < "\ufffe" else " " for c in text))
