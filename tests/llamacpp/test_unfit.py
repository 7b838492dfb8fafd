"""Files that llama.cpp opens although they are no chat models: each is refused with a line that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import pytest
from tests.llamacpp.lab import SHIPPED

from frontdesk.engine.trial import Shape, Trial
from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.library import ContextPlan, open_context, open_model
from frontdesk.llamacpp.trials import timed

WIDTH, VOCAB, HEADS, CONTEXT = 32, 64, 2, 128
PLAN: Final = ContextPlan(
    cells=256, sequences=2, rows=64, threads=1, threads_least=1, kv_type="f16", unified=True, exact=False
)
MATRICES: Final = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down", "ffn_gate")
DECODER: Final = ("token_embd", "output_norm", *(f"blk.0.{name}" for name in (*MATRICES, "attn_norm", "ffn_norm")))
BERT: Final = (
    "token_embd", "token_types", "position_embd", "token_embd_norm", "token_embd_norm.bias",
    *(f"blk.0.{name}" for name in MATRICES[:-1]),
    *(f"blk.0.{name}_output_norm{end}" for name in ("attn", "layer") for end in ("", ".bias")),
)  # fmt: skip
T5: Final = (
    "token_embd", "enc.output_norm", "enc.blk.0.attn_o", *(f"enc.blk.0.{name}" for name in MATRICES[:3]),
    *(f"enc.blk.0.{name}" for name in ("attn_norm", "ffn_norm", "ffn_up", "ffn_down")),
)  # fmt: skip
ROWS: Final = {"token_embd": VOCAB, "token_types": 2, "position_embd": CONTEXT}


def write_tiny(path: Path, architecture: str, tensors: tuple[str, ...], pooling: gguf.PoolingType | None = None) -> str:
    """A model of one layer, all of whose weights are 0."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_layer_norm_eps(1e-6)
    writer.add_relative_attn_buckets_count(32)
    writer.add_token_type_count(2)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("none")
    for name in tensors:
        vector = "norm" in name
        shape = (WIDTH,) if vector else (ROWS.get(name, WIDTH), WIDTH)
        full = name if name.endswith(".bias") else f"{name}.weight"
        writer.add_tensor(full, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def opened(path: str) -> Any:
    return open_model(path, lambda _: None)


@pytest.mark.parametrize(
    ("architecture", "tensors", "reason"),
    [("dream", DECODER, "diffusion model"), ("t5encoder", T5, "model with an encoder")],
)
def test_what_writes_otherwise_is_not_opened(
    tmp_path: Path, architecture: str, tensors: tuple[str, ...], reason: str
) -> None:
    """It would be served, and answer nonsense without any error."""
    with pytest.raises(ModelLoadFailed, match=rf"tiny\.gguf is a {reason}"):
        opened(write_tiny(tmp_path / "tiny.gguf", architecture, tensors))


@pytest.mark.parametrize(
    ("architecture", "tensors", "pooling"),
    [
        ("bert", BERT, None),
        ("bert", BERT, gguf.PoolingType.MEAN),
        ("qwen2", DECODER, gguf.PoolingType.LAST),
    ],
)
def test_what_compares_texts_gets_no_context(
    tmp_path: Path, architecture: str, tensors: tuple[str, ...], pooling: gguf.PoolingType | None
) -> None:
    """An embedding model would be served as a chat model and talk nonsense."""
    model = opened(write_tiny(tmp_path / "tiny.gguf", architecture, tensors, pooling))
    with pytest.raises(ModelLoadFailed, match="embedding model"):
        open_context(model, PLAN)
    assert "embedding model" in timed(model, Trial((Shape("decode", 1),), (1,), 1, 1.0)).reason


def test_a_model_of_the_same_making_is_served(tmp_path: Path) -> None:
    """What is refused above might be so because of something else, or a chat model be refused with it."""
    assert open_context(opened(write_tiny(tmp_path / "tiny.gguf", "qwen2", DECODER)), PLAN)
    assert open_context(opened(str(SHIPPED)), PLAN)
