"""Causal attention for training on a CPU: batched matrix products over blocks of queries.

PyTorch's fused attention computes at about 40 GFLOP/s on one AVX-512 core where its bfloat16 matrix products reach 200,
and half of a training step went into it. Here each block of queries meets only the keys up to its end, so that
half of the square is never computed. The probabilities of the forward pass are kept for the backward one: 2 bytes for
each query, key and head, which is cheap for the lengths trained on. This file knows nothing about models.
"""

from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # queries; a block's scores stay in the second-level cache
LONG, LONG_BLOCK = 1024, 256
MASK = torch.ones(LONG_BLOCK, LONG_BLOCK, dtype=torch.bool).triu(1)
NEVER = -30000.0


def scores_gradient(probabilities: Tensor, gradient: Tensor, correction: Tensor) -> Tensor:
    """The gradient of a softmax's input."""
    return (probabilities.float() * (gradient.float() - correction)).to(probabilities.dtype)


def blocks(length: int) -> list[tuple[int, int]]:
    step = BLOCK if length <= LONG else LONG_BLOCK
    return [(start, min(start + step, length)) for start in range(0, length, step)]


class CausalAttention(torch.autograd.Function):
    """`query` is [groups, heads of a group, length, width] and scaled; `key`, `value` are [groups, length, width]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        groups, heads, length, width = query.shape
        output, kept = torch.empty_like(query), []
        keys = key.transpose(1, 2)
        for start, end in blocks(length):
            rows = end - start
            part = query[:, :, start:end].reshape(groups, heads * rows, width)
            scores = torch.bmm(part, keys[:, :, :end])
            scores.view(groups, heads, rows, end)[..., start:end].masked_fill_(MASK[:rows, :rows], NEVER)
            probabilities = torch.softmax(scores, -1)
            output[:, :, start:end] = torch.bmm(probabilities, value[:, :end]).view(groups, heads, rows, width)
            kept.append(probabilities)
        ctx.save_for_backward(query, key, value, output, *kept)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,) = gradients
        query, key, value, output, *kept = ctx.saved_tensors
        groups, heads, length, width = query.shape
        of_query = torch.empty_like(query)
        of_key = torch.zeros(groups, length, width, dtype=torch.float32)
        of_value = torch.zeros_like(of_key)
        correction = (gradient.float() * output.float()).sum(-1)
        values = value.transpose(1, 2)
        for (start, end), probabilities in zip(blocks(length), kept, strict=True):
            rows = end - start
            part = query[:, :, start:end].reshape(groups, heads * rows, width)
            incoming = gradient[:, :, start:end].reshape(groups, heads * rows, width)
            of_value[:, :end] += torch.bmm(probabilities.transpose(1, 2), incoming)
            of_probabilities = torch.bmm(incoming, values[:, :, :end])
            of_scores = scores_gradient(
                probabilities, of_probabilities, correction[:, :, start:end].reshape(groups, heads * rows, 1)
            )
            of_query[:, :, start:end] = torch.bmm(of_scores, key[:, :end]).view(groups, heads, rows, width)
            of_key[:, :end] += torch.bmm(of_scores.transpose(1, 2), part)
        return of_query, of_key.to(query.dtype), of_value.to(query.dtype)
