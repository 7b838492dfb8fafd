"""How a reply's tokens are drawn: the request's wishes, the model's defaults and llama.cpp's, made into one set."""

from __future__ import annotations

import secrets
from dataclasses import replace

from frontdesk.generation import GenerationRequest, Sampling
from frontdesk.worker.protocol import SamplingParams

# llama.cpp's own defaults, so that a GGUF answers here as it does there.
DEFAULTS = SamplingParams(
    temperature=0.8,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    typical_p=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    repeat_penalty=1.0,
    repeat_last_n=64,
    logit_bias=(),
    seed=0,
)


def sampling_params(wanted: Sampling, model: Sampling) -> SamplingParams:
    """Fill every gap: what the request says, else the model's default, else llama.cpp's."""

    def pick(name: str) -> object:
        for source in (wanted, model):
            if (value := getattr(source, name)) is not None:
                return value
        return getattr(DEFAULTS, name)

    values = {name: pick(name) for name in SamplingParams.__struct_fields__ if name not in ("logit_bias", "seed")}
    seed = wanted.seed if wanted.seed is not None else secrets.randbits(63)
    return SamplingParams(**values, logit_bias=wanted.logit_bias or model.logit_bias, seed=seed)  # pyright: ignore[reportArgumentType]


def effective(params: SamplingParams) -> Sampling:
    """What is really used, in the vocabulary of requests."""
    return Sampling(**{name: getattr(params, name) for name in params.__struct_fields__})


def with_seed(request: GenerationRequest, index: int) -> GenerationRequest:
    """Reply `index` of the same request draws other numbers than reply 0."""
    if index == 0 or request.sampling.seed is None:
        return request
    seed = (request.sampling.seed + index) % (1 << 63)
    return replace(request, sampling=replace(request.sampling, seed=seed))
