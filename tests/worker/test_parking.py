"""Conversations that outnumber the slots, in a real engine process: those who return are not computed again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.llamacpp.sliding import write_sliding

from frontdesk.llamacpp.library import BUILD
from frontdesk.worker.shelf import Shelf

if TYPE_CHECKING:
    from tests.worker.conftest import Asking

StartEngine = Callable[..., Awaitable["Asking"]]


def prompt(seed: int, length: int = 150) -> tuple[int, ...]:
    return tuple(300 + (seed * 7919 + i * i * 31) % 1700 for i in range(length))


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("parked_bytes", [0, 2 << 20, 64 << 20])
async def test_who_returns_is_not_computed_again(start_engine: StartEngine, unified: bool, parked_bytes: int) -> None:
    """The setting would do nothing, take more memory than it says, or change what is said."""
    cells = 512 if unified else 1024
    asking = await start_engine(slots=2, kv_cells=cells, exact=not unified, parked_bytes=parked_bytes)
    first = [await asking.ask(prompt(i), 10).end() for i in range(12)]
    turns = [(*prompt(i), *first[i].tokens, 400, 401) for i in range(12)]
    again = {i: await asking.ask(turns[i], 10).end() for i in reversed(range(12))}
    for i, reply in again.items():
        came_back = reply.cached[0] > 100
        if parked_bytes == 64 << 20:
            assert came_back
        elif not parked_bytes and i < 8:
            assert not came_back
    assert asking.client.stats
    assert asking.client.stats.parked_bytes <= parked_bytes
    assert bool(asking.client.stats.parked) == bool(parked_bytes)
    if not unified:  # served exact
        strangers = [await asking.ask(turns[i], 10, tenant=1).end() for i in again]
        assert [reply.tokens for reply in again.values()] == [reply.tokens for reply in strangers]


async def test_who_returns_after_a_restart_is_not_computed_again(start_engine: StartEngine, tmp_path: Path) -> None:
    """Every restart of the server would cost all visitors their next first token."""
    shelf = {"shelf": str(tmp_path / "parked"), "shelf_bytes": 64 << 20, "slots": 2, "kv_cells": 1024}
    one = await start_engine(parked_bytes=64 << 20, **shelf)
    first = [await one.ask(prompt(i), 10, tenant=i % 2).end() for i in range(6)]
    running = one.ask(prompt(9), 300)  # cut short; what there is of it is kept
    await one.until(lambda: len(running.tokens) > 20)
    await one.client.close()
    assert len(list((tmp_path / "parked").glob("*.kv"))) == 7
    turns = [(*prompt(i), *first[i].tokens, 400, 401) for i in range(6)]
    two = await start_engine(parked_bytes=64 << 20, **shelf)
    again = [await two.ask(turn, 10, tenant=i % 2).end() for i, turn in enumerate(turns)]
    strangers = [await two.ask(turn, 10, tenant=5 + i).end() for i, turn in enumerate(turns)]
    assert [reply.cached for reply in again] == [[159]] * 6
    assert [reply.cached for reply in strangers] == [[0]] * 6
    assert [reply.tokens for reply in again] == [reply.tokens for reply in strangers]


@pytest.mark.parametrize("damage", ["bit", "conditions"])
async def test_a_damaged_state_is_computed_again(start_engine: StartEngine, tmp_path: Path, damage: str) -> None:
    """A bad block on a disk would change what is said, or kill the engine at every start."""
    shelf = {"shelf": str(tmp_path / "parked"), "shelf_bytes": 64 << 20, "slots": 2, "kv_cells": 1024}
    one = await start_engine(**shelf)
    first = await one.ask(prompt(1), 10).end()
    turn = (*prompt(1), *first.tokens, 400, 401)
    await one.client.close()
    (file,) = (tmp_path / "parked").glob("*.kv")
    if damage == "bit":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        changed = {}
    else:
        changed = {"slots": 3, "kv_cells": 1536}
    two = await start_engine(**{**shelf, **changed})
    again = await two.ask(turn, 10).end()
    alone = await two.ask(turn, 10, tenant=1).end()
    assert again.cached == [0]
    assert again.tokens == alone.tokens
    assert not file.exists()
    assert two.client.restarts == 0


async def test_two_at_once_go_on_from_one_state_on_disk(start_engine: StartEngine, tmp_path: Path) -> None:
    """If this fails, a new visitor and one who returns, in one step, kill the engine."""
    shelf = {"shelf": str(tmp_path / "parked"), "shelf_bytes": 64 << 20, "slots": 3, "kv_cells": 1536}
    one = await start_engine(**shelf)
    talk = (*prompt(1), *prompt(2, 100))
    first = await one.ask(talk, 10).end()
    await one.client.close()
    two = await start_engine(**shelf)
    other = two.ask(prompt(7, 60), 300)
    await two.until(lambda: len(other.tokens) > 20)  # a step is under way: the next two enter together
    new = two.ask((*prompt(1), *prompt(3, 14)), 10)
    back = two.ask((*talk, *first.tokens, 400, 401), 10)
    for stream in (new, back, other):
        await stream.end()
    assert two.client.restarts == 0
    assert (new.cached, back.cached) == ([150], [259])


async def test_nothing_is_parked_of_a_sliding_window(start_engine: StartEngine, tmp_path: Path) -> None:
    """Whoever comes back, or asks after a restart, would be answered without what lies behind the window; so would be
    they for whom an earlier version has left a state on disk."""
    model, folder = write_sliding(tmp_path / "model.gguf"), tmp_path / "parked"
    conditions = (BUILD, "f16", True, "auto", ("streams", 2, 512))
    Shelf(folder, 64 << 20, model, conditions).keep(iter([(0, 0, list(prompt(3)), b"a state" * 90)]))
    (left,) = folder.glob("*.kv")
    asking = await start_engine(
        path=str(model), slots=2, kv_cells=1024, parked_bytes=64 << 20, shelf=str(folder), shelf_bytes=64 << 20
    )
    replies = [await asking.ask(prompt(i), 10).end() for i in range(6)]
    turns = [(*prompt(i)[:140], 400, 401) for i in range(6)]
    again = [await asking.ask(turn, 10).end() for turn in turns]
    strangers = [await asking.ask(turn, 10, tenant=1).end() for turn in turns]
    assert [reply.tokens for reply in again] == [reply.tokens for reply in strangers]
    assert [reply.cached for reply in (*replies, *again[:4])] == [[0]] * 10
    assert asking.client.stats
    assert asking.client.stats.parked == asking.client.restarts == 0
    await asking.until(lambda: not left.exists())
    await asking.client.close()
    assert not list(folder.glob("*.kv"))
