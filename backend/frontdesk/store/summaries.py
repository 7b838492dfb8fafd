"""Two summaries of one conversation as one. Pure.

What is kept of a turn that brings a summary is what `chat/summary.both_summaries` told that turn.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from frontdesk.messages import Item, item_id

_BETWEEN: Final = re.compile(r"((?<=[.!?])\s+|\n+)")  # sentences and lines


def put_behind(own: Item, given: Item) -> Item:
    """One that stands for all that both stand for, each sentence but once; `own` itself if `given` says nothing new."""
    text = each_once(f"{own.message.content}\n{given.message.content}")
    if text == own.message.content:
        return own
    covers = (*own.covers, *(id for id in given.covers if id not in own.covers))
    return replace(own, id=item_id("summary"), message=replace(own.message, content=text), covers=covers)


def each_once(text: str) -> str:
    """Without sentences that were there before."""
    parts = [*_BETWEEN.split(text), ""]
    sentences: dict[str, str] = {}
    for sentence, space in zip(parts[::2], parts[1::2], strict=True):
        sentences.setdefault(sentence.strip(), sentence + space)
    return "".join(sentences.values()).strip()
