"""Thumbs and comments: put on an answer by whoever it was for, and read by the operator, of all owners.

Only what the assistant said can be rated. What belongs to somebody else is answered like what does not exist. The
operator's list holds texts of users, which nothing else here does: it needs the scope `admin`.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.errors import InvalidRequest, NotFound
from frontdesk.server.body import read_json
from frontdesk.server.generate import json_response
from frontdesk.server.naming import conversation_named, item_named, no_item
from frontdesk.server.pacing import Writes
from frontdesk.server.query import check_names, choice, page_query
from frontdesk.store.records import FeedbackRecord, RatedAnswer, Rating
from frontdesk.store.store import Store
from frontdesk.wire._fields import StrictModel
from frontdesk.wire._lists import list_json
from frontdesk.wire._validation import validated

LONGEST_COMMENT = 2000  # characters
SHOWN = 2000  # characters of a question and of an answer
FEEDBACK_ID = re.compile(r"fb_[0-9a-f]{32}")
ONE = "/v1/conversations/{id}/items/{item}/feedback"


class FeedbackRequest(StrictModel):
    """Body of `POST …/feedback`."""

    model_config = ConfigDict(extra="forbid")

    rating: Literal["up", "down"] = Field(description="Whether the answer is good.")
    comment: Annotated[str, Field(max_length=LONGEST_COMMENT)] | None = Field(
        None, description=f"Why, in up to {LONGEST_COMMENT} characters."
    )


class Feedback:
    """The endpoints. `body_bytes` is the most that a body may have."""

    def __init__(self, store: Store, body_bytes: int, writes: Writes) -> None:
        self._items = store.conversations
        self._kept = store.feedback
        self._body_bytes = body_bytes
        self._writes = writes

    @property
    def routes(self) -> list[Route]:
        return [
            Route(ONE, self.put, methods=["POST"], name="put_feedback"),
            Route(ONE, self.delete, methods=["DELETE"], name="delete_feedback"),
            Route("/v1/conversations/{id}/feedback", self.of_conversation, methods=["GET"], name="list_feedback"),
            Route("/v1/feedback", self.newest, methods=["GET"], name="newest_feedback"),
        ]

    async def put(self, request: Request) -> Response:
        wanted = validated(FeedbackRequest, await read_json(request.scope, request.receive, self._body_bytes))
        principal, conversation = conversation_named(request)
        self._writes.admit(principal)
        item_id = item_named(request)
        item = await self._items.item(principal.owner, conversation, item_id)
        if item is None:
            raise no_item(item_id)
        if item.kind != "message" or item.message.role != "assistant":
            raise InvalidRequest("only what the assistant said can be rated", param="item_id")
        record = FeedbackRecord(
            id=f"fb_{secrets.token_hex(16)}",
            conversation=conversation,
            item=item_id,
            rating=wanted.rating,
            comment=wanted.comment or None,
            created=int(time.time()),
        )
        return json_response(_shown(await self._kept.put(principal.owner, record)))

    async def delete(self, request: Request) -> Response:
        principal, conversation = conversation_named(request)
        self._writes.admit(principal)
        item_id = item_named(request)
        if (gone := await self._kept.delete(principal.owner, conversation, item_id)) is None:
            raise NotFound(f"there is no feedback on item '{item_id}' in this conversation", param="item_id")
        answer = {
            "id": gone.id,
            "object": "feedback.deleted",
            "conversation": conversation,
            "item": item_id,
            "deleted": True,
        }
        return json_response(answer)

    async def of_conversation(self, request: Request) -> Response:
        principal, conversation = conversation_named(request)
        records = await self._kept.of_conversation(principal.owner, conversation)
        return json_response(list_json([_shown(record) for record in records]))

    async def newest(self, request: Request) -> Response:
        check_names(request, "rating", "limit", "after")
        rating = cast("Rating | None", choice(request, "rating", "up", "down"))
        query = page_query(request, lambda id: FEEDBACK_ID.fullmatch(id) is not None)
        page = await self._kept.newest(rating=rating, limit=query.limit, after=query.after)
        return json_response(list_json([_rated(answer) for answer in page.items], has_more=page.has_more))


def _shown(record: FeedbackRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "feedback",
        "conversation": record.conversation,
        "item": record.item,
        "rating": record.rating,
        "comment": record.comment,
        "created_at": record.created,
    }


def _rated(answer: RatedAnswer) -> dict[str, Any]:
    question = None if answer.question is None else answer.question[:SHOWN]
    return {
        **_shown(answer.feedback),
        "question": question,
        "answer": answer.answer[:SHOWN],
        "model": answer.model,
    }
