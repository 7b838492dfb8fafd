"""Generates and encodes the training conversations of each kind, and serves them as batches of like length.

    python -m recipe.dataset

There are five kinds: drills, and conversations of the generator's levels 0 (short prompts) to 3 (long ones).
A data file holds all conversations of one kind end to end, with offsets. This file does not know the model.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from recipe import paths, tokenizer
from recipe.drills import drill
from recipe.generator import sample
from recipe.talk import Message

COUNTS = {"drill": 4000, "short": 20000, "usual": 18000, "large": 10000, "long": 3500}  # conversations of each kind
LEVELS = {"short": 0, "usual": 1, "large": 2, "long": 3}
LONGEST = 4000  # tokens; the few longer conversations are left out
ROUND_TO = 32  # batch widths are multiples of this, so that few shapes occur
POOL = 2000  # conversations sorted by length together


@dataclass(frozen=True)
class Batch:
    """`weight` is above 0 where a token is to be predicted; `tokens` counts the real tokens, without padding."""

    ids: torch.Tensor
    weight: torch.Tensor
    tokens: int


def messages(rng: random.Random, kind: str) -> list[Message]:
    return drill(rng, "train") if kind == "drill" else sample(rng, "train", LEVELS[kind]).messages


def build(kind: str, count: int, seed: int) -> None:
    """Writes the data file of one kind."""
    rng, bpe = random.Random(seed), tokenizer.load()
    ids, learned, offsets = [], [], [0]
    for _ in tqdm(range(count), desc=kind, mininterval=5):
        conversation_ids, flags = tokenizer.encode(bpe, messages(rng, kind))
        if len(conversation_ids) > LONGEST:
            continue
        ids.append(np.array(conversation_ids, np.uint16))
        learned.append(np.array(flags, np.uint8))
        offsets.append(offsets[-1] + len(conversation_ids))
    path = paths.dataset(kind)
    unfinished = path.with_suffix(".tmp.npz")
    np.savez(unfinished, ids=np.concatenate(ids), learned=np.concatenate(learned), offsets=np.array(offsets))
    unfinished.replace(path)
    share = float((np.concatenate(learned) > 0).mean())
    print(f"{path.name}: {offsets[-1] / 1e6:.2f} M tokens, {offsets[-1] / count:.0f} each, {share:.0%} the assistant's")


class Conversations:
    """The conversations of one kind, grouped into batches of at most `budget` tokens (padding included)."""

    def __init__(self, kind: str, budget: int, seed: int) -> None:
        data = np.load(paths.dataset(kind))
        self.ids, self.learned, self.offsets = data["ids"], data["learned"], data["offsets"]
        self.lengths = np.diff(self.offsets)
        self.budget = budget
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            order = self.rng.permutation(len(self.lengths))
            for start in range(0, len(order), POOL):
                pool = order[start : start + POOL]
                groups = self.group(pool[np.argsort(self.lengths[pool], kind="stable")])
                for index in self.rng.permutation(len(groups)):
                    yield self.batch(groups[index])

    def group(self, by_length: np.ndarray) -> list[list[int]]:
        groups: list[list[int]] = []
        current: list[int] = []
        for index in by_length:
            if current and (len(current) + 1) * self.lengths[index] > self.budget:
                groups.append(current)
                current = []
            current.append(int(index))
        return [*groups, current] if current else groups

    def batch(self, group: list[int]) -> Batch:
        longest = int(self.lengths[group].max())
        width = -(-longest // ROUND_TO) * ROUND_TO + 1
        ids = torch.full((len(group), width), tokenizer.PAD, dtype=torch.long)
        weight = torch.zeros((len(group), width))
        for row, index in enumerate(group):
            span = slice(self.offsets[index], self.offsets[index + 1])
            length = int(self.lengths[index])
            ids[row, :length] = torch.from_numpy(self.ids[span].astype(np.int64))
            weight[row, :length] = torch.from_numpy(self.learned[span].astype(np.float32))
        return Batch(ids, weight, int(self.lengths[group].sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", choices=list(COUNTS), nargs="+", default=list(COUNTS))
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    for index, (kind, count) in enumerate(COUNTS.items()):
        if kind in options.kinds:
            build(kind, count, options.seed + index)


if __name__ == "__main__":
    main()
