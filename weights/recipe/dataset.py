"""Generates and encodes the training conversations of each kind, and serves them as batches of like length.

    python -m recipe.dataset

There are nine kinds: drills, choices, tools and summaries by themselves (a letter or a name is few tokens, which would
drown among sentences), conversations of the generator's levels 0 (short prompts) to 3 (long ones), and dialogues:
dozens of turns that fill the context, so that what was said at the beginning is still found at the end of it.
A data file holds all conversations of one kind end to end, with offsets. This file does not know the model.
"""

import argparse
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from recipe import about, paths, pointing, tokenizer
from recipe.drills import drill
from recipe.generator import Conversation, Form, sample
from recipe.world import World

COUNTS = {  # conversations of each kind
    "drill": 12000, "choices": 16000, "tools": 8000, "short": 20000, "usual": 18000, "large": 10000, "long": 3500,
    "dialogue": 2000, "summaries": 6000,
}  # fmt: skip
LEVELS = {"choices": 0, "tools": 0, "short": 0, "usual": 1, "large": 2, "long": 3, "dialogue": 1, "summaries": 0}
TURNS = {"usual": (8, 24), "large": (12, 36), "long": (16, 40), "dialogue": (25, 70)}  # the longer a prompt, the more
FORMS: dict[str, Form] = {"choices": "choices", "tools": "tools", "dialogue": "plain", "summaries": "transcript"}
LONGEST = 4000  # tokens; the few longer conversations are left out
ROUND_TO = 32  # batch widths are multiples of this, so that few shapes occur
POOL = 2000  # conversations sorted by length together


@dataclass(frozen=True)
class Batch:
    """`weight` is above 0 where a token is to be predicted; `pointing` is where the heads should look from each
    position (`pointing.labels`), `about` what the probe should name there (`about.labels`); `tokens` counts the real
    tokens, without padding."""

    ids: torch.Tensor
    weight: torch.Tensor
    pointing: torch.Tensor
    about: torch.Tensor
    tokens: int


def words(vocabulary: Iterable[str]) -> list[str]:
    """The pieces of a vocabulary that are letters alone, without a space before them."""
    return sorted(piece for piece in vocabulary if len(piece) > 1 and piece.isascii() and piece.isalpha())


def drawn(rng: random.Random, kind: str, pieces: Sequence[str]) -> Conversation:
    """A conversation; a drill's has nothing but its messages and what they are taken from."""
    if kind == "drill":
        messages, pointers = drill(rng, "train", pieces)
        return Conversation(messages, [], World(), pointers=pointers)
    turns = rng.randint(*TURNS[kind]) if kind in TURNS else None
    return sample(rng, "train", LEVELS[kind], turns, FORMS.get(kind))


def build(kind: str, count: int, seed: int) -> None:
    """Writes the data file of one kind."""
    rng, bpe = random.Random(seed), tokenizer.load()
    pieces = words(bpe.get_vocab())
    ids, learned, looks, kinds, offsets = [], [], [], [], [0]
    for _ in tqdm(range(count), desc=kind, mininterval=5):
        conversation = drawn(rng, kind, pieces)
        encoded = tokenizer.encode(bpe, conversation.messages)
        if len(encoded.ids) > LONGEST:
            continue
        ids.append(np.array(encoded.ids, np.uint16))
        learned.append(np.array(encoded.learned, np.uint8))
        looks.append(pointing.labels(encoded, conversation.pointers))
        kinds.append(about.labels(encoded, conversation))
        offsets.append(offsets[-1] + len(encoded.ids))
    path = paths.dataset(kind)
    unfinished = path.with_suffix(".tmp.npz")
    np.savez(
        unfinished,
        ids=np.concatenate(ids),
        learned=np.concatenate(learned),
        pointing=np.concatenate(looks),
        about=np.concatenate(kinds),
        offsets=np.array(offsets),
    )
    unfinished.replace(path)
    share = float((np.concatenate(learned) > 0).mean())
    print(f"{path.name}: {offsets[-1] / 1e6:.2f} M tokens, {offsets[-1] / count:.0f} each, {share:.0%} the assistant's")


class Conversations:
    """The conversations of one kind, grouped into batches of at most `budget` tokens (padding included).

    Ranks with the same seed share them out: at the same time each gets another batch of nearly the same length, since
    between two steps the faster one waits.
    """

    def __init__(self, kind: str, budget: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        data = np.load(paths.dataset(kind))
        self.ids, self.learned, self.offsets = data["ids"], data["learned"], data["offsets"]
        self.pointing, self.about = data["pointing"], data["about"]
        self.lengths = np.diff(self.offsets)
        self.budget, self.rank, self.ranks = budget, rank, ranks
        self.rng = np.random.default_rng(seed)
        if ranks > 1 and self.lengths[:POOL].sum() < ranks * budget:
            raise ValueError(f"{kind}: too few conversations for {ranks} batches of {budget} tokens")

    def __iter__(self) -> Iterator[Batch]:
        while True:
            order = self.rng.permutation(len(self.lengths))
            for start in range(0, len(order), POOL):
                pool = order[start : start + POOL]
                groups = self.group(pool[np.argsort(self.lengths[pool], kind="stable")])
                rounds, over = divmod(len(groups), self.ranks)
                first = self.rng.integers(over + 1) + self.rank
                for index in self.rng.permutation(rounds):
                    yield self.batch(groups[first + index * self.ranks])

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
        looks = torch.zeros((len(group), width, *self.pointing.shape[1:]), dtype=torch.long)
        kinds = torch.full((len(group), width), about.UNKNOWN, dtype=torch.long)
        for row, index in enumerate(group):
            span = slice(self.offsets[index], self.offsets[index + 1])
            length = int(self.lengths[index])
            ids[row, :length] = torch.from_numpy(self.ids[span].astype(np.int64))
            weight[row, :length] = torch.from_numpy(self.learned[span].astype(np.float32))
            looks[row, :length] = torch.from_numpy(self.pointing[span].astype(np.int64))
            kinds[row, :length] = torch.from_numpy(self.about[span].astype(np.int64))
        return Batch(ids, weight, looks, kinds, int(self.lengths[group].sum()))


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
