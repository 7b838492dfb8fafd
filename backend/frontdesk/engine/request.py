"""What an engine is asked for and what it answers: integers only, no text.

These types also cross the process boundary as they are (`worker/protocol` frames them), so they are msgspec structs,
encoded as arrays. Sampling defaults live with the service; here every value is given.
"""

from __future__ import annotations

import msgspec


class SamplingParams(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """`generation.Sampling` with every default filled in."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    presence_penalty: float
    frequency_penalty: float
    repeat_penalty: float
    repeat_last_n: int
    logit_bias: tuple[tuple[int, float], ...]
    seed: int


class Submit(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Start or continue a reply.

    `emitted` are tokens of this reply that were already delivered (a former engine died): they count as generated,
    are never emitted again, and the next token's random number is the one of its position.
    `tenant` separates KV prefixes: requests share one only with requests of the same tenant, but for the first `public`
    tokens of the prompt, which are the operator's own words and nobody's secret.
    """

    id: int
    prompt: tuple[int, ...]
    emitted: tuple[int, ...]
    max_tokens: int  # of the whole reply, `emitted` included; 0 = prefill only
    stop_tokens: tuple[int, ...]  # end-of-turn ids; empty with ignore_eos
    sampling: SamplingParams
    top_logprobs: int = -1  # -1 = none
    tenant: int = 0
    public: int = 0


class Abort(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Stop this reply; answered by nothing. Unknown ids are ignored (it may just have finished)."""

    id: int


class Logprobs(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Of one token: its own log-probability and the best alternatives, most likely first."""

    logprob: float
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


class SequenceOutput(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """What one step did for one reply.

    `finish` is '' while it goes on, 'stop' (the last token is one of `stop_tokens`), 'length' (max_tokens or the window
    was reached) or 'error'. `cached` is told once, with the first token: prompt tokens whose KV was already there. One
    without tokens and without a finish says that a part of the prompt has been computed.
    """

    id: int
    tokens: tuple[int, ...]
    finish: str = ""
    cached: int = -1
    logprobs: tuple[Logprobs, ...] = ()

    @property
    def reading(self) -> bool:
        """Whether this says nothing but that a part of the prompt has been computed."""
        return not self.tokens and not self.finish
