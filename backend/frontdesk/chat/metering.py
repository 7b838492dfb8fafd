"""Which replies are counted for the operator, and what is told of them: sizes and names, never a text.

Joins replies with `telemetry.recent`, which knows none. A reply that is only read again is not followed, as nothing of
it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from frontdesk.chat.reply import Reply
from frontdesk.principal import Principal
from frontdesk.store.records import JournalEntry
from frontdesk.telemetry.problems import asking
from frontdesk.telemetry.recent import Metered, Recent


class Metering:
    """`recent` None: nobody wants to know."""

    def __init__(self, recent: Recent | None) -> None:
        self._recent = recent

    def follow(self, reply: Reply, since: float, kept: Sequence[JournalEntry] | None = None) -> None:
        """Count for this reply from now on; to be called before it begins, by whoever was asked for it.

        `since` is when it was asked for, in seconds since 1970; `kept` what a former life of the server has of it.
        """
        if self._recent is None:
            return
        order = reply.order
        told = Metered(
            model=order.backend.card.name,
            prompt_tokens=len(order.prompt),
            payer=payer(order.principal),
            place=lambda: reply.place,
            pays=order.first,
            asked=asking.get() if kept is None else None,
        )
        resumed = None if kept is None else sum(len(entry.tokens) for entry in kept)
        reply.meter = self._recent.started(reply.id, told, since=since, resumed=resumed)

    def refused(self) -> None:
        """A call was turned away before any reply to it began."""
        if self._recent is not None:
            self._recent.refused()


def payer(principal: Principal) -> str:
    """Who pays, by id: `visitor vis_…`, `key 1a2b…`, `anonymous`."""
    if principal.visitor is not None:
        return f"visitor {principal.visitor}"
    return "anonymous" if principal.key is None else f"key {principal.key}"
