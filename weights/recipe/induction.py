"""Builds the copying circuit into a new model, instead of waiting for training to find it.

What a front desk says is mostly copied from its prompt. The circuit that copies is an "induction head" (Olsson and
others 2022, arXiv:2209.11895): one layer notes at each position which tokens came just before, a later one looks for
positions whose noted tokens are the ones just read, and takes what stands there. From random weights it forms only
after about ten million tokens of this data; put in place by hand it works after a few hundred thousand, and training
goes on from there (the idea of initialising weights after a trained model's structure: Trockman and Kolter 2023,
arXiv:2305.09828). Nothing is fixed: every weight set here is trained like the others.

The pieces, for two groups of two heads each:
- one dimension of the embedding is the same for all tokens, so that queries and keys can be made of position alone;
- layer 0: the first head of a group attends to the token before, the second to the one before that; what they read is a
  group's `code`, a random projection of the embedding, written to a place of its own (`slots`);
- layers 1 and 2: keys hold the codes of the tokens before, queries those of the token just read and the one before
  it, in those dimensions of a head that RoPE hardly turns; values bring the embedding of what follows.
"""

import torch
from torch import Tensor

from recipe.model import Config, Model, rope_frequencies

CONSTANT = 2.0  # the shared dimension of every embedding
POSITION_GAIN, CONTENT_GAIN = 2.2, 2.0  # of normalised queries and keys: how sharp attention is
FAST = 10  # pairs of dimensions that tell positions apart
SLOW = 1.2e-3  # radians a token; pairs below it carry content
COPYING_LAYERS = (1, 2)


def basis(width: int) -> Tensor:
    """Orthonormal rows that leave the constant dimension alone."""
    rows = torch.zeros(width - 1, width)
    rows[:, 1:] = torch.linalg.qr(torch.randn(width - 1, width - 1))[0]
    return rows


def position_vector(config: Config, distance: int) -> Tensor:
    """A query that meets the constant key (distance 0) best at so many positions before it."""
    frequencies = rope_frequencies(config)
    strength = torch.zeros(len(frequencies))
    strength[:FAST] = torch.linspace(1, 0.4, FAST).sqrt()
    strength *= 4 / strength.norm()
    return torch.cat((strength * torch.cos(-distance * frequencies), strength * torch.sin(-distance * frequencies)))


@torch.no_grad()
def build_in(model: Model) -> None:
    """Changes a newly initialised model; wants two groups of two heads."""
    config, width = model.config, model.config.head_width
    assert config.heads == 4, "the circuit is laid out for four heads"
    assert config.kv_heads == 2, "the circuit is laid out for two groups of heads"
    model.embedding.weight[:, 0] = CONSTANT
    first, second = basis(config.width), basis(config.width)
    codes = (first[:width], first[width : 2 * width])
    rest = torch.cat((first[3 * width :], second[width : width + 1]))
    slots = (first[2 * width : 3 * width], second[:width], rest, second[width : 2 * width])
    note_previous(model, codes, slots)
    for layer in COPYING_LAYERS:
        copy_what_followed(model, layer, codes, slots)


def note_previous(model: Model, codes: tuple[Tensor, ...], slots: tuple[Tensor, ...]) -> None:
    config, width, own = model.config, model.config.head_width, model.blocks[0].attention
    own.query.weight.mul_(0.1)
    own.key.weight.mul_(0.1)
    own.output.weight.mul_(0.1)
    for head in range(config.heads):
        rows = slice(head * width, (head + 1) * width)
        own.query.weight[rows, 0] = position_vector(config, 1 + head % 2)
        own.output.weight[:, rows] += 0.3 * slots[head].T
    for group in range(config.kv_heads):
        rows = slice(group * width, (group + 1) * width)
        own.key.weight[rows, 0] = position_vector(config, 0)
        own.value.weight[rows] = codes[group]
    own.query_norm.weight.fill_(POSITION_GAIN)
    own.key_norm.weight.fill_(POSITION_GAIN)


def copy_what_followed(model: Model, layer: int, codes: tuple[Tensor, ...], slots: tuple[Tensor, ...]) -> None:
    config, width, own = model.config, model.config.head_width, model.blocks[layer].attention
    slow = (rope_frequencies(config) < SLOW).nonzero()[:, 0]
    free = torch.cat((slow, slow + width // 2))
    free = free[torch.randperm(len(free))]
    split = len(free) * 5 // 9  # dimensions for the token before; the others are for the one before that
    own.query.weight.mul_(0.2)
    own.key.weight.mul_(0.2)
    own.output.weight.mul_(0.3)
    for group in range(config.kv_heads):
        code, before, before_that = codes[group], slots[2 * group], slots[2 * group + 1]
        rows = group * width
        own.key.weight[rows + free[:split]] += before[:split]
        own.key.weight[rows + free[split:]] += before_that[split : len(free)]
        own.value.weight[rows : rows + width] = code
        for head, care in ((2 * group, 1.0), (2 * group + 1, 0.3)):
            rows = head * width
            own.query.weight[rows + free[:split]] += code[:split]
            own.query.weight[rows + free[split:]] += care * before[split : len(free)]
            own.output.weight[:, rows : rows + width] += 0.4 * code.T
    own.query_norm.weight.fill_(CONTENT_GAIN)
    own.key_norm.weight.fill_(CONTENT_GAIN)
