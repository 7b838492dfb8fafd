"""Prompts against llama.cpp's own parsing of the rendered text, for vocabularies of many families."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tests.fleet.conftest import write_spm

from frontdesk.chat.costs import Costs
from frontdesk.chat.template import ChatTemplate
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.tokenizer import Tokenizer, open_tokenizer
from frontdesk.llamacpp.vocab import Vocab
from frontdesk.messages import Message, Role

CONTROLS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>", "<mask>")
PLAIN = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token + '\n\n' }}{% endfor %}"
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
FAMILIES = {  # the template of a vocabulary that has none: a file of llama.cpp's, or a template
    "gemma-4": "",
    "llama-bpe": "meta-llama-Llama-3.1-8B-Instruct.jinja",
    "llama-spm": "{% for m in messages %}{{ bos_token + '[INST] ' + m.content + ' [/INST] ' + eos_token }}{% endfor %}",
    "phi-3": "microsoft-Phi-3.5-mini-instruct.jinja",
    "qwen2": "",
    "qwen35": "",
    "gpt-2": PLAIN,
    "deepseek-llm": PLAIN,
    "command-r": "",
}
SPACES = st.text(alphabet=" \t\n\v\f\r\u00a0\u2003\u0085\u3000", max_size=4)
WORDS = st.sampled_from(["Hello", "a  b", "é😀", "1234", "don't", "[INST]", "日本", "\u4dc0", "x\n\ny", ""])
TEXTS = st.lists(SPACES | WORDS, max_size=5).map("".join)


def talk(texts: list[str]) -> list[Message]:
    roles: list[Role] = ["system", *("user" if at % 2 else "assistant" for at in range(1, len(texts)))]
    return [Message(role, text) for role, text in zip(roles, texts, strict=True)]


class Beside:
    """A template as Frontdesk renders it, beside llama.cpp's parsing of what Hugging Face's rendering would be."""

    def __init__(self, source: str, tokenizer: Tokenizer, vocab: Vocab) -> None:
        self.ours = ChatTemplate(source, tokenizer, seconds=60)
        sandbox = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        names = {id: text for text, id in tokenizer.special.items()}
        sandbox.globals |= {"bos_token": names.get(tokenizer.bos, ""), "eos_token": names.get(tokenizer.eos, "")}
        self._theirs = sandbox.from_string(source)
        self._bos = [tokenizer.bos] if tokenizer.add_bos else []
        self._vocab = vocab

    def agree(self, messages: list[Message]) -> bool:
        values = [{"role": message.role, "content": message.content} for message in messages]
        text = self._theirs.render(
            messages=values, add_generation_prompt=True, tools=None, documents=None, enable_thinking=False
        )
        ids = self._vocab.tokenize(text, parse_special=True)
        return self.ours.render(messages) == (ids if ids[:1] == self._bos else self._bos + ids)


@pytest.fixture(scope="module")
def llama_cpp_models() -> Path:
    """llama.cpp's folder of vocabularies: where the servers that are compared with were built from source."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = sorted(cache.glob("frontdesk/peers/*/src/vendor/llama.cpp/models/ggml-vocab-phi-3.gguf"))
    if not found:
        pytest.skip("!! NOT TESTED: prompts of nine real vocabularies need llama.cpp's source (bench/build_peers.sh)")
    return found[-1].parent


@pytest.fixture(scope="module")
def phi_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spm(tmp_path_factory.mktemp("vocab") / "phi.gguf", "Phi-3-mini-4k-instruct", *CONTROLS)


@pytest.fixture(scope="module")
def phi(phi_file: Path) -> Tokenizer:
    return open_tokenizer(phi_file)


@pytest.fixture(scope="module")
def beside(phi: Tokenizer, phi_file: Path) -> Beside:
    return Beside(PHI, phi, Vocab(phi_file))


@settings(max_examples=150)
@given(texts=st.lists(TEXTS, min_size=2, max_size=6))
def test_phi_3_swallows_white_space_as_llama_cpp_does(beside: Beside, texts: list[str]) -> None:
    """Every turn would hold newlines that the model was trained without: twice as many tokens for a short prompt."""
    assert beside.agree(talk(texts))


def test_a_literal_may_swallow_what_stands_before_it(tmp_path: Path) -> None:
    """White space in front of a token would stay that llama.cpp leaves out."""
    path = write_spm(tmp_path / "jina.gguf", "Jina", *CONTROLS, pre="jina-v2-de")
    source = "{% for m in messages %}{{ '<|user|>' + m.content + '\n<mask>' + m.content + '<|end|>' }}{% endfor %}"
    beside = Beside(source, open_tokenizer(path), Vocab(path))
    for text in ("Hello", " Hello ", "\n", "", "Hello\t\r\u00a0\f"):
        assert beside.agree(talk([text, text])), text


@settings(max_examples=100)
@given(texts=st.lists(SPACES | TEXTS, min_size=2, max_size=6), space=SPACES)
def test_white_space_undoes_no_control_token(beside: Beside, phi: Tokenizer, texts: list[str], space: str) -> None:
    """A message of nothing but white space could take the end of its turn with it."""
    literals = [f"{space}{text}{space}" for text in CONTROLS]
    for messages in (talk(texts), talk([*texts, *literals])):
        ids = beside.ours.render(messages)
        found = [id for id in ids if id in phi.special.values()]
        turns = [id for m in messages for id in (phi.special[f"<|{m.role}|>"], phi.special["<|end|>"])]
        assert found == [phi.bos, *turns, phi.special["<|assistant|>"]]


@settings(max_examples=100)
@given(texts=st.lists(TEXTS, min_size=2, max_size=6), more=TEXTS)
def test_a_longer_conversation_begins_with_the_shorter_one(beside: Beside, texts: list[str], more: str) -> None:
    """The engine would read a whole conversation again for every turn."""
    messages = talk(texts)
    prompt = beside.ours.render(messages)
    longer = beside.ours.render([*messages, Message("assistant", more), Message("user", more)])
    assert longer[: len(prompt)] == prompt


def test_counts_of_messages_add_up(beside: Beside) -> None:
    """What is sent of a conversation is planned with them: turns would leave that still fit."""
    costs, messages = Costs(beside.ours), talk(["  Hello", "\n\nHello \n", "a", "\t", " "])
    total = costs.overhead + sum(map(costs.of, messages))
    assert total == len(beside.ours.render(messages))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gets_llama_cpps_ids(llama_cpp_models: Path, name: str) -> None:
    """The prompt would differ from the one that the model was trained and tested on."""
    path = llama_cpp_models / f"ggml-vocab-{name}.gguf"
    source = FAMILIES[name] or str(read_metadata(path)["tokenizer.chat_template"])
    if source.endswith(".jinja"):
        source = (llama_cpp_models / "templates" / source).read_text()
    beside = Beside(source, open_tokenizer(path), Vocab(path))

    @settings(max_examples=30, deadline=None, database=None)
    @given(texts=st.lists(TEXTS, min_size=2, max_size=6))
    def check(texts: list[str]) -> None:
        assert beside.agree(talk(texts))

    check()
