"""A page of a list, as OpenAI's clients expect it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def list_json(entries: Sequence[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """A page of objects with an `id`. `first_id` and `last_id` are empty when there is none: clients expect no null."""
    return {
        "object": "list",
        "data": list(entries),
        "first_id": entries[0]["id"] if entries else "",
        "last_id": entries[-1]["id"] if entries else "",
        "has_more": has_more,
    }
