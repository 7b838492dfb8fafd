"""Replaces a checkpoint's weights by the mean of several: what falling rates do, without waiting for them.

    python -m recipe.average build/a.pt build/b.pt build/c.pt             equal shares, into build/model.pt
    python -m recipe.average build/before.pt build/now.pt --shares 0.3 0.7

Only checkpoints of one training line can be averaged; those of two that began apart give a model of neither. Optimiser
and progress are the last file's, so that training goes on from there.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from recipe import paths


def average(states: list[dict[str, Any]], shares: list[float]) -> dict[str, Any]:
    """The last state with the weighted mean of all weights; the shares add up to 1."""
    if len(states) != len(shares):
        raise ValueError(f"{len(shares)} shares for {len(states)} checkpoints")
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"the shares add up to {sum(shares)}, not to 1")
    models = [state["model"] for state in states]
    mean = {name: sum(share * model[name] for share, model in zip(shares, models, strict=True)) for name in models[-1]}
    return states[-1] | {"model": mean}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", help="of each checkpoint, adding up to 1; equal if absent")
    parser.add_argument("--name", default="model", help="the name of the checkpoint to write")
    options = parser.parse_args()
    states = [torch.load(path, weights_only=True) for path in options.checkpoints]
    shares = options.shares or [1 / len(states)] * len(states)
    torch.save(average(states, shares), paths.checkpoint(options.name))
    print(f"{paths.checkpoint(options.name).name}: the mean of {len(states)} checkpoints")


if __name__ == "__main__":
    main()
