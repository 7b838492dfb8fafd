"""What a turn goes on with: the items of its conversation or of its chain of responses, and how they are to be fitted.

A fork from a response that was made in a conversation sees the conversation as it was up to that response, by its
settings and at its cost. What a turn refers to, instead of saying it, is found here too. Knows the store; no template,
no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Final

from frontdesk.chat.asking import check_roles
from frontdesk.chat.context import Policy
from frontdesk.errors import Forbidden, InvalidRequest, NotFound, RequestRefused
from frontdesk.generation import Reference, Truncation, Turn
from frontdesk.messages import Item, item_id
from frontdesk.principal import Limits, Principal
from frontdesk.store.records import Answer, ConversationRecord, ResponseRecord
from frontdesk.store.responses import LONGEST_CHAIN
from frontdesk.store.store import Store
from frontdesk.wire._format import Call

ANSWER: Final = "msg_"  # before a response's id: the id of its answer


@dataclass(frozen=True, slots=True)
class History:
    """`items` oldest first, without summaries. `reserve` is the conversation's own wish, in tokens; `conversation` is
    the one whose budget pays. `persona` is what the caller always talks to, if that is fixed (see `Principal`)."""

    items: tuple[Item, ...] = ()
    summary: Item | None = None
    pinned: frozenset[str] = frozenset()
    policy: Policy = field(default_factory=lambda: Policy(truncation="disabled"))
    reserve: int | None = None
    conversation: str | None = None
    limits: Limits | None = None  # the conversation's own budget
    persona: str | None = None


class Histories:
    """`summarise`: whether a conversation that does not say otherwise puts a summary in the place of what leaves."""

    def __init__(self, store: Store, *, summarise: bool) -> None:
        self._store = store
        self._summarise = summarise

    async def of(self, turn: Turn, principal: Principal) -> History:
        """Raises `NotFound`, `InvalidRequest`, `Forbidden`."""
        if turn.conversation is not None:
            return await self.of_conversation(turn.conversation, principal, turn.truncation)
        if principal.conversation is not None:
            raise Forbidden("this token is good for one conversation only: name it in 'conversation'")
        records = await self._chain(turn.previous, principal) if turn.previous is not None else []
        said = tuple(item for record in records for item in (*record.input, *record.output))
        if records and records[0].conversation is not None:
            whole = await self.of_conversation(records[0].conversation, principal, turn.truncation)
            return _up_to(records[0], whole, said)
        policy = Policy(truncation=turn.truncation or "disabled")
        return History(said, policy=policy, persona=principal.persona)

    async def of_conversation(
        self, id: str, principal: Principal, truncation: Truncation | None = None
    ) -> History:
        record = await self.conversation(id, principal)
        items = await self._store.conversations.all_items(record.owner, id)
        summaries = [item for item in items if item.kind == "summary"]
        options: dict[str, Any] = record.options.get("context") or {}  # pyright: ignore[reportAssignmentType]
        policy = options.get("policy") or ("summarise" if self._summarise else "drop")
        given = {name: options[name] for name in ("keep_last", "long_message") if options.get(name) is not None}
        return History(
            items=tuple(item for item in items if item.kind != "summary"),
            summary=summaries[-1] if summaries else None,
            pinned=frozenset(options.get("pinned") or ()),
            policy=Policy(
                truncation=truncation or options.get("truncation") or "auto", summarise=policy == "summarise", **given
            ),
            reserve=options.get("reserve"),
            conversation=id,
            limits=_limits(record),
            persona=principal.persona,
        )

    async def conversation(self, id: str, principal: Principal) -> ConversationRecord:
        """The caller's conversation. Raises `NotFound`."""
        allowed = principal.conversation in (None, id)
        if not allowed or (record := await self._store.conversations.get(principal.owner, id)) is None:
            raise NotFound(f"conversation '{id}' was not found", param="conversation")
        return record

    async def resolved(self, call: Call, principal: Principal) -> Call:
        """The call with the caller's items in the places where it only refers to them. Each gets an id of its own, as
        anything that comes in does.

        Raises `NotFound`, `InvalidRequest` (the reply has not ended, or has failed), `Forbidden`.
        """
        if (turn := call.turn) is None or not turn.references:
            return call
        ids = [reference.id for reference in turn.references]
        within = principal.conversation
        replies = [id.removeprefix(ANSWER) for id in ids if id.startswith(ANSWER)]
        answers = await self._store.responses.answers(principal.owner, replies, conversation=within)
        known = {item.id: item for answer in answers for item in answer.output}
        empty = {ANSWER + answer.id: answer for answer in answers if not answer.output}
        if others := [id for id in ids if id not in known and id not in empty]:
            found = await self._store.conversations.items_named(principal.owner, others, conversation=within)
            known |= {item.id: item for item in found}
        input = list(turn.input)
        for reference in turn.references:
            if (item := known.get(reference.id)) is None:
                raise _nothing_said(reference, empty.get(reference.id))
            input.insert(turn.remembered + reference.place, replace(item, id=item_id(item.kind), covers=()))
        check_roles((item.message.role for item in known.values()), principal)
        return replace(call, turn=replace(turn, input=tuple(input), references=()))

    async def _chain(self, previous: str, principal: Principal) -> list[ResponseRecord]:
        """The response and all before it, oldest first."""
        records = await self._store.responses.chain(principal.owner, previous)
        missing = records[0].previous if records else previous
        if missing is not None and len(records) <= LONGEST_CHAIN:
            behind = f": 'resp_{previous}' goes on from what was deleted" if records else ""
            raise InvalidRequest(
                f"response 'resp_{missing}' was not found{behind}",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        if not records[-1].ended:
            raise InvalidRequest(
                f"response 'resp_{previous}' has not ended yet: wait for its end or cancel it",
                param="previous_response_id",
                code="previous_response_in_progress",
            )
        return records


def _nothing_said(reference: Reference, answer: Answer | None) -> RequestRefused:
    param = f"input.{reference.place}.id"
    if answer is None:
        why = "if it was deleted, or its response was not stored, send its text instead"
        return NotFound(f"item '{reference.id}' was not found: {why}", param=param)
    if answer.ended:
        return InvalidRequest(f"item '{reference.id}' has no text, as its response failed: leave it out", param=param)
    return InvalidRequest(
        f"item '{reference.id}' is still being written: wait for the end of 'resp_{answer.id}' or cancel it",
        param=param,
    )


def _up_to(first: ResponseRecord, whole: History, said: tuple[Item, ...]) -> History:
    """The conversation as a fork from its response `first` sees it: what stood before that, and what the chain `said`
    from there on. A summary that also stands for what came later is no part of it."""
    items = (*_before(first, whole.items), *said)
    summary = whole.summary
    if summary is not None and not {item.id for item in items}.issuperset(summary.covers):
        summary = None
    return replace(whole, items=items, summary=summary)


def _before(first: ResponseRecord, items: tuple[Item, ...]) -> list[Item]:
    """What stood in the conversation before the chain's first response: all that is older than it where none of its
    own items is there, as of a response that failed."""
    own = {item.id for item in (*first.input, *first.output)}
    if any(item.id in own for item in items):
        return list(takewhile(lambda item: item.id not in own, items))
    return [item for item in items if item.created <= first.created]


def _limits(record: ConversationRecord) -> Limits | None:
    budget: Any = record.options.get("budget") or {}
    return Limits(**budget) if budget else None
