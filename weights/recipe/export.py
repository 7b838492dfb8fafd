"""Writes a checkpoint as an F16 GGUF file of llama.cpp's `qwen3` architecture, tokenizer and chat template included.

    python -m recipe.export

The chat template is plain ChatML, with tools and tool calls as `tools.py` writes them. It takes any role, and a message
whose content is absent or null is an empty one. No BOS token; a reply ends with <|im_end|>.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from recipe import paths
from recipe.model import Config
from recipe.tokenizer import END, PAD, SPECIALS
from recipe.tools import HEAD

NAME = "frontdesk-small"
CHAT_TEMPLATE = (
    "{% macro tool_block() %}"
    "{{ '" + HEAD.replace("\n", "\\n") + "' }}{% for tool in tools %}{% set function = tool.function %}"
    "{{ '\\n- ' + function.name }}({{ (function.parameters or {}).get('properties', {}) | join(', ') }})"
    ": {{ function.description or '' }}{% endfor %}{% endmacro %}"
    "{% if tools and messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\\n' + tool_block() + '<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% endif %}"
    "{% if tools and loop.first and message['role'] == 'system' %}"
    "{{ ('\\n\\n' if message['content'] else '') + tool_block() }}{% endif %}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% set arguments = call.function.arguments %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    '{{ \'<tool_call>{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{% if arguments is string %}{{ arguments }}{% else %}{{ arguments | tojson }}{% endif %}"
    "{{ '}</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TENSORS = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
}


def add_architecture(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_name(NAME)
    writer.add_license("Apache-2.0")
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    bpe = json.loads(paths.TOKENIZER.read_text(encoding="utf-8"))["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]]
    types = [gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_tensors(writer: gguf.GGUFWriter, config: Config, weights: dict[str, torch.Tensor]) -> None:
    """Matrices as F16, norms as F32."""

    def add(name: str, tensor: torch.Tensor) -> None:
        array = tensor.float().numpy()
        writer.add_tensor(f"{name}.weight", array if array.ndim == 1 else array.astype(np.float16))

    add("token_embd", weights["embedding.weight"])
    add("output_norm", weights["norm.weight"])
    for layer in range(config.layers):
        for ours, theirs in TENSORS.items():
            add(f"blk.{layer}.{theirs}", weights[f"blocks.{layer}.{ours}.weight"])


def export(checkpoint: Path, target: Path) -> None:
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu")
    config = Config(**state["config"])
    writer = gguf.GGUFWriter(str(target), "qwen3")
    add_architecture(writer, config)
    add_tokenizer(writer)
    add_tensors(writer, config, state["model"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB, {state['progress']['tokens'] / 1e6:.2f} M tokens seen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="model", help="the checkpoint's name")
    parser.add_argument("--target", type=Path, default=paths.F16)
    options = parser.parse_args()
    export(paths.checkpoint(options.name), options.target)


if __name__ == "__main__":
    main()
