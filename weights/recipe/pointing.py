"""Teaches three attention heads where to look: the supervision of `docs/decisions/0003-supervised-pointing.md`.

The generator knows which line of the prompt a reply is taken from (`sources.py`). Here that becomes token positions,
and a loss: the cross-entropy of a head's attention against the stretch that it should look at. One head learns to look
at the line that decides the reply, another at the first token of the value in it. Where nothing is to be found both
are to look at the first token. The third, in the last layer, goes through the value with the reply: before each token
it looks at that very token in the prompt, since of the digits of a price the one before tells little of the next. The
heads stay ordinary heads of the model; nothing of this is exported.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recipe.sources import NOWHERE, Pointer, Span
from recipe.tokenizer import Encoded

HEADS = ((3, 0), (4, 0), (5, 0))  # layer and head that look at the line, at the value, and at its next token
COPYING = 2  # the last of them
WEIGHT = 0.5  # of each head's loss beside that of the language model
FIRST = 4.0  # how much more the first token of a reply counts: there it is decided what the reply is about
HALF = math.log(0.5)
UNKNOWN, FIRST_TOKEN = (0, 0), (0, 1)  # as stretches of tokens


@dataclass(frozen=True)
class Pointed:
    """How a head did in a batch: the mean loss, and at how many of the places that count it looked mostly where it
    should."""

    loss: Tensor
    right: int
    count: int


def stretch(encoded: Encoded, span: Span | None) -> tuple[int, int]:
    """The tokens that overlap a span, as start and end."""
    if span is None:
        return UNKNOWN
    if span == NOWHERE:
        return FIRST_TOKEN
    starts, ends = encoded.starts[span.message], encoded.ends[span.message]
    first = encoded.first[span.message]
    return first + bisect_right(ends, span.start), first + bisect_left(starts, span.end)


def labels(encoded: Encoded, pointers: Sequence[Pointer]) -> np.ndarray:
    """[tokens, heads, 2]: the stretch that each head should look at from each position, (0, 0) where that is open.

    A label stands at the position that predicts a token of the reply, which is the one before it.
    """
    found = np.zeros((len(encoded.ids), len(HEADS), 2), np.uint16)
    for pointer in pointers:
        start, end = stretch(encoded, Span(pointer.reply, pointer.start, pointer.end))
        found[start - 1 : end - 1, 0] = stretch(encoded, pointer.line)
        first, last = stretch(encoded, pointer.value)
        found[start - 1 : end - 1, 1] = first, min(last, first + 1)
        for position, source in copied(encoded, pointer):
            found[position, COPYING] = source, source + 1
    return found


def copied(encoded: Encoded, pointer: Pointer) -> Iterator[tuple[int, int]]:
    """For each token of a value in a reply, the position that predicts it and the position of the same token in the
    source. Where reply and source cut the value differently there is no such token, but for the value's first one."""
    value, begins = pointer.value, pointer.end - 1
    if value is None or value == NOWHERE:
        return
    starts, ends = encoded.starts[pointer.reply], encoded.ends[pointer.reply]
    first = token = bisect_right(ends, begins)
    while token < len(starts) and (at := max(starts[token] - begins, 0) + value.start) < value.end:
        here = encoded.first[pointer.reply] + token
        source = encoded.first[value.message] + bisect_right(encoded.ends[value.message], at)
        if token == first or encoded.ids[here] == encoded.ids[source]:
            yield here - 1, source
        token += 1


def pointed(query: Tensor, key: Tensor, wanted: Tensor, first: Tensor) -> Pointed:
    """How well one head looks where it should.

    `query` and `key` are [rows, length, width], the query scaled as for attention; `wanted` is [rows, length, 2] and
    `first` [rows, length], true at the places that count more and are counted: where a reply's first token is
    predicted. Only labelled positions are computed, and each sees no further than itself.
    """
    loss, total, right, count = query.new_zeros((), dtype=torch.float32), 0.0, 0, 0
    places = torch.arange(query.shape[1])
    for row in range(query.shape[0]):
        at = wanted[row, :, 1].nonzero()[:, 0]
        if not len(at):
            continue
        scores = (query[row, at] @ key[row].T).float().masked_fill(places > at[:, None], -torch.inf)
        start, end = wanted[row, at, :1], wanted[row, at, 1:]
        inside = scores.masked_fill((places < start) | (places >= end), -torch.inf)
        likelihood = inside.logsumexp(-1) - scores.logsumexp(-1)
        opening = first[row, at]
        weights = torch.where(opening, FIRST, 1.0)
        loss, total = loss - (likelihood * weights).sum(), total + float(weights.sum())
        right, count = right + int((likelihood[opening] > HALF).sum()), count + int(opening.sum())
    return Pointed(loss / max(total, 1.0), right, count)
