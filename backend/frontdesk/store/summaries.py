"""Two summaries of one conversation as one, for the turn that is told and for what is kept of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from frontdesk.messages import Item, Message, item_id

_BETWEEN: Final = re.compile(r"((?<=[.!?])\s+|\n+)")  # sentences and lines


def both_summaries(first: Item, second: Item, pinned: Collection[str] = ()) -> Item:
    """One that stands for all that both stand for, each sentence but once. It does not count as standing for what is
    `pinned`, or it would be made anew without the one that has no items to make it of."""
    text = each_once(f"{first.message.content}\n{second.message.content}")
    covers = tuple(id for id in dict.fromkeys((*first.covers, *second.covers)) if id not in pinned)
    return replace(first, id=item_id("summary"), message=Message("system", text), covers=covers)


def put_behind(own: Item, given: Item) -> Item:
    """Both, or `own` itself if `given` says nothing new."""
    both = both_summaries(own, given)
    return own if both.message.content == own.message.content else both


def each_once(text: str) -> str:
    """Without sentences that were there before."""
    parts = [*_BETWEEN.split(text), ""]
    sentences: dict[str, str] = {}
    for sentence, space in zip(parts[::2], parts[1::2], strict=True):
        sentences.setdefault(sentence.strip(), sentence + space)
    return "".join(sentences.values()).strip()
