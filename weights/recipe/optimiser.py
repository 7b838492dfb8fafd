"""Muon for the matrices of the blocks, AdamW for the embedding, the norms and the probe.

Muon replaces a matrix's momentum by the nearest orthogonal matrix (a few Newton-Schulz steps), which on so few tokens
learns markedly faster than AdamW. This file knows parameters and gradients only.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

EMBEDDING_RATE = 5.0  # times the rate of the norms: the embedding's numbers are that much larger than is usual
# Coefficients of the successive Newton-Schulz steps: each one suits the singular values the one before leaves.
STEPS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Computed in bfloat16: the steps forgive its rounding, and a CPU with AVX512-BF16 does them twice as fast."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for a, b, c in STEPS:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


class Optimiser:
    """One learning-rate factor in [0, 1] drives all parts. Among several ranks each orthogonalises its share of the
    matrices; the gradients must already be the same on all."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, rank: int = 0, ranks: int = 1) -> None:
        named = list(model.named_parameters())
        self.matrices = [p for name, p in named if p.ndim == 2 and not name.startswith(("embedding", "about"))]
        embedding = [p for name, p in named if name.startswith("embedding")]
        rest = [p for name, p in named if p.ndim != 2 or name.startswith("about")]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.rates = (EMBEDDING_RATE * adam_rate, adam_rate)
        groups = [{"params": embedding}, {"params": rest}]
        self.adam = torch.optim.AdamW(groups, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.muon_rate = muon_rate
        self.momentum, self.decay = 0.95, 0.05
        self.rank, self.ranks = rank, ranks

    @torch.no_grad()
    def step(self, factor: float) -> None:
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.adam.step()
        rate = self.muon_rate * factor
        for matrix, update in zip(self.matrices, self.updates(), strict=True):
            matrix.mul_(1 - rate * self.decay)
            matrix.add_(update, alpha=-rate * 0.2 * math.sqrt(max(matrix.shape)))

    def updates(self) -> list[Tensor]:
        updates = []
        for index, (matrix, momentum) in enumerate(zip(self.matrices, self.momenta, strict=True)):
            assert matrix.grad is not None
            momentum.lerp_(matrix.grad, 1 - self.momentum)
            mine = index % self.ranks == self.rank
            updates.append(
                orthogonalised(matrix.grad.lerp(momentum, self.momentum)) if mine else torch.zeros_like(matrix)
            )
        if self.ranks > 1:
            flat = torch.cat([update.view(-1) for update in updates])
            dist.all_reduce(flat)  # all but one rank's share are zeros
            updates = [
                part.view_as(p) for part, p in zip(flat.split([p.numel() for p in updates]), updates, strict=True)
            ]
        return updates

    def zero_grad(self) -> None:
        self.adam.zero_grad(set_to_none=True)
        for matrix in self.matrices:
            matrix.grad = None

    def state(self) -> dict[str, Any]:
        return {"momenta": self.momenta, "adam": self.adam.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.momenta = [momentum.clone() for momentum in state["momenta"]]
        self.adam.load_state_dict(state["adam"])
