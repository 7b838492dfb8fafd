"""How long a token waits for its commit: from `journal.write` to `done`, of streams that write at the same time.

    python bench/store_journal.py --streams 1,16,64
    python bench/store_journal.py --database postgresql://user@/name?host=/run/postgresql

Two loads. *steps*: all streams write one token at the same instant, as an engine's step brings them, and the next step
begins some milliseconds later. *flat out*: every stream writes its next token as soon as the last one is committed.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
from pathlib import Path
from time import perf_counter, time

import uvloop
from report import show

from frontdesk.bench.figures import percentile
from frontdesk.store.records import JournalEntry, ResponseRecord
from frontdesk.store.store import Store, open_store

STEP_SECONDS = 0.01


class Streams:
    """Replies that are being written, and the milliseconds that each of their tokens waited."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ids: list[str] = []
        self.waits: list[float] = []

    async def begin(self, count: int) -> None:
        self.ids = [secrets.token_hex(16) for _ in range(count)]
        for id in self.ids:
            record = ResponseRecord(id, "bench", None, None, "in_progress", int(time()), "model", prompt=(1,) * 500)
            await self.store.responses.begin(record)

    def write(self, id: str, position: int) -> asyncio.Future[None]:
        began = perf_counter()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            assert error is None, error
            self.waits.append(1000 * (perf_counter() - began))
            written.set_result(None)

        self.store.journal.write(JournalEntry(id, position, (position,)), done)
        return written

    async def steps(self, tokens: int) -> None:
        for position in range(tokens):
            written = [self.write(id, position) for id in self.ids]
            await asyncio.sleep(STEP_SECONDS)
            await asyncio.gather(*written)

    async def flat_out(self, tokens: int) -> None:
        async def stream(id: str) -> None:
            for position in range(tokens):
                await self.write(id, position)

        await asyncio.gather(*map(stream, self.ids))


async def measure(store: Store, load: str, count: int, tokens: int) -> dict[str, object]:
    streams = Streams(store)
    await streams.begin(count)
    began = perf_counter()
    await (streams.steps(tokens) if load == "steps" else streams.flat_out(tokens))
    seconds = perf_counter() - began
    waits = streams.waits
    return {
        "load": load,
        "streams": count,
        "tokens/s": round(len(waits) / seconds),
        "median ms": round(percentile(waits, 50), 3),
        "P99 ms": round(percentile(waits, 99), 3),
        "worst ms": round(max(waits), 1),
    }


async def run(place: str, counts: list[int], tokens: int) -> list[dict[str, object]]:
    store = await open_store(place)
    try:
        return [await measure(store, load, n, tokens) for load in ("steps", "flat out") for n in counts]
    finally:
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="what to measure; unset: a new SQLite file")
    parser.add_argument("--streams", default="1,16,64", help="numbers of streams, separated by commas")
    parser.add_argument("--tokens", type=int, default=500, help="tokens of each stream")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.database or str(Path(folder) / "bench.db")
        rows = uvloop.run(run(place, [int(n) for n in options.streams.split(",")], options.tokens))
    kind = "PostgreSQL" if "://" in place else "SQLite"
    show(f"From write to commit, {kind}", rows, rows, options.json)


if __name__ == "__main__":
    main()
