"""Real clients against the real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from tests.acceptance.asking import async_client
from tests.conftest import Server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The async OpenAI client on the shared server."""
    async with async_client(server) as opened:
        yield opened
