"""A conversation far longer than the window: never an error, never a token too many, and nothing pinned is forgotten.

How much of the prompts comes from the KV cache, against a client that drops one turn at a time, is measured by
`bench/long_conversation.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.acceptance.asking import loose_client
from tests.acceptance.long_talk import NAME, OPENING, recounted, share_cached, talk
from tests.conftest import Server

TURNS = 200


@pytest.mark.timeout(600)  # on a machine that does other things too
async def test_200_turns_in_4096_tokens(start_server: Callable[..., Server]) -> None:
    """Breaks if a long conversation ends in an error, if the model is given more than the window less the reserve, if
    any count differs from llama.cpp's own, if the prefix moves with every turn, or if what was pinned is lost.

    The name is asked for after each drop, when half of the window is full: farther back the shipped model forgets.
    """
    server = start_server("--ctx", "4096")
    async with loose_client(server) as client:
        long = await talk(client, TURNS)
        counts = await recounted(client, long)
    turns = long.turns
    assert len(turns) == TURNS
    assert [turn.prompt for turn in turns] == counts
    assert all(turn.prompt <= turn.limit < turn.window == 4096 for turn in turns)
    assert all(sum(turn.parts.values()) == turn.prompt for turn in turns)
    assert all({*long.pinned} <= {*turn.kept} for turn in turns)
    drops = sum(later.dropped > earlier.dropped for earlier, later in pairwise(turns))
    assert 1 <= drops <= TURNS // 20, "the prefix was not kept for many turns"
    assert share_cached(turns) >= 0.7
    assert len(long.recalled) == drops + 1
    assert [turn.text for turn in long.recalled if NAME not in turn.text] == []
    assert OPENING in turns[-1].text


async def test_what_is_pinned_is_not_summed_up(start_server: Callable[..., Server]) -> None:
    """Breaks if a conversation that is summed up passes its limit, or loses what was pinned into a summary."""
    server = start_server("--ctx", "1024", persona="plain")
    async with loose_client(server) as client:
        long = await talk(client, 40, policy="summarise")
        items = [item async for item in client.conversations.items.list(long.conversation, order="asc", limit=100)]
    turns = long.turns
    assert all(turn.prompt <= turn.limit < 1024 for turn in turns)
    assert all({*long.pinned} <= {*turn.kept} for turn in turns)
    assert turns[-1].left > 20
    assert turns[-1].summarised > 0  # how many of them depends on how much idle time there was
    assert turns[-1].parts["summary"] > 0
    assert [item.type for item in items].count("compaction") == 1
    assert NAME in long.recalled[-1].text
