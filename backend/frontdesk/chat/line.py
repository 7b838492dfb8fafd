"""Who may enter the waiting line: it is bounded, and no owner may fill it for all others. Knows no order; that is the
engine's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from frontdesk.chat.ordering import tenant_number
from frontdesk.errors import Overloaded
from frontdesk.principal import Principal
from frontdesk.worker.client import EngineClient

PART: Final = 8  # a visitor gets one of so many parts of the line, a key all but one
LEAST: Final = 4  # requests that a visitor gets in any case
RETRY_SECONDS: Final = 2.0


class Line:
    """`most`: requests that may be open, running and waiting. Must be used from one event loop.

    The engine counts those that it has; here are only those that are being started, so that many that come at once
    do not all find the same place free.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._starting: Counter[int] = Counter()  # by tenant; none with zero
        self._all_starting = 0

    @contextmanager
    def entering(self, engine: EngineClient, principal: Principal, n: int) -> Iterator[None]:
        """Hold `n` places until the engine has been asked, or will not be. Raises `Overloaded`."""
        tenant = tenant_number(principal.owner)
        if engine.open_requests + self._all_starting + n > self._most:
            raise Overloaded(f"the waiting line is full ({self._most} requests)", retry_after=RETRY_SECONDS)
        whose, most = self._part_of(principal)
        if engine.open_of(tenant) + self._starting[tenant] + n > most:
            raise Overloaded(
                f"{whose} part of the waiting line is full ({most} of {self._most} requests)", retry_after=RETRY_SECONDS
            )
        self._starting[tenant] += n
        self._all_starting += n
        try:
            yield
        finally:
            self._all_starting -= n
            self._starting[tenant] -= n
            if not self._starting[tenant]:
                del self._starting[tenant]

    def _part_of(self, principal: Principal) -> tuple[str, int]:
        """Whose part of the line it is, and how many requests. Without authentication everybody is one owner."""
        if principal.visitor is not None:
            return "this visitor's", max(LEAST, self._most // PART)
        return ("this key's", self._most - self._most // PART) if principal.owner else ("everybody's", self._most)
