"""A server that is stopped and started again: whoever comes back is not computed again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.acceptance.asking import ask, async_client, conversation
from tests.conftest import running_server


async def test_a_conversation_returns_after_a_restart(tmp_path: Path) -> None:
    """Breaks if a stop forgets the KV of conversations although a folder for it is named."""
    answers, places = [], {"database": str(tmp_path / "frontdesk.db"), "parked_folder": str(tmp_path / "parked")}
    for life in range(2):
        with running_server(tmp_path / f"log-{life}", **places) as server:
            async with async_client(server) as client:
                turns = conversation(1, 40)
                if life:
                    turns += [{"role": "assistant", "content": answers[0].text}, *conversation(2, 0)]
                answers.append(await ask(client, turns))
            server.process.terminate()
            await asyncio.to_thread(server.process.wait, 60)
        assert len(list((tmp_path / "parked").glob("*.kv"))) == 1
    assert answers[0].cached_tokens == 0
    assert answers[1].cached_tokens >= answers[0].prompt_tokens
