"""`GET /v1/usage`: what the caller's key used, summed over the ledger, its visitors included. Nobody but the operator
(scope `admin`) sees another's."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.access.moments import moment
from frontdesk.access.report import groupings, usage_entry
from frontdesk.errors import InvalidRequest
from frontdesk.server.generate import json_response, principal_of
from frontdesk.server.query import check_names
from frontdesk.store.ledger import Ledger


class Usage:
    """The endpoint. `by`: what to sum by, separated by commas; `since` and `until`: see `access.moments`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/usage", self.sums, methods=["GET"], name="usage")]

    async def sums(self, request: Request) -> Response:
        principal = principal_of(request)
        check_names(request, "by", "since", "until")
        try:
            by = groupings(request.query_params.get("by", ""))
        except ValueError as error:
            raise InvalidRequest(str(error), param="by") from None
        since, until = _moment(request, "since"), _moment(request, "until")
        owner, key = principal.owner, principal.key
        if key is not None or "admin" in principal.scopes:
            owner = None
        if "admin" in principal.scopes:
            key = None
        rows = await self._ledger.sums(owner=owner, key=key, since=since, until=until, by=by)
        answer = {"object": "list", "data": [usage_entry(row) for row in rows], "since": since, "until": until}
        return json_response(answer)


def _moment(request: Request, name: str) -> float | None:
    if not (text := request.query_params.get(name)):
        return None
    try:
        return moment(text, time.time(), ahead=False)
    except ValueError as error:
        raise InvalidRequest(str(error), param=name) from None
