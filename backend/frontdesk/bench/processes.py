"""CPU time of a server on this machine, from Linux' /proc; the server is found by the port it listens on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

PROC = Path("/proc")
LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds so far: of the processes named, of all that they started (Frontdesk's engine is one), of this client."""

    own: float
    children: float
    client: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.own - before.own, self.children - before.children, self.client - before.client)


def read(pids: Iterable[int]) -> Cpu:
    """What has ended by now counts nothing."""
    first = list(pids)
    below = {child for pid in first for child in descendants(pid)} - set(first)
    return Cpu(sum(map(seconds, first)), sum(map(seconds, below)), time.process_time())


def seconds(pid: int) -> float:
    """User and system time of one process, the 14th and 15th fields of /proc/PID/stat; 0 for one that has ended."""
    with suppress(OSError, IndexError):
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def descendants(pid: int) -> set[int]:
    """All processes that `pid`, or one that it started, has started."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for task in (PROC / str(waiting.pop()) / "task").glob("*/children"):
            with suppress(OSError):
                children = {int(child) for child in task.read_text().split()}
                waiting += children - found
                found |= children
    return found


def is_local(url: str) -> bool:
    """Whether the server of a URL runs on this machine, as far as the address tells."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def listener(port: int) -> int | None:
    """The process that listens on a TCP port, the oldest of several; None when it is nobody's that we may see."""
    inodes = {inode for name in ("tcp", "tcp6") for inode in _listening(PROC / "net" / name, port)}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    pids = sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()) if wanted else []
    return next((pid for pid in pids if _holds(pid, wanted)), None)


def _listening(table: Path, port: int) -> list[str]:
    """Inodes of the sockets that listen on the port."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _holds(pid: int, sockets: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) in sockets:
                    return True
    return False
