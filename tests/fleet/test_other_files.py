"""Files that other people made: what they are, what they say of sampling, and what may kill whoever reads with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fleet.conftest import SHIPPED, write_gguf, write_spm

from frontdesk.errors import ModelLoadFailed
from frontdesk.fleet.pool import CHATML, Backend
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tokenizer import open_tokenizer
from frontdesk.generation import Sampling


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general.type": "adapter"}, "is no model, but a LoRA adapter: merge it into the model"),
        ({"general.type": "mmproj"}, "is no model, but the projector .* take the file of the model itself"),
        ({"clip.projector_type": "mlp"}, "is no model, but the projector"),
        ({"general.type": "imatrix"}, "is no model, but an importance matrix"),
    ],
)
def test_a_part_of_a_model_says_what_it_is(tmp_path: Path, metadata: dict[str, Any], reason: str) -> None:
    """The reason would be a key that is missing, or an option that there is not."""
    architecture = "clip" if "clip.projector_type" in metadata else "llama"
    with pytest.raises(ModelLoadFailed, match=reason):
        card_for_file(write_gguf(tmp_path / "part.gguf", metadata, architecture))


def test_the_files_own_sampling_is_used(tmp_path: Path) -> None:
    """A model would answer otherwise here than in llama.cpp, and than its makers say."""
    said = {"temp": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.0, "penalty_repeat": 1.1, "penalty_last_n": 128}
    card = card_for_file(sampling_file(tmp_path, said))
    assert card.sampling.temperature == pytest.approx(0.6)
    assert (card.sampling.top_k, card.sampling.min_p, card.sampling.repeat_last_n) == (20, 0.0, 128)
    assert (card.sampling.top_p, card.sampling.repeat_penalty) == (pytest.approx(0.9), pytest.approx(1.1))
    assert isinstance(card.sampling.top_k, int)
    assert card_for_file(SHIPPED).sampling == Sampling()


def test_sampling_that_no_request_may_ask_for(tmp_path: Path) -> None:
    """Every reply of the model would fail, or a file that can be served be refused."""
    said = {"temp": 7.5, "top_k": -1.0, "top_p": float("nan"), "min_p": True, "penalty_last_n": 1e9}
    card = card_for_file(sampling_file(tmp_path, said | {"penalty_repeat": "x"}))
    assert card.sampling == Sampling(temperature=2.0, top_k=1_000_000, repeat_last_n=4096)


def sampling_file(folder: Path, said: dict[str, Any]) -> Path:
    return write_gguf(folder / "model.gguf", {f"general.sampling.{key}": value for key, value in said.items()})


def test_a_model_without_a_template_ends_its_turns_in_text(tmp_path: Path, shipped: Path) -> None:
    """A base model would write ChatML's mark and go on with the customer's next question, up to the limit."""
    engine: Any = None
    ends = [
        Backend(card_for_file(file), open_tokenizer(file), CHATML, engine, template_assumed=assumed).turn_end
        for file in (shipped, write_spm(tmp_path / "base.gguf", "base"))
        for assumed in (True, False)
    ]
    assert ends == ["", "", "<|im_end|>", ""]


@pytest.mark.parametrize("run", ["hello world ", "a ", "e\u0301 "], ids=ascii)
def test_a_phrase_without_end_kills_nobody(vocab_file: Callable[..., Path], run: str) -> None:
    """One message would kill the server: exaone-moe's regex takes in words with the spaces between them, for ever."""
    tokenizer = open_tokenizer(vocab_file(pre="exaone-moe"))
    assert tokenizer.kind == "llama.cpp"
    text = "Hi " + run * (200_000 // len(run))
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()
    prose = "He said: it is fine, isn't it?\n" * 1000
    assert tokenizer.encode(prose * 2) == 2 * tokenizer.encode(prose)
