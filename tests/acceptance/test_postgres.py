"""The whole product on PostgreSQL: what was promised on SQLite holds there too, also when PostgreSQL goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.acceptance.asking import MODEL, loose_client
from tests.acceptance.crashes import Outcome, Phoenix, quiet, shuffled, storm
from tests.store.postgres_server import PostgresServer, reason_against, running_postgres

pytestmark = pytest.mark.skipif(reason_against() is not None, reason=f"NO POSTGRESQL HERE: {reason_against()}")


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def phoenix(tmp_path: Path, postgres: PostgresServer) -> Iterator[Phoenix]:
    with Phoenix(tmp_path, database=postgres.new_database()) as running:
        yield running


@pytest.mark.timeout(900)  # on a machine that does other things too
async def test_kills_on_postgresql(phoenix: Phoenix) -> None:
    """Breaks if a reply loses, repeats or changes a token on PostgreSQL when its engine or its server is killed."""
    outcome = Outcome()
    expected = await quiet(phoenix.url, kinds=4, tokens=100, outcome=outcome)
    await storm(phoenix, shuffled(3, 2, 5), expected, outcome, seed=5, streams=4, tokens=100)
    assert outcome.faults == []
    assert len(outcome.kills) == 5


async def test_a_conversation_on_postgresql(phoenix: Phoenix) -> None:
    """Breaks if what a customer wrote is not kept there exactly, whatever characters it has, or cannot be deleted."""
    text = "zero\0 width\u200b \N{PILE OF POO} \u202e what time do you open?"
    async with loose_client(phoenix.server) as client:
        conversation = await client.conversations.create(metadata={"shop": "nul \0 in here"})
        reply = await client.responses.create(model=MODEL, conversation=conversation.id, input=text)
        items = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
        assert items[0].content[0].text == text  # pyright: ignore[reportAttributeAccessIssue, reportOptionalSubscript]
        assert (await client.responses.retrieve(reply.id)).output_text == reply.output_text
        await client.conversations.delete(conversation.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(reply.id)


async def test_a_database_that_restarts_is_a_pause_and_not_the_end(phoenix: Phoenix, postgres: PostgresServer) -> None:
    """Breaks if the server stays unusable after its database was restarted, or answers with 500 while it is away."""
    async with loose_client(phoenix.server) as client:
        first = await client.responses.create(model=MODEL, input="When are you open?")
        await asyncio.to_thread(postgres.stop)
        with pytest.raises(openai.InternalServerError) as refused:
            await client.responses.create(model=MODEL, input="When are you open?")
        assert refused.value.status_code == 503
        assert refused.value.code == "storage_unavailable"
        chat = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        assert chat.choices[0].message.content  # what is not kept needs no database
        await asyncio.to_thread(postgres.start)
        again = await client.responses.create(model=MODEL, input="When are you open?")
        assert again.output_text == first.output_text
