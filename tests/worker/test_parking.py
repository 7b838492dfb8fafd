"""Conversations that outnumber the slots, in a real engine process: those who return are not computed again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

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
    for i in reversed(range(12)):
        again = await asking.ask((*prompt(i), *first[i].tokens, 400, 401), 10).end()
        came_back = again.cached[0] > 100
        if parked_bytes == 64 << 20:
            assert came_back
        elif not parked_bytes and i < 8:
            assert not came_back
    assert asking.client.stats
    assert asking.client.stats.parked_bytes <= parked_bytes
    assert bool(asking.client.stats.parked) == bool(parked_bytes)
