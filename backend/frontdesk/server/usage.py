"""`GET /v1/usage`: what the caller's key used, summed over the ledger, its visitors included. Nobody but the operator
(scope `admin`) sees another's."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.access.moments import moment
from frontdesk.access.report import groupings, usage_entry
from frontdesk.errors import InvalidRequest
from frontdesk.server.generate import json_response, principal_of
from frontdesk.server.query import check_names, whole_number
from frontdesk.store.ledger import Ledger
from frontdesk.store.records import Grouping
from frontdesk.wire._frames import json_bytes
from frontdesk.wire._lists import list_json

DEFAULT_PAGE: Final = 1_000
MAX_PAGE: Final = 10_000  # rows that are made into JSON at once: no stream gets a token meanwhile

_groups = msgspec.json.Decoder(dict[str, str | None])


class Usage:
    """The endpoint. `by`: what to sum by, separated by commas; `since` and `until`: see `access.moments`; `limit` and
    `after`: which page of the rows."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/usage", self.sums, methods=["GET"], name="usage")]

    async def sums(self, request: Request) -> Response:
        principal = principal_of(request)
        check_names(request, "by", "since", "until", "limit", "after")
        try:
            by = groupings(request.query_params.get("by", ""))
        except ValueError as error:
            raise InvalidRequest(str(error), param="by") from None
        since, until = _moment(request, "since"), _moment(request, "until")
        limit = whole_number(request, "limit", DEFAULT_PAGE, 1, MAX_PAGE)
        after = _place(request, by)
        owner, key = principal.owner, principal.key
        if key is not None or "admin" in principal.scopes:
            owner = None
        if "admin" in principal.scopes:
            key = None
        rows = await self._ledger.sums(
            owner=owner, key=key, since=since, until=until, by=by, limit=limit + 1, after=after
        )
        page = list_json([{"id": _id(row, by), **usage_entry(row)} for row in rows[:limit]], has_more=len(rows) > limit)
        return json_response({**page, "since": since, "until": until})


def _id(row: Mapping[str, Any], by: Sequence[Grouping]) -> str:
    """What the row was summed by, in base64url: a list can go on behind it."""
    return urlsafe_b64encode(json_bytes({name: row[name] for name in by})).decode().rstrip("=")


def _place(request: Request, by: Sequence[Grouping]) -> Mapping[str, str | None] | None:
    """What the row with the id `after` was summed by. It need not be there any more: the span `7d` moves on."""
    if (id := request.query_params.get("after")) is None:
        return None
    try:
        place = _groups.decode(urlsafe_b64decode(id + "=="))
        date.fromisoformat(place.get("day") or "1970-01-01")
    except ValueError:
        place = None
    if place is None or tuple(place) != tuple(by):
        raise InvalidRequest("'after' should be the id of an entry of a list with the same 'by'", param="after")
    return place


def _moment(request: Request, name: str) -> float | None:
    if not (text := request.query_params.get(name)):
        return None
    try:
        return moment(text, time.time(), ahead=False)
    except ValueError as error:
        raise InvalidRequest(str(error), param=name) from None
