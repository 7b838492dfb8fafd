"""GGUF files that hold a vocabulary and nothing else, made from the shipped model's with changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from frontdesk.fleet.gguf import read_metadata

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"


def write_gguf(path: Path, metadata: dict[str, Any], architecture: str = "qwen3") -> Path:
    writer = gguf.GGUFWriter(path, architecture)
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


def write_spm(path: Path, name: str, *controls: str, pre: str = "default") -> Path:
    """A tiny SentencePiece vocabulary: all bytes, ASCII, a few words, and control tokens at the end."""
    words = ["\u2581", "\u2581\u2581", "\u2581H", "He", "lo", "\u2581He", "Hel", "\u2581Hel", "Hello", "\u2581Hello"]
    plain = [*words, *map(chr, range(33, 127))]
    tokens = [("<unk>", 2), ("<s>", 3), ("</s>", 3), *((f"<0x{byte:02X}>", 6) for byte in range(256))]
    tokens += [*((text, 1) for text in plain), *((text, 3) for text in controls)]
    model = {"context_length": 64, "embedding_length": 64, "block_count": 1, "feed_forward_length": 64}
    metadata: dict[str, Any] = {f"qwen3.{key}": value for key, value in model.items()}
    metadata |= {"qwen3.attention.head_count": 2, "qwen3.attention.layer_norm_rms_epsilon": 1e-5, "general.name": name}
    vocabulary = {
        "model": "llama",
        "pre": pre,
        "tokens": [text for text, _ in tokens],
        "scores": [-float(number) for number, _ in enumerate(tokens)],
        "token_type": [kind for _, kind in tokens],
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_bos_token": True,
    }
    return write_gguf(path, metadata | {f"tokenizer.ggml.{key}": value for key, value in vocabulary.items()})


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
    """`vocab_file(pre="…", tokens=[(text, type)])`: the shipped one, other settings, further tokens at the end.
    `name` is the model's."""

    def make(tokens: list[tuple[str, int]] | None = None, name: str | None = None, **settings: Any) -> Path:
        metadata: dict[str, Any] = read_metadata(SHIPPED)
        if name is not None:
            metadata["general.name"] = name
        for text, kind in tokens or []:
            metadata["tokenizer.ggml.tokens"].append(text)
            metadata["tokenizer.ggml.token_type"].append(kind)
        metadata |= {f"tokenizer.ggml.{key}": value for key, value in settings.items()}
        return write_gguf(tmp_path / "vocab.gguf", metadata)

    return make
