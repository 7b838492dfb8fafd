"""What a long prompt does to streams that are running, and how soon its slot is free when it is cancelled.

    python bench/stall.py --url http://127.0.0.1:8000 --prompt-tokens 1500

Four streams run; a long prompt arrives. Then the same again, but the long request's socket is closed in the middle of
its prefill, and `/readyz` is asked every few milliseconds until the engine counts four running requests again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from report import percentile, show, spread
from sized_prompts import Prompts, calibrate
from sse_client import Answer, Client

RUNNING = 4
SETTLE = 8  # frames that every stream has sent before the long prompt comes
POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Stall:
    """Milliseconds. `quiet_*` are gaps of the running streams before the long prompt came, `worst_gap` while it was
    prefilled; `frames` is how many frames the running streams got meanwhile."""

    prompt_tokens: int
    first: float
    quiet_p50: float
    quiet_p99: float
    worst_gap: float
    median_gap: float
    frames: int


class Crowd:
    """Streams that run until the block ends, and the time of each frame as it comes."""

    def __init__(self, answers: list[Answer | None]) -> None:
        self.answers = answers

    def gaps(self, begin: float, end: float) -> list[float]:
        """Milliseconds between neighbouring frames of one stream, where any part lies between the two times."""
        found = []
        for answer in self.answers:
            times = [when for when, _ in answer.lines] if answer else []
            found += [1000 * (b - a) for a, b in pairwise(times) if b > begin and a < end]
        return found

    async def settled(self, frames: int = SETTLE) -> None:
        while not all(a and len(a.lines) > frames for a in self.answers):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def crowd(client: Client, prompts: Prompts, rng: random.Random, tokens: int) -> AsyncIterator[Crowd]:
    """`RUNNING` streams with short prompts that have all begun to write."""
    running = Crowd([None] * RUNNING)

    async def stream(i: int) -> None:
        def seen(answer: Answer) -> None:
            running.answers[i] = answer

        answer = await client.chat(prompts.messages(rng, 32), tokens, seen)
        print(f"error: a running stream ended too early, raise --new-tokens: {answer.error}")

    tasks = [asyncio.create_task(stream(i)) for i in range(RUNNING)]
    try:
        async with asyncio.timeout(300):
            await running.settled()
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def stall(client: Client, prompts: Prompts, rng: random.Random, prompt: int, new: int) -> Stall:
    async with crowd(client, prompts, rng, new) as running:
        before = perf_counter()
        long = await client.chat(prompts.messages(rng, prompt), 4)
        if long.error:
            raise SystemExit(f"the long request failed: {long.error}")
        during, quiet = running.gaps(long.sent, long.first), running.gaps(0, before)
    await idle(client)
    return Stall(
        prompt_tokens=long.prompt_tokens,
        first=1000 * (long.first - long.sent),
        quiet_p50=percentile(quiet, 50),
        quiet_p99=percentile(quiet, 99),
        worst_gap=max(during),
        median_gap=statistics.median(during),
        frames=len(during),
    )


async def cancelled(client: Client, prompts: Prompts, rng: random.Random, prompt: int, new: int, after: float) -> float:
    """Milliseconds from closing the socket, `after` seconds into the prefill, until the engine runs four requests."""
    async with crowd(client, prompts, rng, new):
        task = asyncio.create_task(client.chat(prompts.messages(rng, prompt), 4))
        await asyncio.sleep(after)
        if (found := await client.get("/readyz"))["running"] != RUNNING + 1:
            raise SystemExit(f"the long request was not running when it was to be cancelled: {found}")
        task.cancel()
        closed = perf_counter()
        await asyncio.gather(task, return_exceptions=True)
        while (await client.get("/readyz"))["running"] != RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        free = 1000 * (perf_counter() - closed)
    await idle(client)
    return free


async def idle(client: Client) -> None:
    """Wait until the server has noticed that all clients have left."""
    while (await client.get("/readyz"))["open"]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def measure(client: Client, prompt: int, new: int, repeat: int) -> tuple[list[Stall], list[float]]:
    prompts, rng = await calibrate(client), random.Random(perf_counter())
    stalls, frees = [], []
    for _ in range(repeat):
        stalls.append(await stall(client, prompts, rng, prompt, new))
        middle = statistics.median(s.first for s in stalls) / 2000
        frees.append(await cancelled(client, prompts, rng, prompt, new, middle))
        print(f"  worst gap {stalls[-1].worst_gap:.0f} ms, slot free after {frees[-1]:.0f} ms", flush=True)
    return stalls, frees


def row(stalls: list[Stall], frees: list[float]) -> dict[str, object]:
    return {
        "prompt": stalls[0].prompt_tokens,
        "TTFT of the long one ms": spread([s.first for s in stalls], 0),
        "gap P50 before ms": spread([s.quiet_p50 for s in stalls]),
        "gap P99 before ms": spread([s.quiet_p99 for s in stalls]),
        "gap P50 during ms": spread([s.median_gap for s in stalls]),
        "worst gap during ms": spread([s.worst_gap for s in stalls], 0),
        "frames during": spread([float(s.frames) for s in stalls], 0),
        "cancelled: slot free after ms": spread(frees, 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="A long prompt beside four running streams.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", help="unset: the server's default")
    parser.add_argument("--prompt-tokens", type=int, default=1500)
    parser.add_argument("--new-tokens", type=int, default=1900, help="of the running streams: more than they will get")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    client = Client(options.url, options.model)
    stalls, frees = asyncio.run(measure(client, options.prompt_tokens, options.new_tokens, options.repeat))
    details = {"stalls": [asdict(s) for s in stalls], "slot_free_ms": frees}
    show(
        f"A prompt of {stalls[0].prompt_tokens} tokens beside {RUNNING} streams",
        [row(stalls, frees)],
        details,
        options.json,
    )


if __name__ == "__main__":
    main()
