"""Sums of the ledger as people ask for them and read them, the same for `GET /v1/usage` and `frontdesk usage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from frontdesk.store.records import Grouping

GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)


def groupings(text: str) -> tuple[Grouping, ...]:
    """`key,model,day` as a tuple; empty text is one sum over all. Raises `ValueError` with one line for its writer."""
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    for name in names:
        if name not in GROUPINGS:
            raise ValueError(f"{name[:40]!r} is nothing to sum by; choose from {', '.join(GROUPINGS)}")
    return tuple(known for name in dict.fromkeys(names) for known in GROUPINGS if known == name)


def usage_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `Ledger.sums` in OpenAI's words: what it was summed by, requests, tokens."""
    groups = {name: row[name] for name in row if name in GROUPINGS}
    return {
        **groups,
        "requests": row["requests"],
        "prompt_tokens": row["prompt"],
        "cached_tokens": row["cached"],
        "completion_tokens": row["completion"],
        "total_tokens": row["prompt"] + row["completion"],
    }
