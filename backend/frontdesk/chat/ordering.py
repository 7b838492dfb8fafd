"""From a call to the orders of its replies: ids, times, sampling and limits filled in. Knows no store, and of
budgets only who pays."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import replace
from typing import Final

from msgspec.structs import replace as replace_struct

from frontdesk.chat.prompting import Prompt
from frontdesk.chat.reply import Order, Parameters
from frontdesk.chat.sampling import sampling_params, with_seed
from frontdesk.chat.spending import Paying
from frontdesk.chat.stored import request_json
from frontdesk.generation import Truncation
from frontdesk.principal import Principal
from frontdesk.wire._format import Call

NEVER: Final = -1000.0  # added to the logit of a token that must not be drawn


def tenant_number(tenant: str) -> int:
    """A stable 63-bit number for a tenant's name, so that the engine sees integers only."""
    return int.from_bytes(hashlib.blake2b(tenant.encode(), digest_size=8).digest()) >> 1


def limit_of(call: Call, prompt: Prompt, reserve: int, left: int | None) -> int:
    """Tokens that one reply may have. A request that names no limit gets `reserve`, or its part of what is `left` of
    its budgets behind the prompt, which the `n` share: the rest of a window would be held for nothing."""
    if not call.generation.generate:
        return 0
    if call.generation.max_tokens is not None:
        return min(call.generation.max_tokens, prompt.room)
    wanted = min(prompt.room, reserve)
    return wanted if left is None else max(1, min(wanted, (left - len(prompt.tokens)) // call.n))


def order_for(
    call: Call,
    index: int,
    principal: Principal,
    prompt: Prompt,
    limit: int,
    *,
    created: int,
    paying: Paying,
    truncation: Truncation | None,
    idempotent: bool,
) -> Order:
    """The order of reply `index` of the call's `n`. `limit` is the most tokens that it may have, `created` in seconds
    since 1970, `truncation` what is done about a conversation that is too long; an `idempotent` one is stored whatever
    its format, so that it is found again."""
    backend = prompt.backend
    generation = with_seed(call.generation, index)
    sampling, ends = sampling_params(generation.sampling, backend.card.sampling), sorted(backend.tokenizer.eog)
    if generation.sampling.ignore_eos:
        sampling = replace_struct(sampling, logit_bias=(*sampling.logit_bias, *((token, NEVER) for token in ends)))
    parameters = Parameters(
        sampling=sampling,
        max_tokens=limit,
        stop_tokens=() if generation.sampling.ignore_eos else tuple(ends),
        top_logprobs=-1 if generation.top_logprobs is None else generation.top_logprobs,
    )
    turn = call.turn
    return Order(
        id=secrets.token_hex(16),
        created=created,
        call=call,
        backend=backend,
        prompt=prompt.tokens,
        parameters=parameters,
        report=prompt.report,
        principal=principal,
        tenant=tenant_number(principal.owner),
        public=prompt.public,
        conversation=turn.conversation if turn else None,
        conversation_limits=paying.limits,
        stored=generation.generate and (turn.store if turn else idempotent),
        background=turn is not None and turn.background,
        keyed=idempotent,
        paying=paying.conversation,
        truncation=truncation,
        first=index == 0,
    )


def stamped(call: Call) -> Call:
    """The wire has no clock: what the customer says is said now."""
    if (turn := call.turn) is None:
        return call
    now = int(time.time())
    return replace(call, turn=replace(turn, input=tuple(replace(item, created=now) for item in turn.input)))


def fingerprint(call: Call) -> bytes:
    """Tells another request from a repetition."""
    return hashlib.blake2b(request_json(call), digest_size=16).digest()
