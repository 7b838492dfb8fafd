"""The machine that a figure was measured on, in one line: figures without it cannot be compared."""

from __future__ import annotations

import os
import platform
import statistics
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Final

from frontdesk.bench.figures import percentile

FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


def machine() -> str:
    """Cores, instruction sets, load and noise."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in FLAGS if flag in facts.get("flags", "").split()]
    name = facts.get("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores ({', '.join(flags)}), load {os.getloadavg()[0]:.1f}, {noise()}"


def noise(rounds: int = 200) -> str:
    """How much longer the same millisecond of work takes at its worst: 1.0 on a machine that does nothing else."""
    times = []
    for _ in range(rounds):
        began = perf_counter()
        sum(range(50_000))
        times.append(perf_counter() - began)
    middle = statistics.median(times)
    return f"noise P95/P50 {percentile(times, 95) / middle:.2f}, worst/P50 {max(times) / middle:.1f}"
