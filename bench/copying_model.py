"""Weights that copy: a model of a real shape that repeats what stands in its prompt, and sometimes says something else.

Text of random weights cannot be guessed, so nothing that guesses (drafts from the prompt) can be measured with it. Here
the first three layers are made by hand, and the others, which cost what they always cost, write nothing:

1. three heads that look one, two and three tokens back leave every position with the codes of the tokens before it;
2. an induction head looks for the place that came after the same three tokens, and says what stands there;
3. for some tokens, a head that looks at itself says another token instead, fixed once and for all: `BREAKS` of the
   tokens leave the copied text, and go on through tokens that no prompt of these benchmarks holds, for about `AWAY`
   tokens. So 60 to 70 % of a greedy reply is copied, in runs of about 25 tokens.

Codes are random directions, kept in blocks of the residual stream: what a token is (also what is said, since
embeddings are tied), what the one before it was, what it says instead, what it says when it is copied, and what the
second and third before it were. One more direction is constant and large, so that RMS norms scale all tokens alike;
another is larger still in control tokens, which leaves next to nothing of them for the induction head to find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from make_model import Shape

Weights = NDArray[np.float32]
Patch = Callable[[Weights], Weights]

RARE: Final = frozenset("qxzj")  # letters that prompts to be copied do not hold
BREAKS: Final = 1 / 25
AWAY: Final = 15
BALLAST: Final = 3.0
HEAVY: Final = 60.0  # of control tokens
SHARP: Final = 14.0  # of the heads that look at a fixed distance
MATCH: Final = 5.0  # of the induction head
BEFORE: Final = 0.8  # how much the tokens before the current one count in it, each
COPIED, INSTEAD = 4.0, 16.0  # how loud each is; a token itself is 1
ROPE_BASE: Final = 1e12  # larger than the real models': more rotations are slow
SLOW: Final = 0.3125  # of the rotations; those behind turn little within thousands of tokens


class Copying:
    """`patch` takes a tensor of random weights by its name and gives the one that copies."""

    def __init__(self, shape: Shape, texts: Sequence[str], normal: Sequence[bool], rng: np.random.Generator) -> None:
        """`normal`: which tokens are text. Raises ValueError for a shape that is too small."""
        self._shape = shape
        self._size = min(shape.head, (shape.width - 2) // 6)
        if shape.layers < 3 or self._size < 32 or shape.heads < 3 * shape.kv_heads:
            raise ValueError("a model that copies needs three layers, three heads for each key and a width of 194")
        self._slow = [pair for pair in range(shape.head // 2) if pair >= SLOW * shape.head / 2]
        self._codes = self._make_codes(len(texts), rng)
        self._next = _instead(texts, normal, rng)
        self._normal = np.asarray(normal)
        self._patches: dict[str, Patch] = {
            "token_embd.weight": self._embeddings,
            "output_norm.weight": self._output_norm,
            **self._fixed_heads(0, {1: 1, 2: 4, 3: 5}, reads=0, loud=1.0 / self._scale(1.0)),
            **self._induction_head(1),
            **self._fixed_heads(2, {0: 0}, reads=2, loud=INSTEAD / self._scale(COPIED)),
        }

    def patch(self, name: str, values: Weights) -> Weights:
        if made := self._patches.get(name):
            return made(values)
        writes = name.endswith(("attn_output.weight", "ffn_down.weight"))
        return np.zeros_like(values) if writes else values

    def _block(self, number: int) -> slice:
        return slice(number * self._size, (number + 1) * self._size)

    def _scale(self, loudest: float) -> float:
        """What an RMS norm multiplies by, about, where the loudest block has this length."""
        return float(np.sqrt(self._shape.width / (BALLAST**2 + loudest**2 + 1)))

    def _make_codes(self, count: int, rng: np.random.Generator) -> Weights:
        """Unit vectors; the part by which the induction head knows them has the same length in all."""
        found = rng.standard_normal((count, self._size), dtype=np.float32)
        known = 2 * len(self._slow)
        share = known / self._size
        found[:, :known] *= np.sqrt(share) / np.linalg.norm(found[:, :known], axis=1, keepdims=True)
        found[:, known:] *= np.sqrt(1 - share) / np.linalg.norm(found[:, known:], axis=1, keepdims=True)
        return found

    def _embeddings(self, values: Weights) -> Weights:
        made = np.zeros_like(values)
        made[:, self._block(0)] = self._codes
        made[:, self._block(2)] = np.where(self._next[:, None] >= 0, self._codes[self._next], 0)
        made[:, self._block(3)] = np.where(self._normal[:, None], self._codes, 0)
        made[:, -1] = BALLAST
        made[~self._normal, -2] = HEAVY
        return made

    def _output_norm(self, values: Weights) -> Weights:
        """Only what a token is may be said."""
        made = np.zeros_like(values)
        made[self._block(0)] = 1.0
        return made

    def _fixed_heads(self, layer: int, writes: dict[int, int], *, reads: int, loud: float) -> dict[str, Patch]:
        """A head for each entry: how many tokens it looks back, wherever it is, and the block it writes what it reads
        there to. Queries and keys are constant, RoPE does the rest."""
        half = self._shape.head // 2
        speeds = ROPE_BASE ** (-np.arange(half) / half)

        def bias(backs: Sequence[int]) -> Patch:
            turns = [-back * speeds for back in backs]
            lines = [SHARP * part for turn in turns for part in (np.cos(turn), np.sin(turn))]

            def made(values: Weights) -> Weights:
                found = np.zeros_like(values)
                found[: len(backs) * self._shape.head] = np.concatenate(lines)
                return found

            return made

        name = f"blk.{layer}.attn_"
        return {
            name + "q.weight": np.zeros_like,
            name + "k.weight": np.zeros_like,
            name + "q.bias": bias(list(writes)),
            name + "k.bias": bias([0]),
            **self._reading(name, reads, list(writes.values()), loud),
        }

    def _induction_head(self, layer: int) -> dict[str, Patch]:
        """The current token and, with less weight and each in an order of its own, the two before it."""
        half = self._shape.head // 2
        known = [*self._slow, *(pair + half for pair in self._slow)]

        def looking(block: int, second: int, third: int) -> Patch:
            def made(values: Weights) -> Weights:
                found = np.zeros_like(values)
                for i, line in enumerate(known):
                    found[line, block * self._size + i] = MATCH
                    found[line, second * self._size + len(known) - 1 - i] = BEFORE * MATCH
                    found[line, third * self._size + (i + len(known) // 2) % len(known)] = BEFORE * MATCH
                return found

            return made

        name = f"blk.{layer}.attn_"
        return {
            name + "q.weight": looking(0, 1, 4),
            name + "k.weight": looking(1, 4, 5),
            name + "q.bias": np.zeros_like,
            name + "k.bias": np.zeros_like,
            **self._reading(name, 3, [0], COPIED / self._scale(1.5)),
        }

    def _reading(self, name: str, reads: int, writes: Sequence[int], loud: float) -> dict[str, Patch]:
        """The first heads carry one block to others; the other heads write nothing."""
        lines = np.arange(self._size)

        def values_of(values: Weights) -> Weights:
            found = np.zeros_like(values)
            found[lines, lines + reads * self._size] = 1.0
            return found

        def output(values: Weights) -> Weights:
            found = np.zeros_like(values)
            for head, block in enumerate(writes):
                found[lines + block * self._size, lines + head * self._shape.head] = loud
            return found

        return {name + "v.weight": values_of, name + "v.bias": np.zeros_like, name + "output.weight": output}


def _instead(texts: Sequence[str], normal: Sequence[bool], rng: np.random.Generator) -> NDArray[np.int64]:
    """Which token is said after each, whatever stands in the prompt; -1 where the prompt decides."""
    common = np.array([i for i, text in enumerate(texts) if normal[i] and len(text) > 1 and not RARE & set(text)])
    rare = np.array([i for i, text in enumerate(texts) if normal[i] and len(text) > 1 and RARE & set(text)])
    found = np.full(len(texts), -1, dtype=np.int64)
    leaving = rng.choice(common, round(BREAKS * len(common)), replace=False)
    found[leaving] = rng.choice(rare, len(leaving))
    found[rare] = np.where(rng.random(len(rare)) < 1 / AWAY, rng.choice(common, len(rare)), rng.choice(rare, len(rare)))
    return found
