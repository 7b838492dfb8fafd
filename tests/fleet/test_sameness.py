"""What tells a model's file from another one under its name."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.sameness import sameness


def packed(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def test_other_tokens_are_another_vocabulary(shipped: Path, tmp_path: Path) -> None:
    """The tokens of stored answers would be read as other words."""
    data = shipped.read_bytes()
    assert packed("Ġthe") in data
    other = tmp_path / "m.gguf"
    other.write_bytes(data.replace(packed("Ġthe"), packed("Ġeth"), 1))
    assert sameness(other).vocabulary != sameness(shipped).vocabulary
    assert sameness(other).weights == sameness(shipped).weights


@pytest.mark.parametrize("where", [0.1, 0.4, 0.7, 0.98])
def test_other_weights_anywhere(shipped: Path, tmp_path: Path, where: float) -> None:
    """A reply would be gone on with by a model that did not begin it, where only some of its layers were trained."""
    data = bytearray(shipped.read_bytes())
    start, length = int(where * len(data)), len(data) // 50
    data[start : start + length] = bytes(byte ^ 1 for byte in data[start : start + length])
    other = tmp_path / "m.gguf"
    other.write_bytes(data)
    assert sameness(other).weights != sameness(shipped).weights


def test_another_template_is_the_same_model(shipped: Path, tmp_path: Path) -> None:
    """A reply would wait for ever because its model has a better description or chat template now."""
    template = read_metadata(shipped)["tokenizer.chat_template"]
    assert isinstance(template, str)
    other = tmp_path / "m.gguf"
    other.write_bytes(shipped.read_bytes().replace(packed(template), packed(template + " " * 32)))
    assert read_metadata(other)["tokenizer.chat_template"] != template
    assert sameness(other) == sameness(shipped)
