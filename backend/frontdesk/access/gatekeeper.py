"""Who is it? A credential becomes a principal, or is refused. The same for HTTP and WebSockets; reads no header.

| credential            | a key is required | no key is required                                     |
|-----------------------|-------------------|--------------------------------------------------------|
| none                  | refused           | anonymous                                              |
| a text of another kind| refused           | anonymous: OpenAI's clients must send some key         |
| a good key or token   | its principal     | its principal, so that its budgets count               |
| a bad key or token    | refused           | refused: its sender would not find what belongs to it  |

A key is looked up in the database at most once in `FRESH_SECONDS`, so what another process made or revoked holds after
that time. A visitor's token is worth as much as the key that issued it: revoking the key ends its tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from frontdesk.access import keys, visitors
from frontdesk.access.limits import over
from frontdesk.errors import StorageFailed, Unauthorized
from frontdesk.principal import ANONYMOUS, Limits, Principal
from frontdesk.store.records import KeyRecord

FRESH_SECONDS = 1.0
TOUCH_SECONDS = 60  # `last_used` is not exacter than this: it must not cost a write for every request
MOST_REMEMBERED = 4096  # ids of keys, wrong ones too: whoever guesses cannot fill the memory

HINT = "send a key as 'Authorization: Bearer <key>'; the operator makes one with `frontdesk keys create`"


class KeyTable(Protocol):
    """The part of the store's keys that is needed here. Both raise `StorageFailed`."""

    async def by_id(self, id: str) -> KeyRecord | None: ...

    async def touch(self, id: str, at: int) -> object: ...


class Gatekeeper:
    """`required`: whether nobody may come without a credential; else `anonymous` is who comes without one. `secret`
    signs visitors' tokens.

    `now` gives seconds since 1970. Must be used from one event loop.
    """

    def __init__(
        self,
        table: KeyTable,
        secret: bytes,
        *,
        required: bool,
        visitor_limits: Limits,
        anonymous: Principal = ANONYMOUS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._secret = secret
        self._required = required
        self._visitor_limits = visitor_limits
        self._anonymous = anonymous
        self._now = now
        self._looked_up: dict[str, tuple[float, asyncio.Task[KeyRecord | None]]] = {}
        self._touched: dict[str, float] = {}

    async def identify(self, credential: str | None) -> Principal:
        """Whose request it is. Raises `Unauthorized`, and `StorageFailed` when keys cannot be looked up now."""
        if credential and visitors.is_token(credential):
            return await self._visitor(visitors.read(self._secret, credential))
        if credential and (parsed := keys.parse_key(credential)):
            return await self._key(*parsed)
        if not self._required:
            return self._anonymous
        if credential:
            raise Unauthorized("this is not a key of this server: " + HINT)
        raise Unauthorized("this server needs a key: " + HINT, code="missing_api_key")

    async def _key(self, key_id: str, secret: str) -> Principal:
        record = await self._record(key_id)
        if record is None or not keys.matches(secret, record.hash):
            raise Unauthorized("this is not a key of this server: " + HINT)
        self._check(record)
        await self._touch(record)
        return Principal(f"key:{record.id}", record.id, scopes=record.scopes, key_limits=record.limits)

    async def _visitor(self, token: visitors.VisitorToken) -> Principal:
        key_limits = Limits()
        if token.key is not None:
            record = await self._record(token.key)
            if record is None:
                raise Unauthorized("the key that issued this visitor's token is gone")
            self._check(record)
            key_limits = record.limits
        elif self._required:
            raise Unauthorized("this visitor's token was issued while this server asked for no key")
        return Principal(
            owner=visitors.owner_of(token.visitor),
            key=token.key,
            visitor=token.visitor,
            scopes=frozenset(["chat"]),
            key_limits=key_limits,
            visitor_limits=over(token.limits, self._visitor_limits),
            conversation=token.conversation,
            origin=token.origin,
            persona=token.persona,
        )

    def _check(self, record: KeyRecord) -> None:
        state = keys.state_of(record, self._now())
        if state != "active":
            verb = "was revoked" if state == "revoked" else "has expired"
            raise Unauthorized(f"the key {record.id} {verb}", code=f"{state}_api_key")

    async def _record(self, key_id: str) -> KeyRecord | None:
        """The record, at most `FRESH_SECONDS` old. Requests that come together ask the database once."""
        found = self._looked_up.get(key_id)
        if found is None or time.monotonic() - found[0] > FRESH_SECONDS:
            if found is None and len(self._looked_up) >= MOST_REMEMBERED:
                del self._looked_up[next(iter(self._looked_up))]
            found = (time.monotonic(), asyncio.create_task(self._table.by_id(key_id)))
            self._looked_up[key_id] = found
        try:
            return await asyncio.shield(found[1])  # one of those who wait may be cancelled, the others not
        except StorageFailed:
            self._looked_up.pop(key_id, None)
            raise

    async def _touch(self, record: KeyRecord) -> None:
        now = self._now()
        if now - max(record.last_used or 0, self._touched.get(record.id, 0)) < TOUCH_SECONDS:
            return
        self._touched[record.id] = now
        with contextlib.suppress(StorageFailed):  # a full disk must not turn away who only wants to read
            await self._table.touch(record.id, int(now))
