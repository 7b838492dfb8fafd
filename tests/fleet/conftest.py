"""GGUF files that hold a vocabulary and nothing else, made from the shipped model's with changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from frontdesk.fleet.gguf import read_metadata

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"


def write_gguf(path: Path, metadata: dict[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, "qwen3")
    add: dict[type, Callable[[str, Any], None]] = {
        str: writer.add_string,
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        list: writer.add_array,
    }
    for key, value in metadata.items():
        if key != "general.architecture":
            add[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def half_of(file: Path, folder: Path) -> Path:
    """A model file as an interrupted download leaves it."""
    half = folder / "half.gguf"
    half.write_bytes(file.read_bytes()[:2_000_000])
    return half


@pytest.fixture(scope="session")
def shipped() -> Path:
    return SHIPPED


@pytest.fixture
def vocab_file(tmp_path: Path) -> Callable[..., Path]:
    """`vocab_file(pre="…", tokens=[(text, type)])`: the shipped one, other settings, further tokens at the end."""

    def make(tokens: list[tuple[str, int]] | None = None, **settings: Any) -> Path:
        metadata: dict[str, Any] = read_metadata(SHIPPED)
        for text, kind in tokens or []:
            metadata["tokenizer.ggml.tokens"].append(text)
            metadata["tokenizer.ggml.token_type"].append(kind)
        metadata |= {f"tokenizer.ggml.{key}": value for key, value in settings.items()}
        return write_gguf(tmp_path / "vocab.gguf", metadata)

    return make
