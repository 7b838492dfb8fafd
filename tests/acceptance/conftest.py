"""Real clients against the real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.acceptance.asking import Shop, async_client, create_key
from tests.acceptance.crashes import Phoenix
from tests.acceptance.either_client import client_of
from tests.conftest import Server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The async OpenAI client on the shared server."""
    async with async_client(server) as opened:
        yield opened


@pytest.fixture(scope="session")
def shop(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Shop]:
    """A server that asks for keys, and the keys of two owners."""
    with launch(auth="on") as server:
        yield Shop(server, create_key(server, "alice"), create_key(server, "bob"))


@pytest.fixture(params=["sync", "async"])
async def alice(shop: Shop, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Alice's OpenAI client, once of each kind."""
    async with client_of(request.param, shop.server.url + "/v1", shop.alice) as opened:
        yield opened


@pytest.fixture
def phoenix(tmp_path: Path) -> Iterator[Phoenix]:
    """A server that can be killed and started again on the same database and port."""
    with Phoenix(tmp_path, drain_seconds="60") as running:
        yield running
