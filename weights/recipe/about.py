"""Teaches the middle of the model what a question and a line of the prompt are about.

A linear probe reads the residual stream between two layers and has to name the kind (the fact that is asked for or
stated, a product, small talk, ...): where a reply, or a part of one, begins, and where a line of the prompt ends. What
a probe can read, the pointing heads behind it (`pointing.py`) can match. The probe is thrown away after training; a
classifier of words alone tells 95 % of the held-out questions apart, so what it asks for is in the data.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from recipe import choices
from recipe.generator import Conversation
from recipe.pointing import stretch
from recipe.sources import Span
from recipe.tokenizer import Encoded
from recipe.words import facts, load

LAYER = 3  # the probe reads what this layer is given
WEIGHT = 0.3  # of the probe's loss beside that of the language model
UNKNOWN = 0
SUBJECTS = (
    "topic", "product", "hours", "payments", "shipping", "order", "order number", "shop", "told", "asked", "option",
    "tool", "argument", "result",
)  # fmt: skip
REPLIES = tuple(f"reply {name}" for name in load("replies") if name != "signs")
KINDS = ("", *facts(), *SUBJECTS, *REPLIES, *choices.kinds())
NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Told:
    """How the probe did in a batch: the mean loss, and how many of the places it named rightly."""

    loss: Tensor
    right: int
    count: int


def labels(encoded: Encoded, conversation: Conversation) -> np.ndarray:
    """[tokens]: the number of the kind that the probe should name at each position, `UNKNOWN` where nobody asks.

    A part of a reply is labelled at the position that predicts its first token, a line at its last token.
    """
    found = np.zeros(len(encoded.ids), np.uint8)
    for span, kind in conversation.lines:
        found[stretch(encoded, span)[1] - 1] = NUMBERS[kind]
    for pointer in conversation.pointers:
        if pointer.about:
            start, _ = stretch(encoded, Span(pointer.reply, pointer.start, pointer.start + 1))
            found[start - 1] = NUMBERS[pointer.about]
    return found


def told(stream: Tensor, probe: Tensor, wanted: Tensor) -> Told:
    """`stream` is [rows, length, width], `probe` [kinds, width], `wanted` [rows, length] as `labels` gives it."""
    asked = wanted > UNKNOWN
    if not asked.any():
        return Told(stream.new_zeros(()), 0, 0)
    seen = functional.rms_norm(stream[asked].float(), stream.shape[-1:])
    logits, right = functional.linear(seen, probe), wanted[asked]
    return Told(functional.cross_entropy(logits, right), int((logits.argmax(-1) == right).sum()), len(right))
