"""Everything that makes the engine faster, switched on together: the text is the same, also across a death."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from frontdesk.worker.protocol import SamplingParams

if TYPE_CHECKING:
    from tests.worker.conftest import Asking, Heard

StartEngine = Callable[..., Awaitable["Asking"]]
LEVERS = {"speculate": True, "pad_rows": True, "parked_bytes": 64 << 20}


def drawn(seed: int) -> SamplingParams:
    return SamplingParams(0.8, 40, 0.95, 0.05, 1.0, 0.2, 0.0, 1.1, 64, (), seed)


def ask_seven(asking: Asking, most: int = 80) -> list[Heard]:
    """Prompts that repeat themselves, so that there is something to guess; half of the replies are drawn."""
    return [
        asking.ask(tuple(300 + (i * 91 + j % 13 * 7) % 1700 for j in range(40 + i)), most, drawn(i) if i % 2 else None)
        for i in range(7)
    ]


async def test_the_levers_change_no_text(start_engine: StartEngine) -> None:
    """Speed would be bought with other answers, and a reply could not be continued by another engine."""
    plain = await start_engine()
    expected = [(await reply.end()).tokens for reply in ask_seven(plain)]
    await plain.client.close()
    fast = await start_engine(**LEVERS)
    for _ in range(2):
        assert [(await reply.end()).tokens for reply in ask_seven(fast)] == expected
    replies = ask_seven(fast)
    await fast.until(lambda: sum(len(reply.tokens) for reply in replies) > 100)
    assert fast.client.pid
    os.kill(fast.client.pid, signal.SIGKILL)
    assert [(await reply.end()).tokens for reply in replies] == expected
    assert fast.client.restarts == 1


async def test_guesses_are_counted(start_engine: StartEngine) -> None:
    """Nobody could see whether guesses are made, or the tokens of a step would be counted wrong."""
    for slots, kv_cells, exact in ((8, 4096, True), (8, 2048, False)):
        asking = await start_engine(speculate=True, slots=slots, kv_cells=kv_cells, exact=exact)
        total = drafted = accepted = 0
        take = asking.client._deliver

        def count(message: object, take: Callable[..., None] = take) -> None:
            nonlocal total, drafted, accepted
            stats = message.stats  # pyright: ignore[reportAttributeAccessIssue]
            total += stats.decode_tokens
            drafted += stats.drafted
            accepted += stats.accepted
            take(message)

        asking.client._deliver = count
        reply = await asking.ask(tuple(300 + j % 13 * 7 for j in range(40)), 300).end()
        assert len(reply.tokens) == 300
        assert total == 299  # the first is drawn behind the prompt
        assert 0 <= accepted <= drafted
        assert drafted > 0
