"""The random-weight models of the benchmarks: real enough for llama.cpp, for our tokenizer and for a decode."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from make_model import CHATML, KINDS, SHAPES, write_model
from msgspec.structs import replace

from frontdesk.chat.sampling import DEFAULTS
from frontdesk.config import engine_environment, load
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tokenizer import open_tokenizer
from frontdesk.server.plan import plan
from frontdesk.worker.client import EngineClient
from frontdesk.worker.protocol import SequenceOutput

TINY = SHAPES["tiny"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny.gguf"
    write_model(path, TINY, "q8_0")
    return path


def test_the_vocabulary_is_counted_by_tiktoken(tiny: Path) -> None:
    """Benchmarks would measure the slow tokenizer, which no real model of this kind uses."""
    tokenizer = open_tokenizer(tiny)
    assert tokenizer.kind == "tiktoken"
    assert tokenizer.n_vocab == TINY.n_vocab
    assert set(tokenizer.special) >= {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    assert tokenizer.special["<|im_end|>"] in tokenizer.eog
    assert tokenizer.count("the front desk is open") < len("the front desk is open")
    assert read_metadata(tiny)["tokenizer.chat_template"] == CHATML


@pytest.mark.parametrize("kind", KINDS)
async def test_it_decodes_and_does_not_stand_still(tmp_path: Path, kind: str) -> None:
    """A reply that is one token over and over would make speculation and compression look too good."""
    path = tmp_path / f"{kind}.gguf"
    write_model(path, TINY, kind)
    found = await _greedy(path, 40)
    assert len(found) == 40
    assert len(set(found)) > 8


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    """Figures of two machines would be of two models."""
    paths = [tmp_path / "a.gguf", tmp_path / "b.gguf", tmp_path / "c.gguf"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_model(path, TINY, "q8_0", seed)
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b != c


async def _greedy(path: Path, tokens: int) -> list[int]:
    settings = load(arguments={"model": str(path), "ctx": 256, "slots": 1})
    engine = EngineClient(plan(settings, card_for_file(path)), engine_environment())
    found: list[int] = []
    done = asyncio.Event()

    def take(output: SequenceOutput) -> None:
        found.extend(output.tokens)
        if output.finish:
            done.set()

    assert (await engine.start()).n_vocab == TINY.n_vocab
    try:
        engine.submit(
            (300, 400, 500, 600), sampling=replace(DEFAULTS, temperature=0.0), max_tokens=tokens, stop_tokens=(),
            top_logprobs=-1, tenant=0, on_output=take, on_failed=lambda error: done.set(),
        )  # fmt: skip
        await done.wait()
    finally:
        await engine.close()
    return found
