"""Writes a GGUF of a real shape with random weights: it costs what a real model costs and says nothing.

    python bench/make_model.py bench/models/qwen2.5-0.5b-q8_0.gguf --shape qwen2.5-0.5b --type q8_0

The vocabulary is a byte-level BPE like Qwen2.5's (same size, same pre-tokenizer, ChatML) whose merges are made up:
letters join to pairs and pairs to fours, so that English comes to about two characters a token. The same seed gives
the same file. The residual stream is dominated by the layers, not by the last token's embedding, or else the tied
output would repeat that token for ever.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import ascii_lowercase
from time import perf_counter
from typing import Final

import gguf
import numpy as np
from copying_model import ROPE_BASE, Copying
from gguf import GGMLQuantizationType, TokenType
from numpy.typing import NDArray

Weights = NDArray[np.float32]

SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML: Final = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TYPES: Final = {
    "q8_0": GGMLQuantizationType.Q8_0,
    "q4_0": GGMLQuantizationType.Q4_0,
    "f16": GGMLQuantizationType.F16,
}
MIXTURES: Final = {"q4_k_m": 15}  # which llama.cpp itself makes, from Q8_0; its number of each
KINDS: Final = (*TYPES, *MIXTURES)
FILE_TYPES: Final = {
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
}
LOGIT_SPREAD: Final = 3.0  # standard deviation of the logits, about that of a trained model


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a qwen2 architecture. `tokens` is how many ids the vocabulary really uses; the rest is padding."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int
    n_vocab: int
    tokens: int

    @property
    def head(self) -> int:
        return self.width // self.heads


SHAPES: Final = {
    "qwen2.5-0.5b": Shape(24, 896, 14, 2, 4864, 32_768, 151_936, 151_646),
    "qwen2.5-1.5b": Shape(28, 1536, 12, 2, 8960, 32_768, 151_936, 151_646),
    "small": Shape(3, 512, 8, 2, 512, 2048, 20_480, 20_470),
    "tiny": Shape(2, 128, 4, 2, 256, 2048, 1280, 1275),
}


def write_model(
    out: Path,
    shape: Shape,
    kind: str,
    seed: int = 0,
    told: Callable[[float], None] | None = None,
    *,
    copies: bool = False,
) -> None:
    """Write the whole file. `told` hears 0..1 after each tensor. `copies`: with weights that repeat their prompt.

    Raises RuntimeError when llama.cpp cannot quantize, ValueError for a shape that is too small to copy.
    """
    if kind in MIXTURES:
        whole = out.with_suffix(".q8_0.part")
        try:
            write_model(whole, shape, "q8_0", seed, told, copies=copies)
            _quantize(whole, out, MIXTURES[kind])
        finally:
            whole.unlink(missing_ok=True)
        return
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(out, "qwen2")
    _write_facts(writer, shape, kind, ROPE_BASE if copies else 1_000_000.0)
    texts, types = _write_vocabulary(writer, shape, rng)
    copying = Copying(shape, texts, [type == TokenType.NORMAL for type in types], rng) if copies else None
    plan = list(_tensors(shape))
    done, total = 0, sum(rows * columns for _, rows, columns, _, _ in plan)
    for name, rows, columns, mean, spread in plan:
        values = _random(rng, rows, columns, mean, spread)
        _add(writer, name, copying.patch(name, values) if copying else values, _type_of(name, rows, kind))
        done += rows * columns
        if told:
            told(done / total)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _quantize(source: Path, out: Path, kind: int) -> None:
    """llama.cpp's own mixture of types. Where rows are no multiple of 256, as in the 0.5B shape, it takes Q5_0 and Q8_0
    for its K types, as it does with the real model."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = kind, True
    if code := llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.pointer(params)):
        raise RuntimeError(f"llama.cpp could not quantize {source}: code {code}")


def vocabulary(shape: Shape, rng: np.random.Generator) -> tuple[list[str], list[TokenType], list[str]]:
    """(texts, types, merges). Every merge joins two tokens of equal length, so only one way leads to each token."""
    texts = [character for character, _ in _byte_alphabet()]
    room = shape.tokens - len(SPECIALS) - len(texts)
    merges = list(islice(_merges(rng), room))
    assert len(merges) == room, "the vocabulary is larger than all pairs and fours"
    texts += [merge.replace(" ", "") for merge in merges]
    types = [TokenType.NORMAL] * len(texts) + [TokenType.CONTROL] * len(SPECIALS)
    texts += SPECIALS
    padding = [f"[PAD{i}]" for i in range(len(texts), shape.n_vocab)]
    return texts + padding, types + [TokenType.UNUSED] * len(padding), merges


def _merges(rng: np.random.Generator) -> Iterator[str]:
    """Pairs of letters, the first of which may be a space (Ġ); then fours of two pairs, both in random order.

    A four whose middle pair comes before its outer ones is left out: merging would never arrive at it.
    """
    firsts = "Ġ" + ascii_lowercase
    pairs = [firsts[i // 26] + ascii_lowercase[i % 26] for i in rng.permutation(len(firsts) * 26).tolist()]
    yield from (" ".join(pair) for pair in pairs)
    rank = {pair: i for i, pair in enumerate(pairs)}
    right = [pair for pair in pairs if pair[0] != "Ġ"]
    for number in rng.permutation(len(pairs) * len(right)).tolist():
        a, b = pairs[number // len(right)], right[number % len(right)]
        if rank[a[1] + b[0]] >= min(rank[a], rank[b]):
            yield f"{a} {b}"


def _byte_alphabet() -> list[tuple[str, int]]:
    """GPT-2's characters for the 256 bytes: printable ones stand for themselves, the others for U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [(chr(byte), byte) for byte in printable] + [(chr(0x100 + i), byte) for i, byte in enumerate(others)]


def _tensors(shape: Shape) -> Iterator[tuple[str, int, int, float, float]]:
    """(name, rows, columns, mean, standard deviation) of every tensor; 0 columns is a vector.

    Inputs of each matrix have about unit variance, so 1/sqrt(inputs) keeps it; queries and keys are larger, so that
    attention looks at something in particular and the text wanders instead of running in a circle.
    """
    width, kv, wide = shape.width, shape.kv_heads * shape.head, shape.feed_forward
    unit = width**-0.5
    yield "token_embd.weight", shape.n_vocab, width, 0.0, unit
    yield "output_norm.weight", width, 1, LOGIT_SPREAD, 0.0
    for i in range(shape.layers):
        layer = f"blk.{i}."
        yield layer + "attn_norm.weight", width, 1, 1.0, 0.0
        yield layer + "attn_q.weight", width, width, 0.0, 1.5 * unit
        yield layer + "attn_q.bias", width, 1, 0.0, 0.1
        yield layer + "attn_k.weight", kv, width, 0.0, 1.5 * unit
        yield layer + "attn_k.bias", kv, 1, 0.0, 0.1
        yield layer + "attn_v.weight", kv, width, 0.0, unit
        yield layer + "attn_v.bias", kv, 1, 0.0, 0.1
        yield layer + "attn_output.weight", width, width, 0.0, unit
        yield layer + "ffn_norm.weight", width, 1, 1.0, 0.0
        yield layer + "ffn_gate.weight", wide, width, 0.0, unit
        yield layer + "ffn_up.weight", wide, width, 0.0, unit
        yield layer + "ffn_down.weight", width, wide, 0.0, 1.5 * wide**-0.5


def _random(rng: np.random.Generator, rows: int, columns: int, mean: float, spread: float) -> Weights:
    shape = (rows, columns) if columns > 1 else (rows,)
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= spread
    values += mean
    return values


def _type_of(name: str, rows: int, kind: str) -> GGMLQuantizationType:
    """As llama.cpp quantizes: vectors stay F32, and tied embeddings stay Q8_0 in a 4-bit model."""
    if name.endswith((".bias", "norm.weight")):
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.Q8_0 if kind == "q4_0" and name == "token_embd.weight" else TYPES[kind]


def _add(writer: gguf.GGUFWriter, name: str, values: Weights, type: GGMLQuantizationType) -> None:
    data = gguf.quants.quantize(values, type)
    writer.add_tensor(name, data, raw_dtype=type)


def _write_facts(writer: gguf.GGUFWriter, shape: Shape, kind: str, rope_base: float) -> None:
    writer.add_name("random weights")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write_vocabulary(
    writer: gguf.GGUFWriter, shape: Shape, rng: np.random.Generator
) -> tuple[list[str], list[TokenType]]:
    texts, types, merges = vocabulary(shape, rng)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(texts.index("<|im_end|>"))
    writer.add_pad_token_id(texts.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    return texts, types


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a GGUF of a real shape with random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--type", choices=KINDS, default="q8_0")
    parser.add_argument("--copies", action="store_true", help="weights that repeat about 60 % from their prompt")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    began = perf_counter()

    def told(part: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{options.out}: {part:4.0%}, {perf_counter() - began:.0f} s", end="", file=sys.stderr, flush=True)

    write_model(options.out, SHAPES[options.shape], options.type, options.seed, told, copies=options.copies)
    size = options.out.stat().st_size / 1e6
    print(f"\r{options.out}: {size:.0f} MB in {perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
