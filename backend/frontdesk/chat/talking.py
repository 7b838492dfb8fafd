"""What is done one at a time: turns of a conversation, since the next one goes on from what this one will have said,
and what begins or ends one response. Knows ids only."""

from __future__ import annotations

import asyncio
from collections import Counter
from weakref import WeakValueDictionary

from frontdesk.errors import Conflict


class Talking:
    """Which conversations are being answered. Must be used from one event loop; `None` is no conversation.

    One that is taken more than once is free when each has given it back.
    """

    def __init__(self) -> None:
        self._taken: Counter[tuple[str, str]] = Counter()

    def take(self, owner: str, conversation: str | None) -> None:
        """Raises `Conflict` while another turn has it."""
        if (owner, conversation) in self._taken:
            raise Conflict(
                f"a turn of conversation '{conversation}' is being answered: wait for its end or cancel it",
                param="conversation",
                code="conversation_locked",
            )
        self.resume(owner, conversation)

    def resume(self, owner: str, conversation: str | None) -> None:
        """The same for a turn that was begun before, whoever has the conversation now."""
        if conversation is not None:
            self._taken[owner, conversation] += 1

    def give_back(self, owner: str, conversation: str | None) -> None:
        if conversation is None:
            return
        self._taken[owner, conversation] -= 1
        if self._taken[owner, conversation] <= 0:
            del self._taken[owner, conversation]


class Locks:
    """An owner's locks by name. An Idempotency-Key's is held while its first request is being started, a response's
    while it begins, goes on in another life of the server, or is being stopped."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def __call__(self, owner: str, name: str) -> asyncio.Lock:
        return self._locks.setdefault((owner, name), asyncio.Lock())
