"""What a server's SQLite file holds, read past the product's own code: journal, ledger, and whether it is whole.

Text is put together from the journalled token ids by the vocabulary alone. Reads only; the server may be running.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.acceptance.history import Kept
from tests.conftest import ROOT

from frontdesk.fleet.tokenizer import open_tokenizer

SHIPPED = ROOT / "weights/frontdesk-small-q8_0.gguf"


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        yield connection


def integrity(database: Path) -> str:
    """`ok`, or what SQLite says is broken."""
    with opened(database) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def kept(database: Path, model: Path = SHIPPED) -> list[Kept]:
    """Every response that the file knows, in the order in which they began."""
    with opened(database) as connection:
        return [
            _kept(connection, id, prompt, open_once(model))
            for id, prompt in connection.execute("SELECT id, usage_prompt FROM responses ORDER BY number")
        ]


def ledger(database: Path) -> list[dict[str, Any]]:
    """All rows of the ledger, oldest first."""
    with opened(database) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM ledger ORDER BY at, reply")]


@cache
def open_once(model: Path) -> Callable[[int], bytes]:
    return open_tokenizer(model).token_bytes


def _kept(connection: sqlite3.Connection, id: str, prompt: int, spell: Callable[[int], bytes]) -> Kept:
    tokens: list[int] = []
    gapless = True
    query = "SELECT position, tokens FROM journal WHERE response = ? ORDER BY position"
    for position, data in connection.execute(query, (id,)):
        gapless = gapless and position == len(tokens)
        tokens += _ids(data)
    query = "SELECT prompt, completion FROM ledger WHERE reply = ?"
    rows = tuple(connection.execute(query, (id,)).fetchall())
    text = b"".join(map(spell, tokens)).decode("utf-8", "replace")
    return Kept(f"resp_{id}", text, prompt, len(tokens), gapless, rows)


def _ids(data: bytes) -> array[int]:
    """Token ids are little-endian 32-bit integers."""
    assert array("i").itemsize == 4
    return array("i", data)
