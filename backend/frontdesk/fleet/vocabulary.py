"""What was found out about a model's vocabulary, remembered from one start to the next.

To ask llama.cpp about 150,000 tokens, one by one, takes most of a second, and the answers depend on nothing but the
file's metadata. One file for each content of it and each version of the code that read it; one that cannot be read
counts as none. Decides nothing: see `fleet/tokenizer`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from frontdesk.fleet.files import kept
from frontdesk.fleet.gguf import fingerprint
from frontdesk.llamacpp.vocab import VocabFacts

KEPT: Final = 8  # the models that were opened last


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A vocabulary that tiktoken was seen to cut as llama.cpp does. `pre` names the pre-tokenizer, `ids` are token ids
    in the order of tiktoken's ranks, `special` maps the text of every control token to its id."""

    pre: str
    facts: VocabFacts
    special: dict[str, int]
    ids: list[int]


class VocabularyFolder:
    """Where they are kept. The folder need not exist; one that cannot be written keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, path: Path | str) -> Known | None:
        """Raises as `read_metadata` does for an unusable model file."""
        file = self.file(path)
        try:
            known = msgspec.msgpack.decode(file.read_bytes(), type=Known)
        except (OSError, msgspec.MsgspecError):
            return None
        with contextlib.suppress(OSError):
            file.touch()
        return known

    def keep(self, path: Path | str, known: Known) -> bool:
        """Whether it could be written."""
        if not kept(self.file(path), msgspec.msgpack.encode(known)):
            return False
        with contextlib.suppress(OSError):  # another process may be doing the same
            for old in sorted(self._folder.glob("*.msgpack"), key=lambda file: -file.stat().st_mtime)[KEPT:]:
                old.unlink()
        return True

    def file(self, path: Path | str) -> Path:
        conditions = (fingerprint(path), version("llama-cpp-python"), version("tiktoken"), _code())
        return self._folder / f"{hashlib.sha256(json.dumps(conditions).encode()).hexdigest()[:32]}.msgpack"


@cache
def _code() -> str:
    """A digest of the code that found it out: what another release would find may be something else."""
    digest = hashlib.sha256()
    for path in ("tokenizer.py", "vocabulary.py", "literals.py", "pretokenizers.py", "../llamacpp/vocab.py"):
        digest.update((Path(__file__).parent / path).read_bytes())
    return digest.hexdigest()
