"""How often somebody may do what costs no tokens, so that no budget holds it back: 429 with a time to come again."""

from __future__ import annotations

import time
from collections.abc import Hashable

from frontdesk.access.arrivals import Arrivals
from frontdesk.errors import Overloaded
from frontdesk.principal import Principal

MOST_WRITES = 60  # in a minute, of one visitor: conversations, items, feedback and hand-offs together


def admit(arrivals: Arrivals, name: Hashable, message: str) -> None:
    """Counts this one. Raises `Overloaded`, a 429, with the message when there were too many in the last minute."""
    if wait := arrivals.wait(name, time.monotonic()):
        raise Overloaded(message, retry_after=wait, code="rate_limit_exceeded")


class Writes:
    """One for all routes on which a visitor writes."""

    def __init__(self) -> None:
        self._of_visitors = Arrivals(MOST_WRITES)

    def admit(self, principal: Principal) -> None:
        """Raises `Overloaded` when a visitor writes too often."""
        if principal.visitor:
            message = f"a visitor may write {MOST_WRITES} times a minute beside asking"
            admit(self._of_visitors, principal.visitor, message)
