"""Cores and memory that may be used, from made-up /proc and /sys trees as real systems lay them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from frontdesk.worker.machine import resident_memory, usable_cores, usable_memory

CPU = "sys/fs/cgroup/cpu"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


CASES = {
    "v2, no quota": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8),
    "v2, container with its own namespace": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
    "v2, fraction is rounded down": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "270000 100000"}, 2),
    "v2, less than one core": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
    "v2, other period": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "30000 10000"}, 3),
    "v2, the parent is tighter": (
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/b/cpu.max": "600000 100000",
            "sys/fs/cgroup/a/cpu.max": "300000 100000",
        },
        3,
    ),
    "v2, path outside of the namespace": (
        {"proc/self/cgroup": "0::/../other", "sys/fs/cgroup/cpu.max": "400000 100000"},
        4,
    ),
    "v1": (
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n1:name=systemd:/",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "500000",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
        },
        5,
    ),
    "v1, container without its own namespace": (
        {
            "proc/self/cgroup": "3:cpu:/docker/on-the-host",
            f"{CPU}/cpu.cfs_quota_us": "200000",
            f"{CPU}/cpu.cfs_period_us": "100000",
        },
        2,
    ),
    "v1, no quota": (
        {"proc/self/cgroup": "3:cpu:/", f"{CPU}/cpu.cfs_quota_us": "-1", f"{CPU}/cpu.cfs_period_us": "100000"},
        8,
    ),
    "hybrid": (
        {
            "proc/self/cgroup": "1:cpu:/\n0::/",
            f"{CPU}/cpu.cfs_quota_us": "400000",
            f"{CPU}/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/unified/cpu.max": "300000 100000",
        },
        3,
    ),
    "no cgroups at all": ({}, 8),
    "nonsense": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "banana"}, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_cores(case: str, tmp_path: Path) -> None:
    """Threads would outnumber the cores that may be used, and stall each other."""
    files, cores = CASES[case]
    assert usable_cores(tree(tmp_path, files), affinity=8) == cores


def test_affinity_counts(tmp_path: Path) -> None:
    """A process pinned to two cores of sixty-four would start sixty-four threads."""
    assert usable_cores(tmp_path, affinity=2) == 2
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_memory(tmp_path: Path) -> None:
    """The KV cache would be planned with memory that a container does not have."""
    assert usable_memory(tmp_path) is None
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    2048 kB", "proc/self/cgroup": "0::/"}
    assert usable_memory(tree(tmp_path, files)) == 2048 * 1024
    assert usable_memory(tree(tmp_path, {"sys/fs/cgroup/memory.max": "1000000"})) == 1_000_000
    assert usable_memory(tree(tmp_path, {"sys/fs/cgroup/memory.max": "max"})) == 2048 * 1024


def test_memory_of_a_process(tmp_path: Path) -> None:
    """The operator would see no memory, or another process's; or a process that has just ended would be an error."""
    own = resident_memory("self")
    assert 1024**2 < own < 1024**4
    assert resident_memory(os.getpid()) == pytest.approx(own, rel=0.2)
    files = {"proc/7/statm": "900 3 1 1 0 1 0", "proc/8/statm": ""}
    assert resident_memory(7, tree(tmp_path, files)) == 3 * os.sysconf("SC_PAGE_SIZE")
    assert resident_memory(8, tmp_path) == resident_memory(9, tmp_path) == 0
