"""Points in time as people write them: `2027-01-31`, `2027-01-31T12:00+02:00`, `30d`, `1801396800`. No zone: UTC."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_SPAN = re.compile(r"([0-9]{1,6})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LAST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()

FORMS = "write a date (2027-01-31), a time (2027-01-31T12:00Z) or a span (90m, 12h, 30d, 4w)"


def moment(text: str, now: float, *, ahead: bool) -> float:
    """Seconds since 1970. A span counts from `now`, into the future if `ahead`, else into the past.

    Raises `ValueError` with one line for its writer.
    """
    if span := _SPAN.fullmatch(text):
        seconds = int(span[1]) * _SECONDS[span[2]]
        value = now + seconds if ahead else now - seconds
    else:
        value = _absolute(text)
    if not (math.isfinite(value) and 0 <= value < _LAST):
        raise ValueError(f"{text[:40]!r} lies outside the years 1970 to 9998")
    return value


def _absolute(text: str) -> float:
    if re.fullmatch(r"[0-9]{9,12}(\.[0-9]{1,9})?", text):  # fewer digits would be a date: 20270131
        return float(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no point in time: {FORMS}") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
