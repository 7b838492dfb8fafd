"""The decoder: llama.cpp's `qwen3` architecture in PyTorch, small.

RMSNorm before each half of a block, grouped-query attention with normalised queries and keys, rotate-half RoPE (the
order llama.cpp expects, so nothing is permuted on export), SwiGLU, and an output head tied to the embedding.
Matrix products run in `dtype`, the residual stream in float32. This file knows neither optimiser nor data, but for
the number of kinds that the probe of `about.py` tells apart.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from recipe import about, attention, pointing
from recipe.about import Told
from recipe.attention import CausalAttention
from recipe.pointing import Pointed

EMBEDDING_SCALE = 0.3  # large beside what a new block writes, so that a token stays visible in the residual stream
FINAL_NORM = 0.1  # keeps the first logits small all the same


@dataclass(frozen=True)
class Config:
    vocabulary: int = 5120
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 64
    feed_forward: int = 1024
    context: int = 4096
    rope_base: float = 1e7  # over half of a head's dimensions then hardly turn within the context: they match content
    norm_epsilon: float = 1e-6


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rope_frequencies(config: Config) -> Tensor:
    return config.rope_base ** (-torch.arange(0, config.head_width, 2).float() / config.head_width)


def rope_table(config: Config) -> tuple[Tensor, Tensor]:
    angles = torch.outer(torch.arange(config.context).float(), rope_frequencies(config))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


def project(x: Tensor, layer: nn.Linear) -> Tensor:
    return functional.linear(x, layer.weight.to(x.dtype))


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.query = linear(config.width, config.heads * config.head_width)
        self.key = linear(config.width, config.kv_heads * config.head_width)
        self.value = linear(config.width, config.kv_heads * config.head_width)
        self.output = linear(config.heads * config.head_width, config.width)
        self.query_norm = nn.RMSNorm(config.head_width, config.norm_epsilon)
        self.key_norm = nn.RMSNorm(config.head_width, config.norm_epsilon)


class FeedForward(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate = linear(config.width, config.feed_forward)
        self.up = linear(config.width, config.feed_forward)
        self.down = linear(config.feed_forward, config.width)


class Block(nn.Module):
    """`inputs` and `rest` are the parts before and after the attention proper; each is compiled by itself."""

    def __init__(self, config: Config, dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        self.attention_norm = nn.RMSNorm(config.width, config.norm_epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.width, config.norm_epsilon)
        self.feed_forward = FeedForward(config)

    def inputs(self, x: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as `CausalAttention` wants them."""
        config, own = self.config, self.attention
        rows, length, _ = x.shape
        groups, heads, width = config.kv_heads, config.heads // config.kv_heads, config.head_width
        x = self.attention_norm(x).to(self.dtype)
        query = project(x, own.query).view(rows, length, groups, heads, width).permute(0, 2, 3, 1, 4)
        key = project(x, own.key).view(rows, length, groups, width).transpose(1, 2)
        value = project(x, own.value).view(rows, length, groups, width).transpose(1, 2)
        query = rotate(own.query_norm(query.float()), cosine, sine) / math.sqrt(width)
        key = rotate(own.key_norm(key.float()), cosine, sine)
        return (
            query.to(self.dtype).reshape(rows * groups, heads, length, width),
            key.to(self.dtype).reshape(rows * groups, length, width),
            value.reshape(rows * groups, length, width),
        )

    def joined(self, mixed: Tensor) -> Tensor:
        """What `CausalAttention` gives, with all heads of a position in a row: [rows, length, heads * width]."""
        config, length = self.config, mixed.shape[2]
        groups, heads, width = config.kv_heads, config.heads // config.kv_heads, config.head_width
        return mixed.view(-1, groups, heads, length, width).permute(0, 3, 1, 2, 4).flatten(2)

    def rest(self, x: Tensor, joined: Tensor) -> Tensor:
        """Both [..., width]: every position by itself."""
        own = self.feed_forward
        x = x + project(joined, self.attention.output)
        normed = self.feed_forward_norm(x).to(self.dtype)
        inner = functional.silu(project(normed, own.gate).float()) * project(normed, own.up).float()
        return x + project(inner.to(self.dtype), own.down)


class Model(nn.Module):
    def __init__(self, config: Config, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config, dtype) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_epsilon)
        self.about = linear(config.width, len(about.KINDS))  # of training alone
        cosine, sine = rope_table(config)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Unit-variance matrices; those that write into the residual stream are scaled down by the depth."""
        nn.init.constant_(self.norm.weight, FINAL_NORM)
        for name, parameter in self.named_parameters():
            if name.startswith("embedding"):
                nn.init.normal_(parameter, std=EMBEDDING_SCALE)
            elif parameter.ndim == 2:
                depth = math.sqrt(2 * self.config.layers) if name.endswith(("output.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=1 / (math.sqrt(parameter.shape[1]) * depth))

    def compile_blocks(self) -> None:
        """One block's code serves all blocks: much faster, for half a minute's compilation."""
        attention.scores_gradient = torch.compile(attention.scores_gradient, dynamic=True)
        for block in self.blocks:
            block.inputs = torch.compile(block.inputs, dynamic=True)
            block.rest = torch.compile(block.rest, dynamic=True)

    def hidden(self, ids: Tensor, wanted: Tensor | None = None) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """The normalised residual stream at the end, the one before layer `about.LAYER`, and the queries and keys of
        every layer.

        With `wanted`, true at some positions [rows, length], the end is that of these alone, [positions, width]: what
        follows the last layer's attention is not computed for the others, three in four.
        """
        length, looked = ids.shape[1], []
        x = middle = self.embedding(ids).float()
        for layer, block in enumerate(self.blocks):
            middle = x if layer == about.LAYER else middle
            query, key, value = block.inputs(x, self.cosine[:length], self.sine[:length])
            joined = block.joined(CausalAttention.apply(query, key, value))
            if wanted is not None and layer == self.config.layers - 1:
                x, joined = x[wanted], joined[wanted]
            x = block.rest(x, joined)
            looked.append((query, key))
        return self.norm(x).to(self.dtype), middle, looked

    def forward(self, ids: Tensor) -> Tensor:
        """The logits at every position."""
        return functional.linear(self.hidden(ids)[0], self.embedding.weight.to(self.dtype))

    def loss(self, ids: Tensor, weight: Tensor, wanted: Tensor, kinds: Tensor) -> tuple[Tensor, list[Pointed], Told]:
        """Weighted mean of the loss, how each of `pointing.HEADS` looks, and how the probe of `about.py` does.

        `ids` and `weight` are [rows, length + 1]; `wanted` and `kinds` are as `pointing.labels` and `about.labels` with
        a row for each conversation.
        The output head, and what leads up to it from the last attention, run on the positions with a weight alone.
        """
        learned = weight[:, 1:] > 0
        weights = weight[:, 1:][learned]
        hidden, middle, looked = self.hidden(ids[:, :-1], learned)
        logits = functional.linear(hidden, self.embedding.weight.to(self.dtype))
        losses = functional.cross_entropy(logits.float(), ids[:, 1:][learned], reduction="none")
        counted = [learned & (weight[:, :-1] == 0)] * pointing.COPYING + [learned]
        heads = [
            pointing.pointed(*self.one_head(looked[layer], head), wanted[:, :-1, index], counted[index])
            for index, (layer, head) in enumerate(pointing.HEADS)
        ]
        told = about.told(middle, self.about.weight, kinds[:, :-1])
        return (losses * weights).sum() / weights.sum(), heads, told

    def one_head(self, looked: tuple[Tensor, Tensor], head: int) -> tuple[Tensor, Tensor]:
        """The queries of one head and the keys that it meets, each [rows, length, width]."""
        query, key = looked
        groups, heads = self.config.kv_heads, self.config.heads // self.config.kv_heads
        group, within = divmod(head, heads)
        return query[group::groups, within], key[group::groups]

    @property
    def size(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
