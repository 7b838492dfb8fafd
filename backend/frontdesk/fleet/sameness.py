"""What tells a model's file from one that took its name: what its token ids mean, and what its weights say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from frontdesk.fleet.gguf import read_metadata, weights_fingerprint

_MEANING: Final = ("tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type")


@dataclass(frozen=True, slots=True)
class Sameness:
    """Two digests, "" for what is not known. Replies are decoded with the `vocabulary` alone; to go on with one, the
    `weights` must be the same too."""

    vocabulary: str = ""
    weights: str = ""


def sameness(path: Path | str) -> Sameness:
    """Of a GGUF file. Raises as `read_metadata` does."""
    metadata = read_metadata(path)
    meaning = msgspec.json.encode([metadata.get(key) for key in _MEANING])
    return Sameness(hashlib.sha256(meaning).hexdigest()[:32], weights_fingerprint(path)[:32])
