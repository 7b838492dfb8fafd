"""Trains the model: one single-threaded process per core, gradients averaged with gloo.

    python -m recipe.train --tokens 12e6 --decay 0.4

Resumes from `build/NAME.pt` if that exists. The schedule counts tokens, not minutes: a run that turns out slower than
hoped is stopped and resumed with a smaller `--tokens`, and its learning rate then falls earlier. Two single-threaded
ranks beat one process with two threads on small cores. This file does not know what the conversations are about.
"""

import argparse
import datetime
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from recipe import about, induction, paths
from recipe.about import Told
from recipe.dataset import COUNTS, Batch, Conversations
from recipe.model import Config, Model
from recipe.optimiser import Optimiser
from recipe.pointing import HEADS, WEIGHT, Pointed

# Share of tokens by kind (in the order of `dataset.COUNTS`), until this part of the tokens is done.
CURRICULUM = (
    (0.12, (0.20, 0.02, 0.00, 0.58, 0.20, 0.00, 0.00, 0.00, 0.00)),
    (0.40, (0.04, 0.10, 0.08, 0.24, 0.34, 0.18, 0.00, 0.00, 0.02)),
    (0.80, (0.01, 0.14, 0.10, 0.19, 0.23, 0.15, 0.07, 0.07, 0.04)),
    (1.00, (0.05, 0.11, 0.16, 0.19, 0.19, 0.12, 0.07, 0.06, 0.05)),
)
MUON_RATE, ADAM_RATE = 0.006, 2e-3
LOWEST_RATE = 0.02
WARM_UP_STEPS = 40


@dataclass
class Progress:
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    log: list[tuple[int, int, float, float]] = field(default_factory=list)  # step, tokens, seconds, loss


def rate_factor(step: int, tokens: int, total: float, decay: float) -> float:
    """Linear warm-up by steps, then flat, then linear decay over the last part of the tokens."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    left = max(0.0, (total - tokens) / (total * decay))
    return warm * max(LOWEST_RATE, min(1.0, left))


def shares(done: float) -> tuple[float, ...]:
    return next(kinds for until, kinds in CURRICULUM if done <= until or until == 1.0)


def batches(progress: Progress, options: argparse.Namespace, rank: int) -> Iterator[Batch]:
    """Batches by curriculum. A resumed run shuffles anew; it need not repeat the order of an unbroken one."""
    seed = options.seed + 1000 * progress.step  # the same on all ranks: they wait for each other
    kinds = [iter(Conversations(kind, options.batch, seed, rank, options.ranks)) for kind in COUNTS]
    rng = np.random.default_rng(seed)
    while True:
        yield next(kinds[rng.choice(len(kinds), p=shares(progress.tokens / options.tokens))])


def average(model: Model, *numbers: float) -> list[float]:
    """Averages the gradients over the ranks, and sums some numbers on the way.

    Every rank sends the same parts: a batch that asks nothing of the probe gives it no gradient on one rank alone.
    """
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([*(gradient.view(-1) for gradient in gradients), torch.tensor(numbers)])
    dist.all_reduce(flat)
    sums = flat[-len(numbers) :].tolist()
    flat /= dist.get_world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return sums


def save(name: str, model: Model, optimiser: Optimiser, progress: Progress) -> None:
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimiser": optimiser.state(),
        "progress": asdict(progress),
        "config": asdict(model.config),
    }
    path = paths.checkpoint(name)
    unfinished = path.with_suffix(".tmp")
    torch.save(state, unfinished)
    unfinished.replace(path)


def saved(name: str) -> dict[str, Any] | None:
    path = paths.checkpoint(name)
    return torch.load(path, weights_only=True) if path.exists() else None


def resume(state: dict[str, Any] | None, model: Model, optimiser: Optimiser) -> Progress:
    if state is None:
        return Progress()
    model.load_state_dict(state["model"])
    optimiser.load(state["optimiser"])
    return Progress(**state["progress"])


def work(rank: int, options: argparse.Namespace) -> None:
    """One rank's whole training."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    patience = datetime.timedelta(hours=12)  # a rank may be stopped for long while others measure
    dist.init_process_group("gloo", rank=rank, world_size=options.ranks, timeout=patience)
    state = saved(options.name)
    config = Config(**state["config"]) if state else Config()  # a checkpoint goes on in its own shape
    model = Model(config, torch.float32 if options.fp32 else torch.bfloat16)
    induction.build_in(model)
    optimiser = Optimiser(model, options.muon_rate, options.adam_rate, rank, options.ranks)
    progress = resume(state, model, optimiser)
    del state
    if not options.eager:
        model.compile_blocks()
    earlier, started, recent = progress.seconds, time.monotonic(), Recent()
    if rank == 0:
        print(f"{model.size / 1e6:.2f} M parameters, from token {progress.tokens}", flush=True)
    stream = batches(progress, options, rank)
    while progress.tokens < options.tokens:
        factor = rate_factor(progress.step, progress.tokens, options.tokens, options.decay)
        optimiser.zero_grad()
        tokens = 0
        for batch in (next(stream) for _ in range(options.accumulate)):
            loss, heads, told = model.loss(batch.ids, batch.weight, batch.pointing, batch.about)
            looking = torch.stack([head.loss for head in heads]).sum()
            total = loss + options.pointing * looking + options.about * told.loss
            (total / options.accumulate).backward()
            recent.add(loss, heads, told)
            tokens += batch.tokens
        (tokens,) = average(model, float(tokens))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(factor)
        progress.step += 1
        progress.tokens += int(tokens)
        progress.seconds = earlier + time.monotonic() - started
        finished = progress.tokens >= options.tokens
        if rank == 0 and (progress.step % options.log_every == 0 or finished):
            report(progress, options, recent, factor)
            recent = Recent()
        if rank == 0 and (progress.step % options.save_every == 0 or finished):
            save(options.name, model, optimiser, progress)
    dist.barrier()
    dist.destroy_process_group()


@dataclass
class Recent:
    """This rank's batches since the last report: losses, how often each head looked right and could have, and how many
    kinds the probe named rightly and was asked for."""

    losses: list[float] = field(default_factory=list)
    right: list[int] = field(default_factory=lambda: [0] * len(HEADS))
    count: list[int] = field(default_factory=lambda: [0] * len(HEADS))
    named: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, loss: Tensor, heads: list[Pointed], told: Told) -> None:
        self.losses.append(loss.item())
        self.named = [self.named[0] + told.right, self.named[1] + told.count]
        self.right = [sum(pair) for pair in zip(self.right, (head.right for head in heads), strict=True)]
        self.count = [sum(pair) for pair in zip(self.count, (head.count for head in heads), strict=True)]

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)

    @property
    def pointing(self) -> str:
        """The share of replies at whose start each head looked where it should, and of copied tokens."""
        shares = (right / max(1, count) for right, count in zip(self.right, self.count, strict=True))
        return ", ".join(f"{share:.1%}" for share in shares)

    @property
    def about(self) -> str:
        """The share of places whose kind the probe named rightly."""
        return f"{self.named[0] / max(1, self.named[1]):.1%}"


def report(progress: Progress, options: argparse.Namespace, recent: Recent, factor: float) -> None:
    progress.log.append((progress.step, progress.tokens, round(progress.seconds), round(recent.loss, 4)))
    done, speed = progress.tokens / options.tokens, progress.tokens / progress.seconds
    print(
        f"{time.strftime('%H:%M:%S')} step {progress.step}  {progress.tokens / 1e6:.2f} M tokens ({done:.0%})  "
        f"loss {recent.loss:.4f}  pointing {recent.pointing}  about {recent.about}  rate {factor:.3f}  "
        f"{speed:.0f} tokens/s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, default=29e6, help="tokens at the end, all runs together")
    parser.add_argument("--decay", type=float, default=0.7, help="part of the tokens over which the rate falls")
    parser.add_argument("--batch", type=int, default=2048, help="tokens of one rank's batch")
    parser.add_argument("--accumulate", type=int, default=2, help="batches of one rank between two steps")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--name", default="model", help="the checkpoint's name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--muon-rate", type=float, default=MUON_RATE)
    parser.add_argument("--adam-rate", type=float, default=ADAM_RATE)
    parser.add_argument("--pointing", type=float, default=WEIGHT, help="weight of each pointing head's loss; 0: none")
    parser.add_argument("--about", type=float, default=about.WEIGHT, help="weight of the probe's loss; 0: none")
    parser.add_argument("--fp32", action="store_true", help="no bfloat16: for a CPU without AVX512-BF16")
    parser.add_argument("--eager", action="store_true", help="no torch.compile: for a machine without a C++ compiler")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=40)
    parser.add_argument("--port", type=int, default=29577)
    options = parser.parse_args()
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(options.port)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "4096"  # batches have many shapes; at 1024 kernels are made anew
    mp.spawn(work, (options,), nprocs=options.ranks)


if __name__ == "__main__":
    main()
