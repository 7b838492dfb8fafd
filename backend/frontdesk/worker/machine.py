"""How many cores and how much memory this process may really use: cgroup limits (v1, v2, hybrid) and CPU affinity; and
how much memory a process has.

`os.cpu_count` tells of the host; in a container it is often far too high, and then llama.cpp's threads, which wait for
each other by spinning, stop each other dead. Reads files only, below a root that tests replace. Knows no settings.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

V1_CPU_MOUNTS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")
V2_MOUNTS = ("", "unified")


def usable_cores(root: Path = Path("/"), affinity: int | None = None) -> int:
    """Cores to compute on, at least 1. A quota of 2.7 cores gives 2: a third thread would be stopped time and again."""
    allowed = affinity or _affinity()
    quotas = [*_v2_quotas(root), *_v1_quotas(root)]
    return max(1, min([allowed, *(int(quota) for quota in quotas)]))


def usable_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be taken without swapping or being killed; `None` where the system does not say."""
    limits = [_number(_text(f)) for f in _files(root, "", V2_MOUNTS, "memory.max")]
    limits += [_number(_text(f)) for f in _files(root, "memory", ("memory",), "memory.limit_in_bytes")]
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    return min((limit for limit in limits if limit is not None), default=None)


def resident_memory(pid: int | Literal["self"], root: Path = Path("/")) -> int:
    """Bytes of memory that a process has, the pages of files that it maps included. 0 for one that has ended, and where
    the system does not say."""
    fields = _text(root / f"proc/{pid}/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def processor(root: Path = Path("/")) -> str:
    """The processor's name, as far as the system tells it."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _v2_quotas(root: Path) -> Iterator[float]:
    for file in _files(root, "", V2_MOUNTS, "cpu.max"):
        quota, _, period = _text(file).partition(" ")
        yield from _cores(_number(quota), _number(period))


def _v1_quotas(root: Path) -> Iterator[float]:
    for file in _files(root, "cpu", V1_CPU_MOUNTS, "cpu.cfs_quota_us"):
        yield from _cores(_number(_text(file)), _number(_text(file.with_name("cpu.cfs_period_us"))))


def _cores(quota: int | None, period: int | None) -> Iterator[float]:
    """-1 and 'max' mean: no quota."""
    if quota is not None and quota > 0 and period:
        yield quota / period


def _files(root: Path, controller: str, mounts: tuple[str, ...], name: str) -> Iterator[Path]:
    """This file in the process's own group and in each group above it, since the tightest one counts.

    In a container the path that /proc names may belong to the host and not exist; the mount's top is the own one then.
    """
    path = _group(root, controller)
    for mount in mounts:
        top = root / "sys/fs/cgroup" / mount
        for group in (path, *path.parents):
            if (file := top / group / name).is_file():
                yield file


def _group(root: Path, controller: str) -> Path:
    """The group of this process from lines such as `0::/a/b` (v2) and `4:cpu,cpuacct:/a/b` (v1)."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(*(part for part in Path(path.lstrip("/")).parts if part != ".."))
    return Path()


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
