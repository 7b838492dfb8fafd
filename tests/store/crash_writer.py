"""A process that writes replies until it is killed, and tells what was acknowledged, one line of JSON each.

    python -m tests.store.crash_writer PLACE SEED

A line leaves in the callback itself, with one system call: what the parent read was told before the kill.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable

from tests.store.making import OWNER, conversation, ending, hex_id, random_hex, response, said

from frontdesk.store.records import JournalEntry
from frontdesk.store.store import Store, open_store

STREAMS = 8


def token(response: str, position: int) -> int:
    """What stands at a position of a reply, so that anybody can check it."""
    return (int(response[:8], 16) * 31 + position * 7919) % 65_536


def told(kind: str, *facts: object) -> Callable[[Exception | None], None]:
    def done(error: Exception | None) -> None:
        if error is None:
            os.write(1, json.dumps([kind, *facts]).encode() + b"\n")

    return done


async def stream(store: Store, home: str, numbers: random.Random) -> None:
    while True:
        record = response(id=hex_id(), conversation=home, input=(said("q"),))
        await store.responses.begin(record)
        told("begun", record.id)(None)
        position = 0
        for _ in range(numbers.randrange(1, 60)):
            tokens = tuple(token(record.id, position + i) for i in range(numbers.randrange(1, 4)))
            store.journal.write(JournalEntry(record.id, position, tokens), told("written", record.id, position, tokens))
            position += len(tokens)
            await asyncio.sleep(numbers.random() * 0.002)
        store.journal.end(ending(record, said("a", "assistant")), told("ended", record.id))


async def main(place: str, seed: int) -> None:
    random_hex.seed(seed)
    store = await open_store(place)
    homes = [conversation() for _ in range(STREAMS)]
    for home in homes:
        await store.conversations.create(home)
        told("created", OWNER, home.id)(None)
    await asyncio.gather(*(stream(store, home.id, random.Random(seed + n)) for n, home in enumerate(homes)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
