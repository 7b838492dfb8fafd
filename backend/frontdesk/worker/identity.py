"""Whether a model's file is still the one that was opened: what the file system says of it. Reads nothing of it."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Final

PART: Final = re.compile(r"-\d{5}(-of-\d{5}\.gguf)")  # as llama.cpp names the files of a model that is split

Identity = list[tuple[str, int, int, int]]


def identity(path: str) -> Identity | None:
    """Another one when the file, or one of those that it is split into, has been replaced or written; `None` while it
    is not there.

    Without the number of the device, which a network's file system may change when it is mounted again.
    """
    file = Path(path)
    try:
        file.stat()
        return [(part.name, *_facts(part)) for part in _parts(file)]
    except OSError:
        return None


def _facts(file: Path) -> tuple[int, int, int]:
    facts = file.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _parts(file: Path) -> list[Path]:
    if not (found := PART.search(file.name)):
        return [file]
    pattern = glob.escape(file.name[: found.start()]) + "-?????" + glob.escape(found[1])
    return sorted(file.parent.glob(pattern))
