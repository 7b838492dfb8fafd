"""A real store in memory for the tests of keys, tokens and budgets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from frontdesk.store.store import Store, open_store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    opened = await open_store("memory")
    yield opened
    await opened.close()
