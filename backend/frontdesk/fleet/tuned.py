"""What was measured of a model on this machine, remembered from one start to the next.

One JSON file for each processor, number of cores, llama.cpp build, model and what was given of how it is opened; change
any of them and it is another name. A file that cannot be read counts as none. Decides nothing and measures nothing: see
`fleet/tuning`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from frontdesk.fleet.files import kept
from frontdesk.fleet.registry import ModelCard
from frontdesk.store.locks import FileLock
from frontdesk.worker.machine import processor, usable_cores

FORM: Final = 3  # of the files; older ones are measured anew
SAMPLE: Final = 2**20  # bytes at each end of a model file that tell it from others of its size
PATIENCE: Final = 300.0  # seconds for another process that measures the same
POLL_SECONDS: Final = 0.2


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """The best settings that were found. `None`: not measured, most often because the time was over.

    `steps` are milliseconds by shape, such as "decode 8", with these settings; `findings` says in words what was
    compared; `given_up` what ended the measuring early, "" if nothing did.
    """

    model: str
    machine: str
    measured: str  # ISO date
    seconds: float  # that measuring took
    threads: int | None = None
    spin: int | None = None
    chunk: int | None = None
    chunk_busy: int | None = None
    kv_layout: str | None = None  # streams | unified
    kv_type: str | None = None
    flash: str | None = None
    pad_rows: bool | None = None
    speculate: bool | None = None
    steps: dict[str, float] = {}
    findings: tuple[str, ...] = ()
    given_up: str = ""


UNKNOWN: Final = Tuned(model="", machine="", measured="", seconds=0.0)


class TunedFolder:
    """Where they are kept. The folder need not exist; one that cannot be written keeps nothing.

    `given` is what was not measured because settings say it, and changes what was: for other settings it is unknown.
    """

    def __init__(self, folder: Path, given: tuple[object, ...]) -> None:
        self.path = folder
        self._given = given

    def recall(self, card: ModelCard) -> Tuned | None:
        try:
            return msgspec.json.decode(self.file(card).read_bytes(), type=Tuned)
        except (OSError, msgspec.MsgspecError):
            return None

    def keep(self, card: ModelCard, tuned: Tuned) -> bool:
        """Whether it could be written."""
        return kept(self.file(card), msgspec.json.format(msgspec.json.encode(tuned), indent=2))

    @contextlib.asynccontextmanager
    async def alone(
        self, card: ModelCard, tell: Callable[[str, float], None], patience: float = PATIENCE
    ) -> AsyncIterator[None]:
        """Hold a lock for a block, so that no other process measures the same; without one where none can be had.

        Waits for it, tells so, and raises `TimeoutError` after `patience` seconds.
        """
        lock, deadline = self._lock(card), time.monotonic() + patience
        try:
            while lock and not _taken(lock):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has been measuring it for {patience:.0f} seconds")
                tell("waiting for another process that measures it", 0.0)
                await asyncio.sleep(POLL_SECONDS)
            yield
        finally:
            if lock:
                lock.close()

    def forget(self, card: ModelCard) -> bool:
        """Whether there was anything."""
        try:
            self.file(card).unlink()
        except OSError:
            return False
        return True

    def file(self, card: ModelCard) -> Path:
        conditions = (FORM, machine(), version("llama-cpp-python"), list(_identity(card.path)), *self._given)
        return self.path / f"{card.name}-{hashlib.sha256(json.dumps(conditions).encode()).hexdigest()[:16]}.json"

    def _lock(self, card: ModelCard) -> FileLock | None:
        with contextlib.suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True)
            return FileLock(self.file(card).with_suffix(".lock"))
        return None


def machine() -> str:
    """This machine as far as it matters, such as 'AMD EPYC, 2 cores'."""
    cores = usable_cores()
    return f"{processor()}, {cores} {'core' if cores == 1 else 'cores'}"


def _taken(lock: FileLock) -> bool:
    try:
        return lock.take()
    except OSError:  # a file system without locks
        return True


def _identity(path: Path) -> Iterator[str]:
    """Enough to tell one model file from another without reading gigabytes."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        yield str(size)
        for start in (0, max(0, size - SAMPLE)):
            file.seek(start)
            yield hashlib.sha256(file.read(SAMPLE)).hexdigest()
