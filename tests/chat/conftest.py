"""Tokenizers for the tests of `chat`: the shipped one, and one with BOS and with awkward control tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from tests.chat.lives import Open, lives

from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.tokenizer import Tokenizer, open_tokenizer
from frontdesk.llamacpp.vocab import Vocab

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
CONTROLS = [
    "<s>",
    "</s>",
    "<unk>",
    "[INST]",
    "[/INST]",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<<a>>",
    "<|a|><|b|>",
    "x y z",
]


def rich_vocabulary(path: Path) -> Path:
    metadata: dict[str, Any] = read_metadata(SHIPPED)
    size = len(metadata["tokenizer.ggml.tokens"])
    writer = gguf.GGUFWriter(path, "qwen3")
    for key in ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"qwen3.{key}", metadata[f"qwen3.{key}"])
    writer.add_float32("qwen3.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*metadata["tokenizer.ggml.tokens"], *CONTROLS, "<think>"])
    writer.add_token_types([*metadata["tokenizer.ggml.token_type"], *[3] * len(CONTROLS), 4])
    writer.add_token_merges(metadata["tokenizer.ggml.merges"])
    writer.add_bos_token_id(size + CONTROLS.index("<s>"))
    writer.add_eos_token_id(size + CONTROLS.index("</s>"))
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return open_tokenizer(SHIPPED)


@pytest.fixture(scope="session")
def rich_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich_vocabulary(tmp_path_factory.mktemp("vocab") / "rich.gguf")


@pytest.fixture(scope="session")
def rich(rich_file: Path) -> Tokenizer:
    return open_tokenizer(rich_file)


@pytest.fixture(scope="session")
def rich_vocab(rich_file: Path) -> Vocab:
    return Vocab(rich_file)


@pytest.fixture
async def open_service(tmp_path: Path) -> AsyncIterator[Open]:
    """`await open_service()`: a service over the test's one database; call it again for its next life."""
    async with lives(tmp_path / "frontdesk.db") as begin:
        yield begin
