"""What the scripts here print: a table for people, JSON for programs, and the machine. The package has the statistics.

Results are only comparable with the machine's line beside them: cores, instruction sets, and how noisy it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from frontdesk.bench.machine import machine


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


def show(title: str, rows: Sequence[Mapping[str, object]], details: object, out: Path | None) -> None:
    """Print the table; JSON goes to `out`, or below the table."""
    print(f"{title}\n{machine()}\n\n{table(rows)}\n", flush=True)
    text = json.dumps({"title": title, "machine": machine(), "details": details})
    if out:
        out.write_text(text + "\n")
    else:
        print(text)
