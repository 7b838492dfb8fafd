"""The model that copies: its greedy replies repeat the prompt for long runs, and leave it now and then."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest
from make_model import SHAPES, write_model
from msgspec.structs import replace

from frontdesk.bench.prompts import unlike_words
from frontdesk.chat.sampling import DEFAULTS
from frontdesk.config import engine_environment, load
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tokenizer import open_tokenizer
from frontdesk.server.plan import plan
from frontdesk.worker.client import EngineClient
from frontdesk.worker.protocol import SequenceOutput

KINDS = ("q8_0", "q4_0", "q4_k_m")


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copying") / f"{request.param}.gguf"
    write_model(path, SHAPES["small"], request.param, copies=True)
    return path


async def test_it_repeats_its_prompt_and_leaves_it(model: Path) -> None:
    """Drafts from the prompt would be measured on text that is never, or always, in it."""
    tokenizer = open_tokenizer(model)
    start, end = (tokenizer.special[name] for name in ("<|im_start|>", "<|im_end|>"))
    text = unlike_words(random.Random(3), 60)
    said = {"system": "Repeat", "user": f"Repeat this text: {text}"}
    prompt: list[int] = []
    for role, content in said.items():
        prompt += [start, *tokenizer.encode(f"{role}\n{content}"), end, *tokenizer.encode("\n")]
    prompt += [start, *tokenizer.encode("assistant\n")]
    found = await _greedy(model, prompt, 60)
    told = b"".join(map(tokenizer.token_bytes, found)).decode(errors="replace")
    assert told.startswith("Repeat this te"), told
    there = set(pairwise(prompt))
    copied = [pair in there for pair in pairwise(found)]
    assert 0.3 < sum(copied) / len(copied) < 1.0, told


def test_a_shape_that_is_too_small_is_refused(tmp_path: Path) -> None:
    """A model would be written that copies nothing, and the comparison would blame the drafts."""
    with pytest.raises(ValueError, match="three layers"):
        write_model(tmp_path / "x.gguf", SHAPES["tiny"], "q8_0", copies=True)


async def _greedy(path: Path, prompt: list[int], tokens: int) -> list[int]:
    settings = load(arguments={"model": str(path), "ctx": 1024, "slots": 1})
    engine = EngineClient(plan(settings, card_for_file(path)), engine_environment())
    found: list[int] = []
    done = asyncio.Event()

    def take(output: SequenceOutput) -> None:
        found.extend(output.tokens)
        if output.finish:
            done.set()

    await engine.start()
    try:
        engine.submit(
            tuple(prompt), sampling=replace(DEFAULTS, temperature=0.0), max_tokens=tokens, stop_tokens=(),
            top_logprobs=-1, tenant=0, on_output=take, on_failed=lambda error: done.set(),
        )  # fmt: skip
        await done.wait()
    finally:
        await engine.close()
    return found
