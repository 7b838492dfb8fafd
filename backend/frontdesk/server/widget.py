"""`POST /v1/widget/sessions`: the chat window on a shop's page gets its short-lived token, without the shop's server.

The page shows the widget's public id; the browser says from which origin it comes. Anybody's program can say so too,
so all that a session opens is a conversation with a fixed persona, at the cost of the widget's own budgets. Who a
visitor is counts only where the customer's server has signed it. `GET /v1/widgets` is the operator's list.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import structlog
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.access import visitors, widgets
from frontdesk.access.arrivals import Arrivals, network
from frontdesk.access.keys import state_of
from frontdesk.config import Settings
from frontdesk.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from frontdesk.server.body import read_json
from frontdesk.server.generate import json_response
from frontdesk.server.pacing import admit
from frontdesk.store.records import ConversationRecord, WidgetRecord
from frontdesk.store.store import Store
from frontdesk.wire._fields import StrictModel
from frontdesk.wire._ids import is_conversation_id
from frontdesk.wire._lists import list_json
from frontdesk.wire._validation import validated

log = structlog.stdlib.get_logger("frontdesk.access")

PATH = "/v1/widget/sessions"
BODY_BYTES = 16_384  # open to everybody, so no more is read than a session can need
MOST_NEW = 30  # in a minute: anonymous visitors of one widget from one address, and conversations of one visitor
MANY = f"there were {MOST_NEW} new {{}} in the last minute"


class SessionRequest(StrictModel):
    """Which widget asks, and who its visitor is. With neither `refresh` nor `identity`: somebody new."""

    # Of our own making: a misspelt identity must not be no identity.
    model_config = ConfigDict(extra="forbid")

    widget: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="The widget's id, `wgt_…`.")
    refresh: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, description="The refresh token of an earlier answer, `er_…`: the same visitor comes back."
    )
    identity: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, description="A JSON Web Token (HS256) of the customer's server: who the visitor is. Wins over `refresh`."
    )
    conversation: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="A conversation of this visitor. Absent: the newest one."
    )
    new: bool = Field(False, description="Begin a new conversation. Not together with `conversation`.")


class Widgets:
    """The endpoints. `secret` is the installation's: it signs tokens, and identity secrets follow from it.
    `personas` are the names that there are."""

    def __init__(self, store: Store, secret: bytes, settings: Settings, personas: Collection[str]) -> None:
        self._store = store
        self._secret = secret
        self._settings = settings
        self._personas = personas
        self._visitors = Arrivals(MOST_NEW)
        self._conversations = Arrivals(MOST_NEW)

    @property
    def routes(self) -> Sequence[Route]:
        return [
            Route(PATH, self.begin, methods=["POST"], name="begin_widget_session"),
            Route("/v1/widgets", self.list, methods=["GET"], name="list_widgets"),
        ]

    async def begin(self, request: Request) -> Response:
        body = await read_json(request.scope, request.receive, min(BODY_BYTES, self._settings.max_body_bytes))
        wanted = validated(SessionRequest, body)
        if wanted.new and wanted.conversation is not None:
            raise InvalidRequest("'conversation' and 'new' exclude each other: send only one", param="new")
        widget = await self._widget(wanted.widget)
        origin = _origin_of(request, widget)
        visitor = self._visitor(widget, wanted, request.client.host if request.client else "")
        conversation = await self._conversation(widget, wanted, visitor)
        token = visitors.VisitorToken(
            visitor.visitor, widget.key.id, conversation, widget.visitor_limits, origin, widget.persona or ""
        )
        text, expires = visitors.issue(self._secret, token, 60 * self._settings.visitor_minutes)
        refresh, refresh_expires = widgets.issue_refresh(self._secret, widget.id, visitor)
        answer = {
            "object": "widget.session",
            "token": text,
            "expires_at": expires,
            "refresh": refresh,
            "refresh_expires_at": refresh_expires,
            "visitor": {"id": visitor.visitor, "identified": visitor.identified, "name": visitor.name},
            "conversation": conversation,
            "widget": {"id": widget.id, "name": widget.key.name},
        }
        return json_response(answer)

    async def list(self, request: Request) -> Response:
        now = time.time()
        entries = [_shown(widget, now) for widget in await self._store.widgets.list()]
        return json_response(list_json(entries))

    async def _widget(self, id: str) -> WidgetRecord:
        widget = await self._store.widgets.by_id(id)
        if widget is None or state_of(widget.key, time.time()) != "active":
            raise NotFound(f"there is no widget {id!r}, or it was revoked", param="widget")
        if widget.persona and widget.persona not in self._personas:
            log.error("a widget's persona is missing", widget=widget.id, persona=widget.persona)
            raise Unavailable("this widget cannot answer now; its operator finds the reason in the log", retry_after=60)
        return widget

    def _visitor(self, widget: WidgetRecord, wanted: SessionRequest, address: str) -> widgets.Refresh:
        """Who comes: whom the customer's server names, else who came before, else somebody new."""
        key = widget.key.id
        if wanted.identity is not None:
            identity = widgets.read_identity(self._secret, widget.id, wanted.identity)
            id = widgets.identified_visitor(self._secret, key, identity.subject)
            return widgets.Refresh(id, True, identity.name)
        before = widgets.read_refresh(self._secret, widget.id, wanted.refresh) if wanted.refresh else None
        if widget.identified_only and not (before and before.identified):
            raise Forbidden(
                "this widget is for known visitors: send 'identity'", param="identity", code="identity_required"
            )
        if before is None:
            admit(self._visitors, (network(address), widget.id), MANY.format("visitors from one address"))
        return before or widgets.Refresh(visitors.visitor_id(self._secret, key, None), False, None)

    async def _conversation(self, widget: WidgetRecord, wanted: SessionRequest, visitor: widgets.Refresh) -> str:
        """The one that was asked for, else the newest, else a new one; an empty one is as good as new."""
        owner, kept = visitors.owner_of(visitor.visitor), self._store.conversations
        if (id := wanted.conversation) is not None:
            if not is_conversation_id(id) or await kept.get(owner, id) is None:
                raise NotFound(f"this visitor has no conversation {id!r}", param="conversation")
            return id
        if not wanted.new and (newest := (await kept.list(owner, limit=1)).items):
            return newest[0].id
        admit(self._conversations, visitor.visitor, MANY.format("conversations of one visitor"))
        now = int(time.time())
        name = {"name": visitor.name} if visitor.name is not None else {}
        record = ConversationRecord(
            f"conv_{secrets.token_hex(16)}", owner, now, now, metadata={"widget": widget.id, **name}
        )
        return await kept.newest_or_create(record, unused=wanted.new)


def _origin_of(request: Request, widget: WidgetRecord) -> str:
    """The origin of the page that embeds the widget. Raises `Forbidden` when it is none of the widget's."""
    origins = request.headers.getlist("origin")
    if not origins:
        raise Forbidden("a widget's session begins on a page: the Origin header is missing", code="origin_required")
    if len(origins) > 1 or origins[0] not in widget.origins:
        raise Forbidden(
            "pages of this origin may not use this widget; its operator can name them with "
            "`frontdesk widgets change ID --origin ORIGIN`",
            code="origin_not_allowed",
        )
    return origins[0]


def _shown(widget: WidgetRecord, now: float) -> dict[str, Any]:
    return {
        "id": widget.id,
        "name": widget.key.name,
        "origins": list(widget.origins),
        "persona": widget.persona,
        "state": state_of(widget.key, now),
    }
