"""From logits to tokens: llama.cpp's sampler chain on the few candidates that can win, and our own draw.

The draw's random number is a function of (seed, position) alone, so a reply that is continued by another engine goes on
as if nothing had happened. Knows no KV, no batch and no text.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frontdesk.engine.batch import Sampled
from frontdesk.engine.request import Logprobs, SamplingParams
from frontdesk.engine.sequence import Sequence
from frontdesk.llamacpp.library import llama_cpp

Row = NDArray[np.float32]
CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data
COLUMNS: Final = 32  # a large row is cut into this many parts to find its largest values
COLDEST: Final = 1e-6  # below it logits divided by the temperature leave the range of a float
LARGE: Final = 16_384  # entries; from here on the two-stage search pays
MOST_CHAINS: Final = 256  # kept at once; then all are made anew


class Chain:
    """The truncating samplers of one request, in llama.cpp's order; rebuilt for nobody, freed with the object."""

    def __init__(self, params: SamplingParams) -> None:
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        self._chain: Any = chain
        if params.top_k > 0:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_k(params.top_k))
        if params.typical_p < 1:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_typical(params.typical_p, 1))
        if params.top_p < 1:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
        temperature = max(params.temperature, COLDEST)
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(temperature))

    def apply(self, candidates: NDArray[np.void]) -> NDArray[np.void]:
        """Truncate and scale in place; returns the candidates that are left."""
        array = llama_cpp.llama_token_data_array(
            data=ctypes.cast(candidates.ctypes.data, llama_cpp.llama_token_data_p),
            size=len(candidates),
            selected=-1,
            sorted=False,
        )
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        return candidates[: array.size]

    def __del__(self) -> None:
        llama_cpp.llama_sampler_free(self._chain)


class Sampler:
    """Draws for many sequences. Keeps one chain for each distinct set of parameters, seeds apart."""

    def __init__(self) -> None:
        self._chains: dict[tuple[float, ...], Chain] = {}

    def sample(self, logits: NDArray[np.float32], sequences: list[Sequence]) -> list[Sampled]:
        """One token for each row of `logits`, shape (len(sequences), n_vocab)."""
        if all(_is_greedy_at_most_lowered(s.sampling) and s.top_logprobs < 0 for s in sequences):
            best = logits.argmax(axis=1).tolist()
            return [
                self._one(row, sequence) if _is_biased(token, sequence.sampling) else Sampled(token)
                for row, sequence, token in zip(logits, sequences, best, strict=True)
            ]
        return [self._one(row, sequence) for row, sequence in zip(logits, sequences, strict=True)]

    def _one(self, row: Row, sequence: Sequence) -> Sampled:
        params = sequence.sampling
        adjusted = adjust(row, sequence)
        token = int(adjusted.argmax()) if params.temperature <= 0 else self._draw(adjusted, params, sequence.generated)
        return Sampled(token, logprobs(row, token, sequence.top_logprobs) if sequence.top_logprobs >= 0 else None)

    def _draw(self, row: Row, params: SamplingParams, position: int) -> int:
        ids = largest(row, params.top_k) if 0 < params.top_k < len(row) else np.arange(len(row), dtype=np.int32)
        candidates = np.empty(len(ids), CANDIDATE)
        candidates["id"] = ids
        candidates["logit"] = row[ids]
        left = self._chain(params).apply(candidates)
        weights = np.exp((left["logit"] - left["logit"].max()).astype(np.float64))
        edges = np.cumsum(weights)
        index = int(np.searchsorted(edges, uniform(params.seed, position) * edges[-1], side="right"))
        return int(left["id"][min(index, len(left) - 1)])

    def _chain(self, params: SamplingParams) -> Chain:
        key = (params.top_k, params.typical_p, params.top_p, params.min_p, params.temperature)
        if (chain := self._chains.get(key)) is None:
            if len(self._chains) >= MOST_CHAINS:
                self._chains.clear()
            chain = self._chains[key] = Chain(params)
        return chain


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on these two integers only: two rounds of SplitMix64 (Steele et al., 2014)."""
    return (_mix(_mix(seed) + position) >> 11) * 2.0**-53


def largest(row: Row, k: int) -> NDArray[np.int32]:
    """Ids of at least the `k` largest entries, in rising order of id; ties at the border are all included.

    A large row is first cut into columns: no entry below the k-th largest column maximum can be among the k largest.
    """
    width = len(row) // COLUMNS
    if len(row) >= LARGE and k <= width:
        maxima = row[: width * COLUMNS].reshape(COLUMNS, width).max(axis=0)
        bound = np.partition(maxima, -k)[-k]
    else:
        bound = np.partition(row, -k)[-k]
    return np.flatnonzero(row >= bound).astype(np.int32)


def adjust(row: Row, sequence: Sequence) -> Row:
    """Logits after bias and penalties; `row` itself is never changed.

    Repeat penalty as in llama.cpp (divide positive logits, multiply negative ones) over the last `repeat_last_n`
    tokens; presence and frequency penalties as OpenAI defines them, over the reply so far.
    """
    params = sequence.sampling
    if not _is_adjusted(params):
        return row
    row = row.copy()
    for token, bias in params.logit_bias:
        if 0 <= token < len(row):
            row[token] += bias
    if params.repeat_penalty != 1 and params.repeat_last_n:
        recent = np.unique(np.asarray(sequence.tokens[-params.repeat_last_n :], dtype=np.int64))
        old = row[recent]
        row[recent] = np.where(old > 0, old / params.repeat_penalty, old * params.repeat_penalty)
    if (params.presence_penalty or params.frequency_penalty) and sequence.generated:
        reply = np.asarray(sequence.tokens[sequence.n_prompt :], dtype=np.int64)
        ids, counts = np.unique(reply, return_counts=True)
        row[ids] -= params.presence_penalty + params.frequency_penalty * counts.astype(np.float32)
    return row


def logprobs(row: Row, token: int, top: int) -> Logprobs:
    """Log-probabilities under the model's own distribution (temperature 1, nothing removed)."""
    shifted = row.astype(np.float64) - float(row.max())
    norm = float(np.log(np.exp(shifted).sum()))
    if top == 0:
        return Logprobs(float(shifted[token]) - norm)
    ids = largest(row, min(top, len(row)))
    ids = ids[np.argsort(-row[ids], kind="stable")][:top]
    return Logprobs(float(shifted[token]) - norm, tuple(ids.tolist()), tuple((shifted[ids] - norm).tolist()))


def _mix(value: int) -> int:
    mask = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def _is_adjusted(params: SamplingParams) -> bool:
    return bool(params.logit_bias or params.repeat_penalty != 1 or params.presence_penalty or params.frequency_penalty)


def _is_greedy_at_most_lowered(params: SamplingParams) -> bool:
    """The largest logit stays the largest, unless its own is lowered: `ignore_eos` spares copying a row of logits."""
    plain = params.repeat_penalty == 1 and not params.presence_penalty and not params.frequency_penalty
    return params.temperature <= 0 and plain and all(bias <= 0 for _, bias in params.logit_bias)


def _is_biased(token: int, params: SamplingParams) -> bool:
    return any(token == other for other, _ in params.logit_bias)
