"""Who reads a reply, and what happens to it when the last reader has left. Knows nothing of tokens or sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

RETURN_SECONDS: Final = 30.0  # least time to come back for readers whom the server's death cut off


class Readers:
    """Counts the readers of one reply and calls `cancel` when it is abandoned.

    `grace` is in seconds: 0 at once, `None` never. A reply that nobody has read yet is not abandoned.
    """

    def __init__(self, cancel: Callable[[], None], grace: float | None = 0.0) -> None:
        self._cancel = cancel
        self._grace = grace
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def cut_off(self) -> None:
        """The reply goes on in another life of the server; whoever read it may come back."""
        if self._grace is not None:
            wait = max(self._grace, RETURN_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(wait, self._cancel)

    def over(self) -> None:
        """The reply has ended: there is nothing left to abandon, and no timer is to keep it in memory."""
        self._grace = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def came(self) -> None:
        self._count += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def left(self) -> None:
        self._count -= 1
        if self._count or self._grace is None:
            return
        if self._grace:
            self._timer = asyncio.get_running_loop().call_later(self._grace, self._cancel)
        else:
            self._cancel()
