"""How soon a slot is free when a long prompt is cancelled in the middle of its prefill, beside running streams.

    python bench/cancelled.py --url http://127.0.0.1:8000 --prompt-tokens 1500

Four streams run; a long prompt arrives and its socket is closed half-way through the time that such a prompt takes.
Then Frontdesk's `/readyz` is asked every few milliseconds until the engine counts four running requests again. What a
long prompt does to the streams beside it is `frontdesk bench --workload long`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

from report import show

from frontdesk.bench.client import Target
from frontdesk.bench.figures import spread
from frontdesk.bench.prompts import Sizes
from frontdesk.bench.reply import Reply

RUNNING = 4
SETTLE = 8  # frames that every stream has sent before the long prompt comes
POLL_SECONDS = 0.002


@contextlib.asynccontextmanager
async def crowd(target: Target, sizes: Sizes, rng: random.Random, tokens: int) -> AsyncIterator[None]:
    """`RUNNING` streams with short prompts that have all begun to write, and run until the block ends."""
    replies = [Reply(asked=tokens) for _ in range(RUNNING)]
    tasks = [asyncio.create_task(target.chat(sizes.messages(rng, 32), tokens, reply)) for reply in replies]
    try:
        async with asyncio.timeout(300):
            while not all(len(reply.frames) > SETTLE for reply in replies):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield
        if any(task.done() for task in tasks):
            raise SystemExit("a running stream ended too early: raise --new-tokens")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def cancelled(target: Target, sizes: Sizes, rng: random.Random, prompt: int, new: int) -> tuple[float, float]:
    """Milliseconds: to the first token of such a prompt, and from closing the socket to the free slot."""
    async with crowd(target, sizes, rng, new):
        whole = await target.chat(sizes.messages(rng, prompt), 4)
        if whole.error:
            raise SystemExit(f"the long request failed: {whole.error}")
    await idle(target)
    async with crowd(target, sizes, rng, new):
        task = asyncio.create_task(target.chat(sizes.messages(rng, prompt), 4))
        await asyncio.sleep(whole.ttft / 2)
        if (found := await target.get("/readyz"))["running"] != RUNNING + 1:
            raise SystemExit(f"the long request was not running when it was to be cancelled: {found}")
        task.cancel()
        closed = perf_counter()
        await asyncio.gather(task, return_exceptions=True)
        while (await target.get("/readyz"))["running"] != RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        free = 1000 * (perf_counter() - closed)
    await idle(target)
    return 1000 * whole.ttft, free


async def idle(target: Target) -> None:
    """Wait until the server has noticed that all clients have left."""
    while (await target.get("/readyz"))["open"]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def measure(target: Target, prompt: int, new: int, repeat: int) -> list[tuple[float, float]]:
    sizes, rng, found = await target.sizes(), random.Random(perf_counter()), list[tuple[float, float]]()
    for _ in range(repeat):
        found.append(await cancelled(target, sizes, rng, prompt, new))
        print(f"  slot free after {found[-1][1]:.0f} ms", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Cancel a long prompt beside four running streams.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", help="unset: the server's default")
    parser.add_argument("--prompt-tokens", type=int, default=1500)
    parser.add_argument("--new-tokens", type=int, default=1900, help="of the running streams: more than they will get")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    target = Target(options.url, options.model)
    found = asyncio.run(measure(target, options.prompt_tokens, options.new_tokens, options.repeat))
    row = {
        "TTFT of the long one ms": spread([first for first, _ in found], 0),
        "cancelled: slot free after ms": spread([free for _, free in found], 0),
    }
    title = f"A prompt of {options.prompt_tokens} tokens cancelled beside {RUNNING} streams"
    show(title, [row], found, options.json)


if __name__ == "__main__":
    main()
