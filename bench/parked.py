"""What a conversation costs that returns after others have taken its place: computed again, from memory, from disk.

    python bench/parked.py MODEL.gguf [--tokens 800] [--rounds 5] [--markdown FILE]

One slot, f16 KV. A conversation of so many tokens is computed, another one takes its slot, the first returns with 20
new tokens: time to its next token, without parking (computed), with parking (memory), and after a stop and a new start
of the engine (disk; the start itself is not counted). The three ways are measured one after the other in every round,
so that a busy machine slows all of them; read the ratios. Saving and restoring alone are timed as well. The tokens are
random: nothing here depends on what they say.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from frontdesk.config import engine_environment
from frontdesk.engine.batch import Batch, Chunk, Drop, Park, Restore, Trim
from frontdesk.engine.request import SamplingParams
from frontdesk.engine.sequence import Sequence
from frontdesk.errors import FrontdeskError
from frontdesk.llamacpp.library import ContextPlan, open_model
from frontdesk.llamacpp.runner import LlamaRunner
from frontdesk.worker.client import EngineClient
from frontdesk.worker.machine import usable_cores
from frontdesk.worker.protocol import Load, SequenceOutput

GREEDY = SamplingParams(0, 0, 1, 0, 1, 0, 0, 1, 0, (), 0)
NEW, ANSWER = 20, 4  # tokens
GIB = 2**30


def tokens(seed: int, count: int) -> tuple[int, ...]:
    numbers = random.Random(seed)
    return tuple(numbers.randrange(300, 2000) for _ in range(count))


async def ask(engine: EngineClient, prompt: tuple[int, ...]) -> tuple[float, list[int], int]:
    """Seconds to the first token, the tokens, and how many of the prompt were not computed."""
    begun, over = perf_counter(), asyncio.Event()
    first, cached, said = 0.0, 0, list[int]()

    def hear(output: SequenceOutput) -> None:
        nonlocal first, cached
        first = first or perf_counter() - begun
        cached = max(cached, output.cached)
        said.extend(output.tokens)
        if output.finish:
            over.set()

    def fail(error: FrontdeskError) -> None:
        raise error

    engine.submit(
        prompt, sampling=GREEDY, max_tokens=ANSWER, stop_tokens=(), top_logprobs=-1, tenant=0,
        on_output=hear, on_failed=fail,
    )  # fmt: skip
    await over.wait()
    return first, said, cached


def load(model: str, window: int, *, parked: bool, shelf: str = "") -> Load:
    cores = usable_cores()
    return Load(
        model, window, window, slots=1, threads=cores, threads_least=cores, chunk=512, chunk_busy=128,
        parked_bytes=GIB if parked else 0, shelf=shelf, shelf_bytes=GIB,
    )  # fmt: skip


async def started(plan: Load) -> EngineClient:
    engine = EngineClient(plan, engine_environment())
    await engine.start()
    return engine


async def returning(model: str, length: int, rounds: int) -> dict[str, list[float]]:
    """Seconds to the first token of a returning conversation, in each round, by way."""
    found: dict[str, list[float]] = {"computed": [], "memory": [], "disk": []}
    window = length + 256
    with tempfile.TemporaryDirectory() as folder:
        plans = {"computed": load(model, window, parked=False), "memory": load(model, window, parked=True)}
        on_disk = load(model, window, parked=True, shelf=folder)
        engines = {way: await started(plan) for way, plan in plans.items()}
        try:
            for number in range(rounds):
                prompt, other = tokens(number, length), tokens(10_000 + number, 64)
                for way, engine in engines.items():
                    _, said, _ = await ask(engine, prompt)
                    await ask(engine, other)
                    first, _, cached = await ask(engine, (*prompt, *said, *tokens(number + 500, NEW)))
                    assert (cached > length / 2) == (way == "memory")
                    found[way].append(first)
                engine = await started(on_disk)
                _, said, _ = await ask(engine, prompt)
                await engine.close()
                engine = await started(on_disk)
                await ask(engine, other)
                first, _, cached = await ask(engine, (*prompt, *said, *tokens(number + 500, NEW)))
                await engine.close()
                assert cached > length / 2
                found["disk"].append(first)
                print(f"  round {number + 1} of {rounds}: " + ", ".join(f"{k} {v[-1]:.3f} s" for k, v in found.items()))
        finally:
            for engine in engines.values():
                await engine.close()
    return found


def saving(model: str, length: int, rounds: int) -> dict[str, float]:
    """Milliseconds to save and to restore a slot of so many tokens, and the bytes of a token."""
    cores = usable_cores()
    plan = ContextPlan(length + 256, 1, 512, cores, cores, "f16", False, False)
    runner = LlamaRunner(open_model(model, lambda _: None), plan)
    _, each = runner.state_bytes()
    prompt = list(tokens(1, length))
    sequence = Sequence(0, prompt, length, 1, length + 256, frozenset(), GREEDY, slot=0)
    for begin in range(0, length, 256):
        runner.execute(Batch(chunks=[Chunk(sequence, 0, begin, prompt[begin : begin + 256], False)]))
    saved, restored = [], []
    for handle in range(1, rounds + 1):
        saved.append(_seconds(lambda handle=handle: runner.execute(Batch(ops=[Park(0, handle)]))))
        runner.execute(Batch(ops=[Trim(0, 0)]))
        restored.append(_seconds(lambda handle=handle: runner.execute(Batch(ops=[Restore(handle, 0, length)]))))
        runner.execute(Batch(ops=[Drop(handle)]))
    runner.close()
    return {"save": 1e3 * statistics.median(saved), "restore": 1e3 * statistics.median(restored), "bytes": each}


def _seconds(work: Callable[[], object]) -> float:
    begun = perf_counter()
    work()
    return perf_counter() - begun


def report(name: str, length: int, found: dict[str, list[float]], costs: dict[str, float]) -> str:
    lines = [
        f"{name}, a conversation of {length} tokens that returns with {NEW} new ones, {len(found['disk'])} rounds",
        "",
        "| | first token, median (s) | of computing it again, median of the rounds (range) |",
        "|---|---|---|",
    ]
    for way, seconds in found.items():
        ratios = [a / b for a, b in zip(seconds, found["computed"], strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        lines.append(f"| {way} | {statistics.median(seconds):.3f} | {spread} |")
    lines += [
        "",
        f"Saving a slot takes {costs['save']:.2f} ms, restoring it {costs['restore']:.2f} ms; "
        f"a token takes {costs['bytes']:.0f} bytes.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="file for the result")
    given = parser.parse_args()
    costs = saving(given.model, given.tokens, 5 * given.rounds)
    found = asyncio.run(returning(given.model, given.tokens, given.rounds))
    text = report(Path(given.model).name, given.tokens, found, costs)
    print(text)
    if given.markdown:
        given.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
