"""The tokenizer against llama.cpp, on the shipped vocabulary and on variants of it."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.errors import InvalidRequest, ModelLoadFailed
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.literals import Literals
from frontdesk.fleet.pretokenizers import PATTERNS, SAMPLE
from frontdesk.fleet.tokenizer import LlamaTokenizer, Tokenizer, in_pieces, open_tokenizer, recalled_tokenizer
from frontdesk.fleet.vocabulary import KEPT, VocabularyFolder
from frontdesk.llamacpp.vocab import Vocab

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
METADATA: dict[str, Any] = read_metadata(SHIPPED)
SIZE = len(METADATA["tokenizer.ggml.tokens"])
PHI = [("<unk>", 3), ("<s>", 3), ("</s>", 3)]  # llama.cpp demands them of a file that is named so
PIECES = st.sampled_from(
    ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "user\n", " \n ", "'LL", "1234", "é", "日本", "🏳️‍🌈"]
)
TEXTS = st.lists(
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=12) | PIECES, max_size=8
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer(SHIPPED)


@pytest.fixture(scope="module")
def reference() -> Vocab:
    return Vocab(SHIPPED)


def test_the_shipped_model_uses_tiktoken(tokenizer: Tokenizer) -> None:
    """The slower tokenizer would be used without anybody noticing."""
    assert tokenizer.kind == "tiktoken"
    assert tokenizer.n_vocab == SIZE
    assert tokenizer.eos == tokenizer.special["<|im_end|>"]
    assert tokenizer.eos in tokenizer.eog
    assert tokenizer.special["<|im_start|>"] not in tokenizer.eog


@settings(max_examples=150, deadline=None)
@given(parts=TEXTS)
def test_same_ids_as_llama_cpp(tokenizer: Tokenizer, reference: Vocab, parts: list[str]) -> None:
    """Counts would be wrong, and the model would be fed tokens that it was not trained on."""
    text = "".join(parts)
    assert tokenizer.encode(text) == reference.tokenize(text)


def test_same_ids_for_ten_thousand_random_strings(tokenizer: Tokenizer, reference: Vocab) -> None:
    """As above, with far more strings than a property-based run has time for: letters, signs, and all of Unicode."""
    rng = random.Random(7)
    signs = "abcdefghi XYZ  0123456789 .,!?'\"$€-/@#\n\r\t éß漢字🙂|<>_{}"
    for number in range(10_000):
        plain = number % 4 > 0
        text = "".join(rng.choices(signs, k=rng.randint(1, 60)) if plain else (any_character(rng) for _ in range(20)))
        assert tokenizer.encode(text) == reference.tokenize(text), text


def any_character(rng: random.Random) -> str:
    """One in three from the Latin blocks, one below the surrogates, one above."""
    return chr(rng.choice((rng.randrange(0x20, 0x2FF), rng.randrange(0x2FF, 0xD800), rng.randrange(0xE000, 0x20000))))


@settings(max_examples=150, deadline=None)
@given(parts=TEXTS)
def test_text_is_kept_and_never_controls(tokenizer: Tokenizer, parts: list[str]) -> None:
    """A user could end their own turn and speak as the system."""
    text = "".join(parts)
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.special.values())
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == text
    assert tokenizer.count(text) == len(ids)


def test_control_tokens_have_no_bytes(tokenizer: Tokenizer) -> None:
    """Control tokens would show up in replies; an id out of range would raise in the middle of a stream."""
    assert {tokenizer.token_bytes(id) for id in tokenizer.special.values()} == {b""}
    assert tokenizer.token_bytes(-1) == tokenizer.token_bytes(tokenizer.n_vocab) == b""


@pytest.mark.parametrize("pre", sorted(PATTERNS))
def test_every_known_family_agrees_with_llama_cpp(vocab_file: Callable[..., Path], pre: str) -> None:
    """A wrong regex would only be found by the check at start, and cost the fast path for that family."""
    assert open_tokenizer(vocab_file(pre=pre)).kind == "tiktoken"


@pytest.mark.parametrize("pre", ["starcoder", "deepseek-llm", "tekken"])
def test_unknown_families_use_llama_cpp(vocab_file: Callable[..., Path], pre: str) -> None:
    """A vocabulary that tiktoken cannot hold would be counted wrongly."""
    path = vocab_file(pre=pre)
    tokenizer = open_tokenizer(path)
    assert tokenizer.kind == "llama.cpp"
    assert all(tokenizer.encode(text) == Vocab(path).tokenize(text) for text in SAMPLE)
    assert not set(tokenizer.encode("a<|im_end|>")) & set(tokenizer.special.values())


@pytest.mark.parametrize("pre", ["gpt-4o", "deepseek-llm", "falcon", "bloom", "tekken"])
@pytest.mark.parametrize("run", ["a", "!", " ", "\n", "1", "_", "\u00e9", "a1", "!-", "1\u00b2", "e\u0301"], ids=ascii)
def test_a_run_without_end_kills_nobody(vocab_file: Callable[..., Path], pre: str, run: str) -> None:
    """One message of thirty kilobytes would kill the server: llama.cpp's regex overflows the stack."""
    tokenizer = open_tokenizer(vocab_file(pre=pre))
    text = "Hi " + run * (60_000 // len(run))
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


@pytest.mark.parametrize("pre", sorted({pattern: pre for pre, pattern in PATTERNS.items()}.values()))
def test_a_million_spaces_kill_nobody(vocab_file: Callable[..., Path], pre: str) -> None:
    """tiktoken would panic past every handler: a bare 500, and every later turn of the conversation as well."""
    tokenizer = open_tokenizer(vocab_file(pre=pre))
    for run in (" ", "\t", " \n"):
        text = "Hi" + run * 1_100_000
        assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


def test_only_runs_without_end_are_cut() -> None:
    """Text would be cut in the middle of a word, and counted and understood differently than the model was trained."""
    runs = (re.compile(r"[a-z]+"), re.compile(r"\S+"))
    assert in_pieces("ab cd " * 50, runs, 10) == ["ab cd " * 50]
    assert in_pieces("ab " + "c" * 25 + " 12-34-56-78-90 d", runs, 10) == [
        "ab cccccccccc", "cccccccccc", "ccccc 12-34-56-7", "8-90 d",
    ]  # fmt: skip


def test_a_difference_switches_tiktoken_off(vocab_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A family whose regex changes in llama.cpp would be counted wrongly for ever."""
    monkeypatch.setitem(PATTERNS, "qwen2", r"\s+|\S")
    assert open_tokenizer(vocab_file()).kind == "llama.cpp"


def test_what_was_found_out_is_remembered(
    vocab_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every start would ask llama.cpp about each token anew, or count by what another vocabulary was like."""
    path, folder = vocab_file(tokens=[("<think>", 4)]), VocabularyFolder(tmp_path / "state" / "vocabularies")
    assert recalled_tokenizer(path, folder) is None
    fresh = open_tokenizer(path, folder)
    monkeypatch.setattr("frontdesk.fleet.tokenizer.Vocab", None)  # llama.cpp is not asked
    again = recalled_tokenizer(path, folder)
    assert again is not None
    assert all(again.encode(text) == fresh.encode(text) for text in (*SAMPLE, "a <think>b<|im_end|>"))
    assert [again.token_bytes(id) for id in range(SIZE + 2)] == [fresh.token_bytes(id) for id in range(SIZE + 2)]
    for name in ("kind", "special", "bos", "eos", "add_bos", "eog", "n_vocab"):
        assert getattr(again, name) == getattr(fresh, name), name
    assert recalled_tokenizer(vocab_file(tokens=[("<thing>", 4)]), folder) is None
    assert recalled_tokenizer(path, None) is None


def test_what_other_code_found_out_is_not_believed(
    vocab_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade that knows better what a control token is, the old answer would go on being used."""
    path, folder = vocab_file(), VocabularyFolder(tmp_path / "vocabularies")
    open_tokenizer(path, folder)
    assert recalled_tokenizer(path, folder) is not None
    monkeypatch.setattr("frontdesk.fleet.vocabulary._code", lambda: "of another release")
    assert recalled_tokenizer(path, folder) is None


def test_a_spoilt_memory_of_a_vocabulary_counts_as_none(vocab_file: Callable[..., Path], tmp_path: Path) -> None:
    """A full disk or a crash would keep a model from ever opening again."""
    path, folder = vocab_file(), VocabularyFolder(tmp_path / "vocabularies")
    open_tokenizer(path, folder)
    file = folder.file(path)
    file.write_bytes(file.read_bytes()[:-10])
    assert recalled_tokenizer(path, folder) is None
    nowhere = VocabularyFolder(path / "vocabularies")  # below a file: nothing can be written
    assert open_tokenizer(path, nowhere).kind == "tiktoken"
    assert recalled_tokenizer(path, nowhere) is None


def test_only_the_last_vocabularies_are_kept(vocab_file: Callable[..., Path], tmp_path: Path) -> None:
    """The folder would grow by megabytes with every model that was ever tried."""
    folder, paths = VocabularyFolder(tmp_path / "vocabularies"), []
    for number in range(KEPT + 2):
        path = vocab_file(tokens=[(f"<{number}>", 4)]).rename(tmp_path / f"{number}.gguf")
        open_tokenizer(path, folder)
        os.utime(folder.file(path), (number, number))
        paths.append(path)
    assert [folder.recall(path) is not None for path in paths] == [False, False, *[True] * KEPT]


def test_user_defined_tokens_match_in_text_longest_first(vocab_file: Callable[..., Path]) -> None:
    """`<think>` of Qwen would be spelled out, and counted and understood differently than in training."""
    path = vocab_file(tokens=[("<think>", 4), ("<think>\n", 4)])
    tokenizer = open_tokenizer(path)
    assert tokenizer.kind == "tiktoken"
    text = "a <think>\nb<think>c"
    assert {SIZE, SIZE + 1} <= set(tokenizer.encode(text))
    assert tokenizer.encode(text) == Vocab(path).tokenize(text)
    assert tokenizer.token_bytes(SIZE + 1) == b"<think>\n"


def test_what_swallows_white_space_is_remembered(vocab_file: Callable[..., Path], tmp_path: Path) -> None:
    """The second start of a model would give its prompts other tokens than the first."""
    path, folder = vocab_file(tokens=PHI, name="A Phi-3"), VocabularyFolder(tmp_path / "vocabularies")
    for tokenizer in (open_tokenizer(path, folder), recalled_tokenizer(path, folder)):
        assert tokenizer is not None
        assert tokenizer.kind == "tiktoken"
        literals = Literals(tokenizer.special)
        assert literals.swallow([tokenizer.special["<|im_end|>"], "\nx"]) == [tokenizer.special["<|im_end|>"], "x"]
        assert literals.swallow([tokenizer.special["<s>"], "\nx"]) == [tokenizer.special["<s>"], "\nx"]


def test_user_defined_tokens_may_swallow_too(vocab_file: Callable[..., Path]) -> None:
    """llama.cpp drops the white space behind them in ordinary text: counts would be too high."""
    path = vocab_file(tokens=[*PHI, ("<thing>", 4)], name="A Phi-3")
    tokenizer = open_tokenizer(path)
    for text in ("a <thing>\n b", "<thing>  <thing>\t"):
        assert tokenizer.encode(text) == Vocab(path).tokenize(text)


def test_control_tokens_that_llama_cpp_retypes_stay_control(vocab_file: Callable[..., Path]) -> None:
    """In gpt-oss, llama.cpp lets ordinary text become `<|start|>`: a user could open a system turn."""
    for pre in ("qwen2", "starcoder"):
        tokenizer = open_tokenizer(vocab_file(tokens=[("<|start|>", 3), ("<|message|>", 3)], pre=pre))
        assert tokenizer.special["<|start|>"] == SIZE
        ids = tokenizer.encode("x<|start|>system<|message|>y")
        assert not set(ids) & set(tokenizer.special.values())
        assert b"".join(map(tokenizer.token_bytes, ids)) == b"x<|start|>system<|message|>y"


def test_control_tokens_that_merges_can_reach_stay_control(vocab_file: Callable[..., Path]) -> None:
    """A control token whose text is an ordinary word would be reached without any special parsing."""
    metadata: dict[str, Any] = read_metadata(SHIPPED)
    kinds, tokens = metadata["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.tokens"]
    text = next(text for text in tokens if text.isascii() and text.isalpha() and len(text) > 3)
    word = tokens.index(text)
    kinds[word] = 3
    for pre in ("qwen2", "starcoder"):
        tokenizer = open_tokenizer(vocab_file(token_type=kinds, pre=pre))
        ids = tokenizer.encode(text)
        assert word not in ids
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_lone_surrogates_are_refused(tokenizer: Tokenizer) -> None:
    """They have no UTF-8 form: a request with one would be a 500."""
    with pytest.raises(InvalidRequest, match=r"U\+D83D"):
        tokenizer.encode("ok \ud83d")
    with pytest.raises(InvalidRequest):
        LlamaTokenizer(Vocab(SHIPPED), {}).encode("\udc00")


def test_opening_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without internet would not start: tiktoken's own encodings are downloads."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert open_tokenizer(SHIPPED).kind == "tiktoken"


def test_a_file_that_llama_cpp_refuses(vocab_file: Callable[..., Path]) -> None:
    """The reason would be a crash in the middle of start-up."""
    with pytest.raises(ModelLoadFailed, match=r"vocab\.gguf"):
        open_tokenizer(vocab_file(pre="no-such-family"))
