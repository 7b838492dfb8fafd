"""Query parameters. On routes that are our own nothing unknown passes (`check_names`): a misspelt one must not be
ignored. OpenAI's clients send more than we know, which their routes pass over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from frontdesk.errors import InvalidRequest

MAX_PAGE: Final = 100
DEFAULT_PAGE: Final = 20


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which stretch of a list. `after` is an id."""

    limit: int
    after: str | None
    descending: bool


def page_query(request: Request, is_entry: Callable[[str], bool]) -> PageQuery:
    """`limit`, `after` and `order` of a list, whose entries have ids that pass `is_entry`. Raises `InvalidRequest`."""
    limit = whole_number(request, "limit", DEFAULT_PAGE, 1, MAX_PAGE)
    order = choice(request, "order", "asc", "desc")
    after = request.query_params.get("after")
    if after is not None and not is_entry(after):
        raise InvalidRequest("'after' should be the id of an entry of this list", param="after")
    return PageQuery(limit, after, order != "asc")


def check_names(request: Request, *names: str) -> None:
    """Raises `InvalidRequest` for a parameter that is none of `names`."""
    for name in request.query_params:
        if name not in names:
            known = f"there are {', '.join(names)}" if names else "there are none"
            raise InvalidRequest(f"'{name[:40]}' is unknown here; {known}", param=name[:40])


def whole_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Raises `InvalidRequest` for anything else."""
    given = request.query_params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", given) or not least <= int(given) <= most:
        raise InvalidRequest(f"'{name}' should be a whole number from {least} to {most}", param=name)
    return int(given)


def choice(request: Request, name: str, *known: str) -> str | None:
    """One of `known`, or `None` when it is left out. Raises `InvalidRequest` for anything else."""
    given = request.query_params.get(name)
    if given is not None and given not in known:
        raise InvalidRequest(f"'{name}' should be one of {', '.join(known)}", param=name)
    return given


def seconds(request: Request, name: str) -> float:
    """A moment in seconds since 1970, 0 when it is left out. Raises `InvalidRequest` for anything else."""
    given = request.query_params.get(name, "0")
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", given):
        raise InvalidRequest(f"'{name}' should be a time in seconds since 1970", param=name)
    return float(given)
