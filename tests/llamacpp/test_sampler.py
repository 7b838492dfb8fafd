"""Drawing a token: what is left, how likely each is, and that nothing but seed and position decides.

The judge is llama.cpp's own chain on the whole row, and plain formulas where llama.cpp differs by intent.
"""

from __future__ import annotations

import ctypes
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.engine.request import SamplingParams
from frontdesk.engine.sequence import Sequence
from frontdesk.llamacpp.library import llama_cpp
from frontdesk.llamacpp.sampler import (
    CANDIDATE,
    COLUMNS,
    LARGE,
    MOST_CHAINS,
    Sampler,
    adjust,
    largest,
    logprobs,
    uniform,
)

KNOWN = (0.6524484863740322, 0.9579187413704255, 0.721411287901452)
OFF: dict[str, Any] = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "repeat_penalty": 1.0, "repeat_last_n": 64, "logit_bias": (), "seed": 7,
}  # fmt: skip


def sequence(tokens: tuple[int, ...] = (1, 2, 3), n_prompt: int = 3, top: int = -1, **changes: Any) -> Sequence:
    params = SamplingParams(**{**OFF, **changes})
    return Sequence(0, list(tokens), n_prompt, 100, 1000, frozenset(), params, top)


def logits(size: int, seed: int, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)


def left_by_llama(row: np.ndarray, **chain: float) -> dict[int, float]:
    """Ids that llama.cpp's chain leaves of the whole row, with their probabilities."""
    wanted = {**OFF, **chain}
    smpl = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for sampler in (
        llama_cpp.llama_sampler_init_top_k(wanted["top_k"]),
        llama_cpp.llama_sampler_init_typical(wanted["typical_p"], 1),
        llama_cpp.llama_sampler_init_top_p(wanted["top_p"], 1),
        llama_cpp.llama_sampler_init_min_p(wanted["min_p"], 1),
        llama_cpp.llama_sampler_init_temp(wanted["temperature"]),
    ):
        llama_cpp.llama_sampler_chain_add(smpl, sampler)
    data = np.zeros(len(row), CANDIDATE)
    data["id"], data["logit"] = np.arange(len(row)), row
    pointer = ctypes.cast(data.ctypes.data, llama_cpp.llama_token_data_p)
    array = llama_cpp.llama_token_data_array(data=pointer, size=len(row), selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(smpl, ctypes.byref(array))
    kept = data[: array.size]
    weights = np.exp(kept["logit"].astype(np.float64) - kept["logit"].max())
    llama_cpp.llama_sampler_free(smpl)
    return dict(zip(kept["id"].tolist(), (weights / weights.sum()).tolist(), strict=True))


def frequencies(row: np.ndarray, draws: int, **chain: Any) -> dict[int, float]:
    """How often each id comes, over many positions of one seed."""
    sampler, counts = Sampler(), {}
    for position in range(draws):
        one = sequence((1, *[0] * position), 1, **chain)
        [drawn] = sampler.sample(row[None], [one])
        counts[drawn.token] = counts.get(drawn.token, 0) + 1 / draws
    return counts


def test_uniform_depends_on_seed_and_position_only() -> None:
    """A continued or repeated reply would read differently; these numbers may never change between versions."""
    assert (uniform(0, 0), uniform(7, 3), uniform(2**63 - 1, 4096)) == KNOWN
    row = logits(100, 1)
    tokens = [Sampler().sample(row[None], [sequence((9, *reply), 1)])[0].token for reply in ((1, 2), (3, 4))]
    assert tokens[0] == tokens[1]


def test_a_shared_chain_draws_as_one_of_its_own() -> None:
    """A request would be answered by the parameters of another one, or the samplers of all that ever were be kept."""
    fields = ("top_k", "typical_p", "top_p", "min_p", "temperature")
    ranges = ((0, 3, 9, 20), (1.0, 0.9, 0.4), (1.0, 0.9, 0.5), (0.0, 0.1, 0.4), (0.5, 1.0, 2.0))
    chains: list[dict[str, Any]] = [dict(zip(fields, values, strict=True)) for values in product(*ranges)]
    assert len(chains) > MOST_CHAINS
    row, shared = logits(100, 1), Sampler()
    for position in range(4):  # a chain is made at the first one, and used again or made again later
        sequences = [sequence((9, *[0] * position), 1, **chain) for chain in chains]
        rows = np.stack([row] * len(chains))
        assert shared.sample(rows, sequences) == [Sampler().sample(row[None], [one])[0] for one in sequences]
        assert len(shared._chains) <= MOST_CHAINS


@pytest.mark.parametrize("by", ["position", "seed"])
def test_uniform_is_uniform(by: str) -> None:
    """Some words would come too often, or two replies of one request would be alike."""
    numbers = np.array([uniform(5, i) if by == "position" else uniform(i, 5) for i in range(20_000)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, 50, (0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 100  # chi-square with 49 degrees of freedom: 86 at one in a thousand
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.03


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([5, 100, LARGE - 1, LARGE, LARGE + 31, 40_000]),
       k=st.integers(1, 3000), levels=st.sampled_from([0, 3, 50]))  # fmt: skip
def test_largest_holds_the_largest(seed: int, size: int, k: int, levels: int) -> None:
    """The most likely words would be missing from the choice."""
    row = logits(size, seed)
    if levels:  # many ties
        row = np.round(row / row.max() * levels).astype(np.float32)
    k = min(k, size)
    ids = largest(row, k)
    assert len(ids) >= k
    assert (np.diff(ids) > 0).all()
    assert (np.sort(row[ids])[-k:] == np.sort(row)[-k:]).all()


def test_largest_when_each_column_has_one() -> None:
    """`top_k` over 512 would keep too few candidates of a vocabulary just above the border."""
    row = np.full(LARGE, -50.0, np.float32)
    row[: LARGE // COLUMNS] = np.arange(LARGE // COLUMNS)
    row[LARGE // COLUMNS :] -= np.random.default_rng(0).random(LARGE - LARGE // COLUMNS).astype(np.float32)
    k = 600
    assert (np.sort(row[largest(row, k)])[-k:] == np.sort(row)[-k:]).all()
    assert len(largest(row, k)) >= k


@pytest.mark.parametrize("size", [4096, 152_000])
@pytest.mark.parametrize(
    "chain",
    [
        {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8},
        {"top_k": 5},
        {"top_k": 1000, "top_p": 0.5},
        {"top_p": 0.3, "temperature": 1.7},
        {"min_p": 0.2},
        {"typical_p": 0.4},
        {"top_k": 60, "typical_p": 0.8, "top_p": 0.9, "min_p": 0.1, "temperature": 0.5},
        {"top_p": 0.0},
        {"temperature": 1e-40},
    ],
    ids=str,
)
def test_the_choice_is_llama_cpps(size: int, chain: dict[str, Any]) -> None:
    """A GGUF would answer here with other words than in llama.cpp."""
    row = logits(size, size)
    params = SamplingParams(**{**OFF, **chain})
    if chain.get("temperature") == 1e-40:  # llama.cpp itself overflows here; the likeliest must win
        assert frequencies(row, 5, **chain) == pytest.approx({int(row.argmax()): 1.0})
        return
    expected = left_by_llama(row, **chain)
    sampler = Sampler()
    ids = largest(row, params.top_k) if params.top_k else np.arange(size, dtype=np.int32)
    candidates = np.empty(len(ids), CANDIDATE)
    candidates["id"], candidates["logit"] = ids, row[ids]
    left = sampler._chain(params).apply(candidates)
    weights = np.exp(left["logit"].astype(np.float64) - left["logit"].max())
    assert set(left["id"].tolist()) == set(expected)
    ours = dict(zip(left["id"].tolist(), (weights / weights.sum()).tolist(), strict=True))
    assert all(ours[id] == pytest.approx(expected[id], rel=1e-5) for id in expected)


@pytest.mark.parametrize(
    "chain", [{"top_k": 8}, {"top_k": 40, "top_p": 0.9, "min_p": 0.05, "temperature": 0.7}], ids=str
)
def test_draws_follow_the_probabilities(chain: dict[str, Any]) -> None:
    """Temperature and top_p would not do what they say."""
    row = logits(4096, 3)
    expected = left_by_llama(row, **chain)
    drawn = frequencies(row, 4000, **chain)
    assert set(drawn) <= set(expected)
    assert sum(abs(drawn.get(id, 0) - p) for id, p in expected.items()) / 2 < 0.05


@settings(max_examples=150, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 19), min_size=1, max_size=30), data=st.data(),
    repeat=st.sampled_from([1.0, 1.3, 0.7, 2.0]), last=st.sampled_from([0, 1, 5, 64]),
    presence=st.sampled_from([0.0, 1.5, -2.0]), frequency=st.sampled_from([0.0, 0.5, -1.0]),
)  # fmt: skip
def test_penalties_by_the_formula(
    tokens: list[int], data: st.DataObject, repeat: float, last: int, presence: float, frequency: float
) -> None:
    """Words would repeat, or vanish, although the request says otherwise."""
    n_prompt = data.draw(st.integers(0, len(tokens)))
    row = logits(20, 9)
    before = row.copy()
    one = sequence(tuple(tokens), n_prompt, repeat_penalty=repeat, repeat_last_n=last, presence_penalty=presence,
                   frequency_penalty=frequency, logit_bias=((3, 2.5), (3, -1.0), (400, 9.0), (-1, 9.0)))  # fmt: skip
    recent, reply = tokens[len(tokens) - min(last, len(tokens)) :], tokens[n_prompt:]
    for token, value in enumerate(adjust(row, one).tolist()):
        expected = float(before[token]) + (1.5 if token == 3 else 0.0)
        if token in recent:
            expected = expected / repeat if expected > 0 else expected * repeat
        expected -= (presence if token in reply else 0.0) + frequency * reply.count(token)
        assert value == pytest.approx(expected, abs=1e-4)
    assert (row == before).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_bias_forbids_and_forces(temperature: float) -> None:
    """A word that a client rules out would be said."""
    row = logits(4096, 5)
    best = int(row.argmax())
    forbid = sequence(temperature=temperature, logit_bias=((best, -100.0),))
    force = sequence(temperature=temperature, logit_bias=((17, 100.0),))
    sampler = Sampler()
    tokens = [drawn.token for drawn in sampler.sample(np.stack([row, row]), [forbid, force])]
    assert tokens[0] != best
    assert tokens[1] == 17


def test_temperature_0_takes_the_likeliest() -> None:
    """Greedy replies would not be repeatable; those beside a sampled one least of all."""
    rows = np.stack([logits(4096, seed) for seed in range(3)])
    greedy = [sequence(temperature=0.0, seed=seed) for seed in range(3)]
    mixed = [greedy[0], sequence(), sequence(temperature=0.0, top=2)]
    best = rows.argmax(axis=1).tolist()
    assert [drawn.token for drawn in Sampler().sample(rows, greedy)] == best
    drawn = Sampler().sample(rows, mixed)
    assert [drawn[0].token, drawn[2].token] == [best[0], best[2]]
    assert drawn[0].logprobs is None
    assert drawn[2].logprobs is not None


@given(
    levels=st.lists(st.integers(-3, 3), min_size=4, max_size=12),
    lowered=st.lists(st.tuples(st.integers(0, 11), st.integers(-3, 0)), max_size=4),
)
def test_what_is_only_lowered_gives_the_same_greedy_token(levels: list[int], lowered: list[tuple[int, int]]) -> None:
    """A reply with `ignore_eos` or a negative bias would differ from what its adjusted logits say; ties included."""
    row = np.asarray(levels, dtype=np.float32)
    one = sequence(temperature=0.0, logit_bias=tuple((token, float(bias)) for token, bias in lowered))
    plain = sequence(temperature=0.0)
    drawn = Sampler().sample(np.stack([row, row]), [one, plain])
    assert [item.token for item in drawn] == [int(adjust(row, one).argmax()), int(row.argmax())]


@pytest.mark.parametrize("size", [50, 30_000])
def test_logprobs_are_the_models_own(size: int) -> None:
    """Clients that weigh answers by their probability would weigh wrong."""
    row = logits(size, 2)
    exact = row.astype(np.float64) - math.log(np.exp(row.astype(np.float64)).sum())
    told = logprobs(row, 11, 20)
    assert told.logprob == pytest.approx(exact[11])
    assert list(told.top_ids) == np.argsort(-row, kind="stable")[:20].tolist()
    assert list(told.top_logprobs) == pytest.approx(exact[list(told.top_ids)].tolist())
    assert logprobs(row, 11, 0).top_ids == ()
    everything = logprobs(logits(20, 2), 3, 20)
    assert sum(math.exp(p) for p in everything.top_logprobs) == pytest.approx(1.0)
