"""`POST /v1/visitors`: a shop's server, which has a key, asks for the token that its page then chats with.

The page gets no key. When the token is about to expire, the shop's server asks again with the same `visitor` and hands
the new one over; conversations stay, as they belong to the visitor and not to the token.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.access import visitors
from frontdesk.config import Settings
from frontdesk.errors import NotFound
from frontdesk.principal import Limits
from frontdesk.server.body import read_json
from frontdesk.server.generate import json_response, principal_of
from frontdesk.store.store import Store
from frontdesk.wire._fields import StrictModel
from frontdesk.wire._validation import validated

MOST_MINUTES = 1440  # as the setting
TokenBudget = Annotated[int, Field(ge=1, le=2**53)]


class VisitorRequest(StrictModel):
    """Whom the token is for, how long it is good and what it may spend. Everything may be left out."""

    # A misspelt budget must not be no budget.
    model_config = ConfigDict(extra="forbid")

    visitor: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="A visitor's id from an earlier answer, or your own name for a person. Absent: a new one."
    )
    conversation: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="Id of a conversation of this visitor: the token is then good for no other."
    )
    minutes: Annotated[float, Field(gt=0, le=MOST_MINUTES, allow_inf_nan=False)] | None = Field(
        None, description="Minutes for which the token is good. Absent: the server's setting."
    )
    tokens_per_minute: TokenBudget | None = Field(None, description="The visitor's token budget for each minute.")
    tokens_per_day: TokenBudget | None = Field(None, description="The visitor's token budget for each day in UTC.")
    tokens_total: TokenBudget | None = Field(None, description="The visitor's token budget in total.")
    requests_per_minute: Annotated[int, Field(ge=1, le=2**31)] | None = Field(
        None, description="The visitor's requests in each minute."
    )

    def limits(self) -> Limits:
        return Limits(self.tokens_per_minute, self.tokens_per_day, self.tokens_total, self.requests_per_minute)


class Visitors:
    """The endpoint. `secret` signs the tokens, and is the one that the gatekeeper reads them with."""

    def __init__(self, store: Store, secret: bytes, settings: Settings) -> None:
        self._store = store
        self._secret = secret
        self._settings = settings

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/visitors", self.create, methods=["POST"], name="visitors")]

    async def create(self, request: Request) -> Response:
        principal = principal_of(request)
        body = await read_json(request.scope, request.receive, self._settings.max_body_bytes)
        wanted = validated(VisitorRequest, body)
        visitor = visitors.visitor_id(self._secret, principal.key, wanted.visitor)
        if wanted.conversation is not None:
            await self._check(visitor, wanted.conversation)
        token = visitors.VisitorToken(visitor, principal.key, wanted.conversation, wanted.limits())
        seconds = 60 * (wanted.minutes or self._settings.visitor_minutes)
        text, expires = visitors.issue(self._secret, token, seconds)
        answer = {
            "object": "visitor.token",
            "value": text,
            "expires_at": expires,
            "visitor": {"id": visitor},
            "conversation": wanted.conversation,
        }
        return json_response(answer)

    async def _check(self, visitor: str, conversation: str) -> None:
        if await self._store.conversations.get(visitors.owner_of(visitor), conversation) is None:
            raise NotFound(f"this visitor has no conversation {conversation[:64]!r}", param="conversation")
