"""Takes a trained model's weights over into a larger one, or to another vocabulary, losing as little as can be.

A wider feed-forward gets new inner units that write nothing yet, so that the model computes what it did (Chen and
others 2016, "Net2Net", arXiv:1511.05641). A token that both vocabularies have keeps its embedding. One that is new as a
spaced form, or as the bare form of a spaced one, gets the other form's embedding moved by the mean difference of both;
any other gets the mean of the pieces that the former vocabulary cut it into. This file reads no files, and knows
nothing of training.
"""

import math

import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipe.tokenizer import SPACE


def forms(vocabulary: dict[str, int]) -> list[tuple[int, int]]:
    """The ids of the spaced and of the bare form of every piece that has both."""
    return [(vocabulary[SPACE + piece], id) for piece, id in vocabulary.items() if SPACE + piece in vocabulary]


def space(embedding: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """What a space before a piece adds to its embedding, on average over these pairs."""
    if not pairs:
        return embedding.new_zeros(embedding.shape[1])
    spaced, bare = torch.tensor(pairs).T
    return (embedding[spaced] - embedding[bare]).mean(0)


def carried(embedding: Tensor, former: Tokenizer, latter: Tokenizer) -> Tensor:
    """The embedding [tokens, width] of the latter vocabulary, from that of the former."""
    known, wanted = former.get_vocab(), latter.get_vocab()
    added = space(embedding, forms(known))
    result = embedding.new_zeros(len(wanted), embedding.shape[1])
    for token, id in wanted.items():
        other = token.removeprefix(SPACE) if token.startswith(SPACE) else SPACE + token
        if token in known:
            result[id] = embedding[known[token]]
        elif other in known:
            result[id] = embedding[known[other]] + (added if token.startswith(SPACE) else -added)
        else:
            pieces = former.encode(latter.decode([id])).ids
            result[id] = embedding[pieces].mean(0)
    return result


def widened(weights: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """All weights, every feed-forward with `width` inner units; the new ones write nothing yet."""
    grown = dict(weights)
    for name, weight in weights.items():
        if name.endswith((".gate.weight", ".up.weight")):
            new = torch.randn(width - weight.shape[0], weight.shape[1]) / math.sqrt(weight.shape[1])
            grown[name] = torch.cat((weight, new))
        elif name.endswith(".down.weight"):
            grown[name] = torch.cat((weight, weight.new_zeros(weight.shape[0], width - weight.shape[1])), 1)
    return grown
