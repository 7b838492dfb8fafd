"""How long the store reads of a full house: 100,000 conversations of one owner, and one long conversation.

    python bench/store_list.py
    python bench/store_list.py --database postgresql://user@/name?host=/run/postgresql
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, time
from typing import Any

import uvloop
from report import show

from frontdesk.bench.figures import percentile
from frontdesk.messages import Item, Message, item_id
from frontdesk.store.records import ConversationRecord, LedgerEntry
from frontdesk.store.store import Store, open_store

OWNER = "bench"
ITEMS = 1000  # of the long conversation
PAGE = 100
ROUNDS = 50


async def fill(store: Store, count: int) -> list[str]:
    """Ids of the conversations, oldest first."""
    ids = [f"conv_{secrets.token_hex(16)}" for _ in range(count)]
    now = int(time())
    for start in range(0, count, 1000):
        records = [ConversationRecord(id, OWNER, now, now, {"title": "a talk"}) for id in ids[start : start + 1000]]
        await asyncio.gather(*(store.conversations.create(record) for record in records))
        await asyncio.gather(*(store.journal.pay(entry(record.id, now)) for record in records))
    items = [Item(item_id("message"), "message", Message("user", "what was said " * 20)) for _ in range(ITEMS)]
    await store.conversations.add_items(OWNER, ids[-1], items)
    return ids


def entry(conversation: str, at: int) -> LedgerEntry:
    reply = secrets.token_hex(16)
    return LedgerEntry(reply, at, OWNER, "key", None, conversation, "model", 300, 200, 50, "finished")


async def measure(what: str, read: Callable[[], Awaitable[Any]]) -> dict[str, object]:
    times = []
    for _ in range(ROUNDS):
        began = perf_counter()
        await read()
        times.append(1000 * (perf_counter() - began))
    return {
        "read": what,
        "median ms": round(percentile(times, 50), 2),
        "P99 ms": round(percentile(times, 99), 2),
    }


async def run(place: str, count: int) -> list[dict[str, object]]:
    store = await open_store(place)
    try:
        ids = await fill(store, count)
        talks, middle, long = store.conversations, ids[count // 2], ids[-1]
        return [
            await measure(f"newest {PAGE} of {count}", lambda: talks.list(OWNER, limit=PAGE)),
            await measure(f"{PAGE} from the middle on", lambda: talks.list(OWNER, limit=PAGE, after=middle)),
            await measure("one conversation", lambda: talks.get(OWNER, middle)),
            await measure(f"newest {PAGE} of {ITEMS} items", lambda: talks.items(OWNER, long, limit=PAGE)),
            await measure(f"all {ITEMS} items", lambda: talks.all_items(OWNER, long)),
            await measure(f"a key's total of {count} replies", lambda: store.ledger.used("key", "key", 0)),
            await measure(f"{count} replies by day", lambda: store.ledger.sums(owner=OWNER, by=("day", "model"))),
        ]
    finally:
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="what to measure; unset: a new SQLite file")
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.database or str(Path(folder) / "bench.db")
        rows = uvloop.run(run(place, options.conversations))
    kind = "PostgreSQL" if "://" in place else "SQLite"
    show(f"Reads of a full house, {kind}", rows, rows, options.json)


if __name__ == "__main__":
    main()
