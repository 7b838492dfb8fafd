"""JSON values that more than one OpenAI format carries: token counts and token log probabilities. No framing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from frontdesk.generation import Event, Finished, TokenLogprob, Usage

LEAST_LOGPROB = -9999.0  # OpenAI's word for "never"; JSON has no infinity


def finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def token_logprob(entry: TokenLogprob) -> dict[str, Any]:
    """Bytes are exact; the text of a token that is part of a character is shown with replacement marks."""
    return {**_token(entry.data, entry.logprob), "top_logprobs": [_token(data, p) for _, data, p in entry.top]}


def token_logprobs(entries: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    return [token_logprob(entry) for entry in entries]


def _token(data: bytes, logprob: float) -> dict[str, Any]:
    return {"token": data.decode(errors="replace"), "bytes": list(data), "logprob": finite(logprob)}


def completion_usage(usages: Sequence[Usage]) -> dict[str, Any]:
    """Counts of all replies to one call. They share one prompt, which therefore counts once."""
    prompt, cached = (usages[0].prompt, usages[0].cached) if usages else (0, 0)
    completion = sum(usage.completion for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def finished(reply: Sequence[Event]) -> Finished:
    """The end of a reply that did not fail."""
    last = reply[-1]
    assert isinstance(last, Finished), "a failed reply is an error, not an answer"
    return last
