"""Replies as the service charges them, without a service: what a budget pays and what the ledger is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from frontdesk.chat.keeping import ledger_entry, spent
from frontdesk.chat.reply import Order, Outcome, Parameters, Reply
from frontdesk.chat.sampling import DEFAULTS
from frontdesk.fleet.pool import Backend
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tokenizer import open_tokenizer
from frontdesk.generation import ContextReport, Usage
from frontdesk.principal import Principal
from frontdesk.store.records import LedgerEntry
from frontdesk.wire.openai_responses import OpenAIResponses

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
NOBODY = cast(Any, None)  # neither an engine nor a keeper has anything to do here
BACKEND = Backend(card_for_file(SHIPPED), open_tokenizer(SHIPPED), "", NOBODY)
CALL = OpenAIResponses().parse({"input": "hello"})
PARAMETERS = Parameters(DEFAULTS, 1000, (), -1)


def ended(
    id: str, principal: Principal, tokens: int, began: float, now: float, conversation: str | None = None
) -> tuple[int, LedgerEntry]:
    """What a reply of so many tokens is charged that was ordered at `began` and ends at `now`, and its row."""
    usage = Usage(tokens // 2, 0, tokens - tokens // 2)
    prompt, report = (5,) * usage.prompt, ContextReport(1000, 0, usage.prompt, ())
    order = Order(id, int(began), CALL, BACKEND, prompt, PARAMETERS, report, principal, conversation=conversation)
    reply = Reply(order, NOBODY)
    reply.computed = True
    return spent(reply, usage), ledger_entry(reply, Outcome("stop", usage, int(now)))
