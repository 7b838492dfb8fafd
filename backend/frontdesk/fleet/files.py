"""Small files that are kept from one start to the next, written whole or not at all. Knows nothing of contents."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path


def kept(file: Path, content: bytes) -> bool:
    """Whether it could be written. The folder need not exist; a reader finds the former file or the new one."""
    unfinished = file.with_suffix(f".{secrets.token_hex(8)}.tmp")  # containers that share a folder may share pids
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        return False
    return True
