"""The decoder: llama.cpp's `qwen3` architecture in PyTorch, small.

RMSNorm before each half of a block, grouped-query attention with normalised queries and keys, rotate-half RoPE (the
order llama.cpp expects, so nothing is permuted on export), SwiGLU, and an output head tied to the embedding.
This file knows neither data nor optimiser.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 64
    feed_forward: int = 704
    context: int = 4096
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-6


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rope_table(config: Config) -> tuple[Tensor, Tensor]:
    frequencies = config.rope_base ** (-torch.arange(0, config.head_width, 2).float() / config.head_width)
    angles = torch.outer(torch.arange(config.context).float(), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.query = linear(config.width, config.heads * config.head_width)
        self.key = linear(config.width, config.kv_heads * config.head_width)
        self.value = linear(config.width, config.kv_heads * config.head_width)
        self.output = linear(config.heads * config.head_width, config.width)
        self.query_norm = nn.RMSNorm(config.head_width, config.norm_epsilon)
        self.key_norm = nn.RMSNorm(config.head_width, config.norm_epsilon)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        config = self.config
        rows, length, _ = x.shape
        query = self.query(x).view(rows, length, config.heads, config.head_width)
        key = self.key(x).view(rows, length, config.kv_heads, config.head_width)
        value = self.value(x).view(rows, length, config.kv_heads, config.head_width).transpose(1, 2)
        query = rotate(self.query_norm(query.float()).transpose(1, 2), cosine, sine).to(value.dtype)
        key = rotate(self.key_norm(key.float()).transpose(1, 2), cosine, sine).to(value.dtype)
        repeat = config.heads // config.kv_heads
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(rows, length, config.heads * config.head_width))


class FeedForward(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate = linear(config.width, config.feed_forward)
        self.up = linear(config.width, config.feed_forward)
        self.down = linear(config.feed_forward, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, config.norm_epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.width, config.norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cosine, sine)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Model(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_epsilon)
        cosine, sine = rope_table(config)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Unit-variance matrices; those that write into the residual stream are scaled down by the depth."""
        for name, parameter in self.named_parameters():
            if name.startswith("embedding"):
                nn.init.normal_(parameter, std=0.02)
            elif parameter.ndim == 2:
                depth = math.sqrt(2 * self.config.layers) if name.endswith(("output.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=1 / (math.sqrt(parameter.shape[1]) * depth))

    def hidden(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cosine[:length], self.sine[:length])
        return self.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """The logits at every position."""
        return functional.linear(self.hidden(ids), self.embedding.weight)

    def loss(self, ids: Tensor, weight: Tensor) -> Tensor:
        """Mean loss over the weighted positions; the head runs on those alone."""
        wanted = weight[:, 1:] > 0
        hidden = self.hidden(ids[:, :-1])[wanted]
        logits = functional.linear(hidden, self.embedding.weight)
        return functional.cross_entropy(logits.float(), ids[:, 1:][wanted])

    @property
    def size(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
