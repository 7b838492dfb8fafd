"""Budgets and names on the command line, the same for keys and for widgets: options to values, values to a cell."""

from __future__ import annotations

import re
import time
from dataclasses import fields
from typing import Any

import typer

from frontdesk.cli import options
from frontdesk.principal import Limits

MOST = 2**53
LIFTED = "none"  # instead of a number: no limit any more
NAME_LENGTH = 100


def limit_option(words: str, metavar: str = "N") -> Any:
    """Taken as text, so that a wrong number is one line like everything else that is wrong."""
    return typer.Option(metavar=metavar, help=words)


def new_limit_option(words: str) -> Any:
    """The same for what there is already: it is set anew or lifted."""
    return limit_option(words, f"N|{LIFTED}")


def read_limits(
    tokens_per_minute: str | None,
    tokens_per_day: str | None,
    tokens_total: str | None,
    requests_per_minute: str | None,
    prefix: str = "--",
) -> Limits:
    """What the options say; `prefix` is what their names begin with. Leaves the command when one is no number."""
    return Limits(
        _count(f"{prefix}tokens-per-minute", tokens_per_minute),
        _count(f"{prefix}tokens-per-day", tokens_per_day),
        _count(f"{prefix}tokens-total", tokens_total),
        _count(f"{prefix}requests-per-minute", requests_per_minute),
    )


def read_changes(
    tokens_per_minute: str | None,
    tokens_per_day: str | None,
    tokens_total: str | None,
    requests_per_minute: str | None,
    prefix: str = "--",
) -> dict[str, int | None]:
    """The same for limits that there are already: fields of `Limits` and what each becomes, without those that stay."""
    given = (tokens_per_minute, tokens_per_day, tokens_total, requests_per_minute)
    kept = read_limits(*(None if text == LIFTED else text for text in given), prefix=prefix)
    pairs = zip(fields(kept), given, strict=True)
    return {field.name: getattr(kept, field.name) for field, text in pairs if text is not None}


def check_name(name: str, what: str) -> None:
    if not name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        options.fail(f"a {what}'s name is 1 to {NAME_LENGTH} printable characters")


def budgets(limits: Limits) -> str:
    """Such as `tokens/minute 10,000`."""
    set_ones = [(field.name, value) for field in fields(limits) if (value := getattr(limits, field.name)) is not None]
    return ", ".join(f"{name.replace('_per_', '/').replace('_', ' ')} {value:,}" for name, value in set_ones) or "-"


def day(at: int | None) -> str:
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _count(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9][0-9_,]{0,20}", text) or not 1 <= (count := int(re.sub("[_,]", "", text))) <= MOST:
        options.fail(f"{flag}: {text[:40]!r} is no whole number from 1 to {MOST:,}")
    return count
