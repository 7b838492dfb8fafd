"""Locks between processes, made of files: released by the kernel when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """An exclusive lock on a file, which is made when it is not there and never removed.

    Blocking: use it from a thread of its own. Raises OSError when the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, seconds: float = 0.0) -> bool:
        """Try for so long; whether it was taken."""
        deadline = time.monotonic() + seconds
        pause = 0.0005
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(pause)
                pause = min(2 * pause, 0.01)
            else:
                return True

    def release(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """Hold it for a block. Raises TimeoutError when another process does not let go of it."""
        if not self.take(seconds):
            raise TimeoutError(f"another process has been writing for {seconds:.0f} seconds")
        try:
            yield
        finally:
            self.release()

    def close(self) -> None:
        """Release it for good."""
        os.close(self._file)
