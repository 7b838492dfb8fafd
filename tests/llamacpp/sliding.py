"""A tiny model with random weights that attends through a sliding window, as a file of 0.5 MB."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

BEHIND = 64  # tokens that the window holds
LAYERS, WIDTH, HEADS, KV_HEADS, HEAD, INNER, VOCAB = 6, 64, 4, 2, 32, 128, 2048  # the last layer sees everything


def write_sliding(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(BEHIND)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("none")
    random = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0  # whose products do not depend on how many rows are computed together
        writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)

    def norm(name: str, size: int) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    matrix("token_embd", VOCAB, WIDTH)
    norm("output_norm", WIDTH)
    for layer in (f"blk.{i}." for i in range(LAYERS)):
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            norm(layer + name, WIDTH)
        norm(layer + "attn_q_norm", HEAD)
        norm(layer + "attn_k_norm", HEAD)
        matrix(layer + "attn_q", HEADS * HEAD, WIDTH)
        matrix(layer + "attn_k", KV_HEADS * HEAD, WIDTH)
        matrix(layer + "attn_v", KV_HEADS * HEAD, WIDTH)
        matrix(layer + "attn_output", WIDTH, HEADS * HEAD)
        matrix(layer + "ffn_gate", INNER, WIDTH)
        matrix(layer + "ffn_up", INNER, WIDTH)
        matrix(layer + "ffn_down", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
