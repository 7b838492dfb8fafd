"""Moves tokens that training hardly ever said to where their other form has gone. Run once, after training.

    python -m recipe.settle            build/model.pt, in place

A piece has two tokens, with a space before it and without. Where only the spaced one is said in training, its embedding
moves on and the bare one stays behind; then the bare one cannot be copied from the other, which is what a tool's name
wants that stands behind a space in the prompt and behind a quote in the call. The bare form is put between where it is
and where the spaced one minus the mean difference of both forms would have it. No gradient is taken.
"""

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipe import paths, tokenizer
from recipe.dataset import COUNTS
from recipe.grow import forms, space

SELDOM = 60  # times that a form was to be said: below, it is moved
OFTEN = 1000  # times: from here on it tells what the difference of the two forms is
SHARE = 0.7  # of the way


def settled(embedding: Tensor, vocabulary: dict[str, int], seen: np.ndarray, said: np.ndarray) -> tuple[Tensor, int]:
    """The embedding with such bare forms moved, and how many. `seen` and `said` are [tokens]: how often each stood in
    the data, and how often it was to be predicted."""
    pairs = forms(vocabulary)
    known = [pair for pair in pairs if said[pair[1]] > OFTEN and seen[pair[0]] > OFTEN]
    left = [(spaced, bare) for spaced, bare in pairs if said[bare] < SELDOM and seen[spaced] > 3 * max(1, seen[bare])]
    if not known or not left:
        return embedding, 0
    result = embedding.clone()
    spaced, bare = torch.tensor(left).T
    result[bare] = torch.lerp(embedding[bare], embedding[spaced] - space(embedding, known), SHARE)
    return result, len(left)


def counted(tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each token stands in the data files, and how often it is to be predicted."""
    seen, said = np.zeros(tokens, int), np.zeros(tokens, int)
    for kind in COUNTS:
        data = np.load(paths.dataset(kind))
        seen += np.bincount(data["ids"], minlength=tokens)
        said += np.bincount(data["ids"][data["learned"] > 0], minlength=tokens)
    return seen, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="model", help="the checkpoint's name")
    options = parser.parse_args()
    path = paths.checkpoint(options.name)
    state: dict[str, Any] = torch.load(path, weights_only=True)
    embedding = state["model"]["embedding.weight"]
    moved, count = settled(embedding, tokenizer.load().get_vocab(), *counted(len(embedding)))
    state["model"]["embedding.weight"] = moved
    torch.save(state, path)
    print(f"{path.name}: {count} tokens moved")


if __name__ == "__main__":
    main()
