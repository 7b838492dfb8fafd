"""What every benchmark prints: medians with their spread, a table for people, JSON for programs, and the machine.

Results are only comparable with the machine's line beside them: cores, instruction sets, and how noisy it was.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest value, so that a P99 of few values is the worst of them. 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))] if ordered else 0.0


def spread(values: Sequence[float], digits: int = 1) -> str:
    """`median (lowest to highest)`."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" if len(values) > 1 else f"{middle:.{digits}f}"


def upper_bound(failures: int, trials: int, confidence: float = 0.95) -> float:
    """The largest probability of failure that `failures` of `trials` still allow (Clopper and Pearson, one-sided).

    For no failure at all it is about 3 / trials, the rule of three. 1 for no trials.
    """
    if failures >= trials:
        return 1.0
    ways = [math.log(math.comb(trials, k)) for k in range(failures + 1)]
    low, high = failures / trials, 1.0
    for _ in range(60):
        p = (low + high) / 2
        yes, no = (math.log(p), math.log1p(-p)) if p < 1 else (0.0, -math.inf)
        at_most = sum(math.exp(way + k * yes + (trials - k) * no) for k, way in enumerate(ways))
        low, high = (p, high) if at_most > 1 - confidence else (low, p)
    return high


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table; the columns are the first row's keys."""
    columns = list(rows[0])
    cells = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def machine() -> str:
    """Cores, instruction sets, load and noise, in one line."""
    text = Path("/proc/cpuinfo").read_text()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = [flag for flag in FLAGS if flag in facts.get("flags", "").split()]
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return f"{facts.get('model name', '?')}, {cores} cores ({', '.join(flags)}), load {load:.1f}, {noise()}"


def noise(rounds: int = 200) -> str:
    """How much longer the same millisecond of work takes at its worst: 1.0 on a machine that does nothing else."""
    times = []
    for _ in range(rounds):
        began = perf_counter()
        sum(range(50_000))
        times.append(perf_counter() - began)
    middle = statistics.median(times)
    return f"noise P95/P50 {percentile(times, 95) / middle:.2f}, worst/P50 {max(times) / middle:.1f}"


def cpu_seconds(pid: int) -> tuple[float, float]:
    """CPU time so far of a server: (the service's own process, its children, which are the engines)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return _cpu(pid), sum(_cpu(child) for child in children)


def _cpu(pid: int) -> float:
    """User and system time, the 14th and 15th fields of /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(title: str, rows: Sequence[Mapping[str, object]], details: object, out: Path | None) -> None:
    """Print the table; JSON goes to `out`, or below the table."""
    print(f"{title}\n{machine()}\n\n{table(rows)}\n", flush=True)
    text = json.dumps({"title": title, "machine": machine(), "details": details})
    if out:
        out.write_text(text + "\n")
    else:
        print(text)
