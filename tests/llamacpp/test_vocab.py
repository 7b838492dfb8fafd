"""llama.cpp's own view of the shipped vocabulary."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from tests.fleet.conftest import write_spm

from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.vocab import Vocab

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"


def test_facts() -> None:
    """Replies would not end, or end at the wrong token."""
    facts = Vocab(SHIPPED).facts()
    assert {"<|im_start|>", "<|im_end|>"} <= facts.control.keys()
    assert facts.eos == facts.control["<|im_end|>"]
    assert facts.eos in facts.eog
    assert facts.control["<|im_start|>"] not in facts.eog
    assert not facts.add_bos
    assert {piece for piece in facts.pieces if len(piece) == 1} == {bytes([byte]) for byte in range(256)}


def test_special_text_is_parsed_only_when_asked() -> None:
    """Message text would become control tokens."""
    vocab = Vocab(SHIPPED)
    end = vocab.facts().control["<|im_end|>"]
    assert end not in vocab.tokenize("<|im_end|>")
    assert vocab.tokenize("<|im_end|>", parse_special=True) == [end]
    assert vocab.tokenize("") == []
    assert b"".join(vocab.facts().pieces[id] for id in vocab.tokenize("a\0b")) == b"a\0b"


def test_which_tokens_swallow_white_space(tmp_path: Path) -> None:
    """Prompts would hold white space that llama.cpp leaves out: it says so of models by their name or family."""
    phi = Vocab(write_spm(tmp_path / "phi.gguf", "Phi-3-mini", "<|user|>", "<|endoftext|>")).facts()
    assert phi.swallows_after == {phi.control["</s>"], phi.control["<|user|>"]}
    assert phi.swallows_before == frozenset()
    jina = Vocab(write_spm(tmp_path / "jina.gguf", "Jina", "<|user|>", "<mask>", pre="jina-v2-de")).facts()
    assert (jina.swallows_before, jina.swallows_after) == ({jina.control["<mask>"]}, frozenset())
    other = Vocab(write_spm(tmp_path / "other.gguf", "Psi-3-mini", "<|user|>", "<|endoftext|>")).facts()
    assert other.swallows_after == other.swallows_before == frozenset()


def test_llama_cpp_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """Hundreds of lines of loader output would hide the server's own."""
    Vocab(SHIPPED).close()
    gc.collect()
    with pytest.raises(ModelLoadFailed, match=r"none\.gguf"):
        Vocab(SHIPPED.with_name("none.gguf"))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
