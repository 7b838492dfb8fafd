"""How often somebody new may come: so many a minute for each name, such as an address. In memory, for one server.

Whoever guesses names cannot fill the memory: at most `MOST_REMEMBERED` are kept, the one that came longest ago goes.
Knows no clock.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Hashable

SECONDS = 60.0
MOST_REMEMBERED = 4096


class Arrivals:
    """`most`: how many of one name may come in any 60 seconds. `now` is in seconds of any clock that only goes on."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._came: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def wait(self, name: Hashable, now: float) -> float:
        """Seconds until this one may come; 0 lets it in, and counts it."""
        came = self._came.setdefault(name, deque())
        self._came.move_to_end(name)
        while len(self._came) > MOST_REMEMBERED:
            self._came.popitem(last=False)
        while came and came[0] <= now - SECONDS:
            came.popleft()
        if len(came) >= self._most:
            return came[0] + SECONDS - now
        came.append(now)
        return 0.0


def network(address: str) -> str:
    """What stands for one person's machines: an IPv4 address, or the /64 network that an IPv6 address is in."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
