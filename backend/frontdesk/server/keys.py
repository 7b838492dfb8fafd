"""`GET /v1/keys`: every key with its limits and what it used, for the operator. Neither secrets nor their hashes.

Keys are made and revoked by `frontdesk keys` on the machine itself: no key can make another one.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.access.keys import state_of
from frontdesk.access.limits import start_of
from frontdesk.server.generate import json_response
from frontdesk.server.query import check_names
from frontdesk.store.records import KeyRecord
from frontdesk.store.store import Store


class Keys:
    """The endpoint."""

    def __init__(self, store: Store) -> None:
        self._keys = store.keys
        self._ledger = store.ledger

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/keys", self.list, methods=["GET"], name="keys")]

    async def list(self, request: Request) -> Response:
        check_names(request)
        now = time.time()
        used = await self._ledger.used_by_keys(start_of("minute", now), start_of("day", now))
        records = await self._keys.list()
        data = [_shown(record, used.get(record.id, (0, 0, 0)), now) for record in records]
        return json_response({"object": "list", "data": data})


def _shown(record: KeyRecord, used: tuple[int, int, int], now: float) -> dict[str, Any]:
    """`used` in tokens: of this minute, of this day, in total."""
    return {
        "id": record.id,
        "object": "key",
        "name": record.name,
        "state": state_of(record, now),
        "scopes": sorted(record.scopes),
        "limits": asdict(record.limits),
        "used": dict(zip(("minute", "day", "total"), used, strict=True)),
        "created_at": record.created,
        "expires_at": record.expires,
        "last_used_at": record.last_used,
    }
