"""The comparison as Markdown, JSON and a chart: medians, ranges, and paired ratios beside the bars. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peer_workloads import CEILING, RAW_AVERAGE, SLO_ITL, SLO_TTFT, Case, Metric
from report import table

from frontdesk.bench.chart import Bars, bars
from frontdesk.bench.figures import paired_ratios, spread
from frontdesk.bench.report import Summary, to_json

OURS = "Frontdesk"
QUICK = "**A quick run: it shows that everything works. Sizes are tiny, and no figure here means anything.**"


@dataclass(slots=True)
class Result:
    """One case on one model. `runs`: server to its rounds; `ceilings` are llama-batched-bench's, by round."""

    model: str
    case: Case
    load_before: float = 0.0
    load_after: float = 0.0
    runs: dict[str, list[Summary]] = field(default_factory=dict)
    ceilings: list[dict[str, float]] = field(default_factory=list)
    trials: dict[str, float] = field(default_factory=dict)
    flags: str = ""
    gave_up: dict[str, str] = field(default_factory=dict)

    def add(self, server: str, summary: Summary) -> None:
        self.runs.setdefault(server, []).append(summary)

    def add_ceiling(self, told: dict[str, float]) -> None:
        self.ceilings.append(told)

    def values(self, server: str, metric: Metric) -> list[float]:
        if server == CEILING:
            name = {"tokens/s": "all", "tokens/s while all write": "steady"}.get(metric.name)
            return [told[name] for told in self.ceilings] if name else []
        return [metric.read(summary) for summary in self.runs.get(server, ())]

    def ratios(self, server: str, metric: Metric) -> list[float]:
        """Ours by theirs. Rounds in which replies failed on either side do not count."""
        ours, theirs = self.runs.get(OURS, []), self.runs.get(server, [])
        if server == CEILING:
            return paired_ratios(self.values(OURS, metric), self.values(CEILING, metric))
        clean = [(a, b) for a, b in zip(ours, theirs, strict=False) if not a.errors and not b.errors]
        return paired_ratios([metric.read(a) for a, _ in clean], [metric.read(b) for _, b in clean])

    @property
    def servers(self) -> list[str]:
        return [*self.runs, *([CEILING] if self.ceilings else [])]

    def to_json(self) -> dict[str, Any]:
        rounds = {name: [to_json(summary, {}) for summary in runs] for name, runs in self.runs.items()}
        for run in (run for runs in rounds.values() for run in runs):
            del run["timeline"]
        return {
            "model": self.model,
            "case": self.case.name,
            "load_average": [self.load_before, self.load_after],
            "flags": self.flags,
            "trials": self.trials,
            "gave_up": self.gave_up,
            "rounds": rounds,
            "ceilings": self.ceilings,
            "ratios": {
                metric.name: {name: self.ratios(name, metric) for name in self.servers if name != OURS}
                for metric in self.case.metrics
            },
        }


def markdown(command: str, facts: Mapping[str, str], results: Sequence[Result], *, quick: bool = False) -> str:
    lines = [
        "# Frontdesk and its peers",
        *([QUICK] if quick else []),
        f"`{command}`",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "Medians of the rounds with their range; *ours : theirs* is the median of the ratios of neighbouring rounds. "
        "A *bar* is what Frontdesk is to reach. *tokens/s* holds prefill and waiting. A gap is the time between two "
        f"frames. Goodput: first token within {SLO_TTFT:g} s, tokens at most {1000 * SLO_ITL:.0f} ms apart on average.",
    ]
    for model in dict.fromkeys(result.model for result in results):
        lines.append(f"## {model}")
        lines += [_case(result) for result in results if result.model == model]
        lines += _average([r for r in results if r.model == model and r.case.workload == "raw" and not r.case.busy])
    return "\n\n".join(lines) + "\n"


def _case(result: Result) -> str:
    case = result.case
    shape = case.shape
    sizes = f"{shape.streams} streams, {shape.requests} sessions, {shape.prompt} tokens in and {shape.new} out"
    parts = [
        f"### {case.name}",
        f"{sizes}; started for {case.slots} conversations of {case.ctx} tokens; load average "
        f"{result.load_before:.1f} before and {result.load_after:.1f} after.",
        table([_row(result, server) for server in result.servers]),
    ]
    if result.flags and not result.trials:
        parts.append(f"llama-server's flags: {result.flags}.")
    if result.trials:
        tried = ", ".join(f"`{flags}` {value:.4g}" for flags, value in result.trials.items())
        parts.append(f"llama-server's flags, by {case.metrics[0].name}: {tried}. Kept: `{result.flags}`.")
    parts += [f"Left out: {name}: {why}" for name, why in result.gave_up.items()]
    return "\n\n".join(parts)


def _average(results: Sequence[Result]) -> list[str]:
    """Over all numbers of streams, if there are several."""
    if len(results) < 2:
        return []
    lines = [f"### 1 raw, mean over {', '.join(str(result.case.shape.streams) for result in results)} streams"]
    for server in dict.fromkeys(server for result in results for server in result.servers if server != OURS):
        found = [result.ratios(server, result.case.metrics[0]) for result in results]
        if all(found):
            mean, bar = statistics.mean(map(statistics.median, found)), RAW_AVERAGE.get(server)
            mark = "" if bar is None else f", bar ≥ {bar:g} {'reached' if mean >= bar else '**missed**'}"
            lines.append(f"- ours : theirs, {server}, {results[0].case.metrics[0].name}: {mean:.2f}{mark}")
    return ["\n".join([lines[0], "", *lines[1:]])]


def _row(result: Result, server: str) -> dict[str, object]:
    row: dict[str, object] = {"server": server}
    for metric in result.case.metrics:
        row[metric.name] = spread(result.values(server, metric))
        ratios = [] if server == OURS else result.ratios(server, metric)
        row[f"ours : theirs ({metric.name})"] = _told(metric, server, ratios)
    runs = result.runs.get(server, [])
    row["CPU ms/token"] = spread([1000 * _cpu(run) for run in runs], 2)
    row["errors"] = sum(run.errors for run in runs)
    return row


def _cpu(run: Summary) -> float:
    return (run.cpu.own + run.cpu.children) / max(1, run.tokens) if run.cpu else 0.0


def _told(metric: Metric, server: str, ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    middle = statistics.median(ratios)
    reached = metric.reached(server, middle)
    bar = f", bar {'≥' if metric.higher else '≤'} {metric.bars[server]:g}" if reached is not None else ""
    mark = {True: " reached", False: " **missed**", None: ""}[reached]
    return f"{spread(ratios, 2)}{bar}{mark}"


def picture(results: Sequence[Result]) -> str:
    """The first metric of every case, as bars of ours by theirs."""
    groups: dict[str, dict[str, float]] = {}
    for result in results:
        metric = result.case.metrics[0]
        ratios = {server: result.ratios(server, metric) for server in result.servers if server != OURS}
        better = "higher" if metric.higher else "lower"
        name = f"{result.model}: {result.case.name} ({metric.name}, {better} is better)"
        groups[name] = {server: statistics.median(found) for server, found in ratios.items() if found}
    return bars(Bars("Frontdesk by its peers: 1.0 is a draw", groups, "x"))
