"""How the cost of a token grows: with the conversations kept, with the context, with the line of those who wait.

    python bench/growth.py

Always the shipped model, whose own steps are so short that everything around them shows. Nothing but attention itself
may grow faster than what it depends on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop
from peer_servers import ROOT, Setup, frontdesk, running
from report import show, table
from store_list import fill

from frontdesk.bench.client import Target
from frontdesk.bench.drive import Drive
from frontdesk.bench.figures import spread
from frontdesk.bench.processes import read
from frontdesk.bench.workloads import DEFAULTS, Shape, plan
from frontdesk.config import engine_environment
from frontdesk.store.store import open_store
from frontdesk.worker.lab_client import laboratory
from frontdesk.worker.protocol import Shape as Step
from frontdesk.worker.protocol import Trial

SHIPPED: Final = ROOT / "weights" / "frontdesk-small-q8_0.gguf"
LIVE: Final = 8
STORED: Final = (10, 1_000, 10_000, 100_000)
CONTEXTS: Final = (64, 256, 1024, 2048, 3968)
WAITING: Final = (0, 50, 200, 400)


async def stored(folder: Path, count: int, repeat: int) -> list[tuple[float, float]]:
    """(CPU microseconds of the service for each token, milliseconds between tokens) over the Responses WebSocket,
    which keeps what is said, with so many conversations in the database."""
    database = folder / f"{count}.db"
    store = await open_store(str(database))
    await fill(store, count)
    await store.close()
    shape = replace(DEFAULTS["raw"], streams=LIVE, requests=4 * LIVE)
    return await loaded(("--database", str(database)), shape, folder / f"s{count}", repeat, "ws")


async def queued(folder: Path, waiting: int, repeat: int) -> list[tuple[float, float]]:
    """The same over SSE, with so many requests that wait for one of the slots."""
    shape = replace(DEFAULTS["raw"], streams=LIVE + waiting, requests=LIVE + waiting, new=64, prompt=16)
    return await loaded((), shape, folder / f"q{waiting}", repeat, "sse")


async def loaded(
    flags: tuple[str, ...], shape: Shape, folder: Path, repeat: int, transport: str
) -> list[tuple[float, float]]:
    found = []
    with running(frontdesk(flags), Setup(SHIPPED, LIVE, 1024, 1), folder) as server:
        target = Target(server.url, transport=transport, timeout=300.0)
        sizes = await target.sizes()
        for turn in range(repeat + 1):
            drive = Drive(target, plan("raw", replace(shape, seed=turn), sizes))
            before = read([server.pid])
            await drive.run()
            used = read([server.pid]).since(before)
            tokens = sum(reply.tokens for reply in drive.replies)
            gaps = sorted(gap for reply in drive.replies for gap in reply.gaps)
            if turn:
                found.append((1e6 * used.own / tokens, 1e3 * gaps[len(gaps) // 2]))
    return found


async def contexts(repeat: int) -> list[dict[str, object]]:
    """What a step of 8 streams takes, by the tokens that each has in the KV cache."""
    rows = []
    async with laboratory(engine_environment()) as lab:
        await lab.open(str(SHIPPED))
        for tokens in CONTEXTS:
            timed = await lab.run(Trial((Step("decode", LIVE),), (1,), 20 * repeat, 5.0, tokens))
            seconds = timed.seconds("decode", LIVE, 1)
            assert seconds is not None, timed.reason
            rows.append({"tokens of context": tokens, "us for each token": round(1e6 * seconds / LIVE, 1)})
    return rows


def told(name: str, found: dict[int, list[tuple[float, float]]]) -> list[dict[str, object]]:
    return [
        {
            name: count,
            "service CPU, us for each token": spread([cpu for cpu, _ in runs]),
            "between tokens P50, ms": spread([gap for _, gap in runs], 2),
        }
        for count, runs in found.items()
    ]


async def run(folder: Path, repeat: int) -> dict[str, list[dict[str, object]]]:
    kept, lines = {}, {}
    for count in STORED:
        kept[count] = await stored(folder, count, repeat)
        print(f"  {count} conversations: done", file=sys.stderr, flush=True)
    for waiting in WAITING:
        lines[waiting] = await queued(folder, waiting, repeat)
        print(f"  {waiting} waiting: done", file=sys.stderr, flush=True)
    return {
        "conversations kept": told("conversations kept", kept),
        "requests that wait": told("requests that wait", lines),
        "context": await contexts(repeat),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How the cost of a token grows.")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="frontdesk-growth-") as folder:
        found = uvloop.run(run(Path(folder), options.repeat))
    first, *others = found.items()
    show(f"{LIVE} live streams, by {first[0]}", first[1], found, options.json)
    for name, rows in others:
        print(f"by {name}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
