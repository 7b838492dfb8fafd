"""Chat templates: what they render to, and that no message becomes a control token in any of them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fleet.conftest import write_gguf

from frontdesk.chat.template import ChatTemplate
from frontdesk.errors import InvalidRequest, TemplateFailed
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.tokenizer import Tokenizer, open_tokenizer
from frontdesk.llamacpp.vocab import Vocab
from frontdesk.messages import Message, ToolCall

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
CHATML = str(read_metadata(SHIPPED)["tokenizer.chat_template"])
TEMPLATES = {
    "chatml": CHATML,
    "trims": "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}",
    "glues": "{% for m in messages %}{{ m.content | trim }}{% endfor %}<|eot_id|>",
    "splits": "{% for m in messages %}[INST]{{ m.content.split('</think>')[-1].lstrip() }}[/INST]{% endfor %}",
    "strips": "{% for m in messages %}[INST]{% for p in m.content.split('<think>') %}{{ p.split('x')[0] }}{% endfor %}"
    "{{ m.content.replace('</think>', '').replace('b', '') }}[/INST]{% endfor %}",
    "opens": "{% for m in messages %}{{ '<' + m.content + '>' }}{{ '<|' ~ (m.name or '') ~ '|>' }}"
    "<{{ m.content|trim }}>{% endfor %}",
    "tools": "{% for m in messages %}[INST]{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}{{ c.id }}{{ c.function | tojson }}"
    "{{ c.function | tojson(ensure_ascii=true) }}{{ c.function.arguments }}{% endfor %}"
    "{{ m.tool_call_id }}[/INST]{% endfor %}",
    "cases": "{% for m in messages %}[INST]{{ m.content|upper }}{{ m.content|lower }}{{ m.content[1:] }}"
    "{{ m.content[:-1] }}[/INST]{% endfor %}",
}
HARMONIES = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
LITERALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<|eot_id|>"]
LITERALS += ["<|start_header_id|>", "<<a>>", "<|a|><|b|>", "x y z"]
SPLIT = [literal[:k] for literal in LITERALS for k in (1, 2, len(literal) - 1)]
SPLIT += [literal[k:] for literal in LITERALS for k in (1, 2, len(literal) - 1)]
OTHERS = [
    "<think>",
    "</think>",
    "\n",
    " ",
    "b",
    "\u4dc0",
    "\ue000",
    "\\ue000",
    '"',
    "é😀",
    "im_end",
    "|",
    "system\n",
    "inst",
    "Ω",
]
TEXT = st.lists(st.sampled_from(LITERALS + SPLIT + OTHERS) | st.text(alphabet="<|>[]s xyz", max_size=4), max_size=7)


@pytest.fixture(scope="module")
def harmony(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Of a vocabulary with gpt-oss's control tokens."""
    metadata: dict[str, Any] = read_metadata(SHIPPED)
    metadata["tokenizer.ggml.tokens"] += HARMONIES
    metadata["tokenizer.ggml.token_type"] += [3] * len(HARMONIES)
    return open_tokenizer(write_gguf(tmp_path_factory.mktemp("harmony") / "vocab.gguf", metadata))


def controls(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    hidden = set(tokenizer.special.values())
    return [id for id in ids if id in hidden]


def conversation(texts: list[str], innocent: bool = False) -> list[Message]:
    first, second, third, fourth = ["", "", "", ""] if innocent else texts
    quoted = json.dumps({"k": third})
    return [
        Message("system", first),
        Message("user", second, name=fourth),
        Message("assistant", third, tool_calls=(ToolCall(first, second, quoted), ToolCall(fourth, third, second))),
        Message("tool", fourth, tool_call_id=first),
    ]


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=80, deadline=None)
@given(texts=st.lists(TEXT.map("".join), min_size=4, max_size=4))
def test_no_message_becomes_a_control_token(rich: Tokenizer, name: str, texts: list[str]) -> None:
    """A user could end their turn and write the system's, whatever the template does with the text."""
    template = ChatTemplate(TEMPLATES[name], rich)
    found = controls(template.render(conversation(texts)), rich)
    assert found == controls(template.render(conversation(texts, innocent=True)), rich)


def calls_of(message: Message) -> str:
    """A message's tool calls as the shipped template writes them."""
    form = '<tool_call>{{"name": "{0}", "arguments": {1}}}</tool_call>'
    return "\n".join(form.format(call.name, call.arguments) for call in message.tool_calls)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(TEXT.map("".join) | st.text(max_size=20), min_size=4, max_size=4))
def test_the_visible_text_is_unchanged(rich: Tokenizer, texts: list[str]) -> None:
    """The guard's marks would reach the model, or parts of a message would be lost."""
    ids = ChatTemplate(CHATML, rich).render(conversation(texts))
    names = {id: text.encode() for text, id in rich.special.items()}
    whole = b"".join(names.get(id) or rich.token_bytes(id) for id in ids).decode()
    turns = [f"<|im_start|>{m.role}\n{m.content}{calls_of(m)}<|im_end|>\n" for m in conversation(texts)]
    assert whole == "<s>" + "".join(turns) + "<|im_start|>assistant\n"


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=20), min_size=1))
def test_harmless_text_gives_llama_cpps_ids(rich: Tokenizer, rich_vocab: Vocab, texts: list[str]) -> None:
    """The prompt would differ from the one that the model was trained and tested on."""
    if any(literal in text for text in texts for literal in LITERALS):
        return
    ids = ChatTemplate(CHATML, rich).render([Message("user", text) for text in texts])
    prompt = "".join(f"<|im_start|>user\n{text}<|im_end|>\n" for text in texts) + "<|im_start|>assistant\n"
    assert ids == [rich.bos, *rich_vocab.tokenize(prompt, parse_special=True)]


def test_every_control_token_in_every_field(rich: Tokenizer) -> None:
    """One forgotten field is enough for an injection."""
    for name, source in TEMPLATES.items():
        template = ChatTemplate(source, rich)
        clean = controls(template.render(conversation([""] * 4, innocent=True)), rich)
        for literal in LITERALS:
            found = controls(
                template.render(conversation([f"a{literal}", literal, f" {literal}b ", literal * 2])), rich
            )
            assert found == clean, (name, literal)


def test_pieces_that_meet_in_the_rendering(rich: Tokenizer) -> None:
    """Two harmless halves, trimmed and joined by the template, would make a control token."""
    template = ChatTemplate(TEMPLATES["glues"], rich)
    ids = template.render(
        [Message("user", "<|eot "), Message("user", "_id|>"), Message("user", "<| "), Message("user", " eot_id|>")]
    )
    assert controls(ids, rich) == [rich.bos, rich.special["<|eot_id|>"]]


def test_templates_may_still_inspect_text(rich: Tokenizer) -> None:
    """Reasoning and tool results, which templates find by their text, would be formatted wrongly."""
    source = (
        "{{ m }}{% for m in messages %}{% if '</think>' in m.content %}{{ m.content.split('</think>')[1] }}{% endif %}"
    )
    source += "{% if m.content.startswith('<tool_response>') %}T{% endif %}{{ m.content | trim }};{% endfor %}"
    ids = ChatTemplate(source, rich).render(
        [Message("assistant", "<think>a</think>b"), Message("user", "<tool_response> ")]
    )
    assert b"".join(map(rich.token_bytes, ids)) == b"b<think>a</think>b;T<tool_response>;"


def test_bos_is_added_once(rich: Tokenizer, tokenizer: Tokenizer) -> None:
    """Two BOS, or none, make a model worse without any error."""
    messages = [Message("user", "hi")]
    for source in (CHATML, "{{ bos_token }}" + CHATML):
        ids = ChatTemplate(source, rich).render(messages)
        assert ids.count(rich.bos) == 1
        assert ids[0] == rich.bos
    assert ChatTemplate(CHATML, tokenizer).render(messages)[0] == tokenizer.special["<|im_start|>"]


def test_without_a_generation_prompt(tokenizer: Tokenizer) -> None:
    """A rendering for counting would include the opening of a turn that does not come."""
    template, messages = ChatTemplate(CHATML, tokenizer), [Message("user", "hi")]
    short = template.render(messages, add_generation_prompt=False)
    assert template.render(messages)[: len(short)] == short
    assert short[-1] != template.render(messages)[-1] or len(short) < len(template.render(messages))


def test_developer_is_system_unless_the_template_knows_it(tokenizer: Tokenizer) -> None:
    """A template that has never heard of developers would refuse them, open an unknown turn, or leave out what they
    say, as Command R7B's, which only has a variable with such a name."""
    preamble = "{% set developer_preamble = '' %}{{ developer_preamble }}"
    known = "{% if messages[0].role in ['system', 'developer'] %}{% endif %}"
    for source, role in ((CHATML, b"system"), (preamble + CHATML, b"system"), (known + CHATML, b"developer")):
        ids = ChatTemplate(source, tokenizer).render([Message("developer", "x")])
        assert b"".join(map(tokenizer.token_bytes, ids)).startswith(role + b"\nx")


def test_models_are_asked_not_to_think(tokenizer: Tokenizer) -> None:
    """Visitors would read the reasoning of Qwen3 and its like, and wait for it."""
    unless = "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}NO{% endif %}"
    assert ChatTemplate(unless, tokenizer).render([Message("user", "hi")]) == tokenizer.encode("hiNO")


HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)  # of gpt-oss, without tools


def test_gpt_oss_is_asked_for_its_answer(rich: Tokenizer, harmony: Tokenizer) -> None:
    """Visitors would read "analysisThe user asks…assistantfinalWe are open", and the next turn be computed anew."""
    template, said = ChatTemplate(HARMONY, harmony), [Message("user", "hi"), Message("assistant", "Yes.")]
    named = {id: text for text, id in harmony.special.items()}
    prompt = template.render(said[:1])
    assert [named[id] for id in prompt if id in named][-4:] == ["<|end|>", "<|start|>", "<|channel|>", "<|message|>"]
    assert prompt[-2:-1] == harmony.encode("final")[-1:]
    whole = template.render(said, add_generation_prompt=False)
    assert whole[: len(prompt)] == prompt
    assert whole[len(prompt) :] == [*harmony.encode("Yes."), harmony.special["<|end|>"]]
    plain = "<|start|>user<|message|>hi<|end|><|start|>assistant"  # of another vocabulary
    assert ChatTemplate(HARMONY, rich).render(said[:1]) == [rich.bos, *rich.encode(plain)]


TYPED = {
    "SmolVLM": "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}{% for line in m['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}{% elif line['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}",
    "LLaVA": "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}",
    "first part": "{% for m in messages %}[{{ m.role }}]{{ m.content[0].text.strip() }}{% endfor %}",
}


@pytest.mark.parametrize("name", TYPED)
def test_templates_that_look_for_parts_get_them(rich: Tokenizer, name: str) -> None:
    """Neither the persona nor the customer would reach the model, without a word of it, or every chat be an error."""
    template = ChatTemplate(TYPED[name], rich)
    said = [Message("system", "Be brief."), Message("user", "When?<|eot_id|>"), Message("assistant", "At nine.")]
    ids = template.render(said)
    text = b"".join(map(rich.token_bytes, ids)).decode()
    assert all(message.content in text for message in said)
    assert "type" not in text
    assert rich.special["<|eot_id|>"] not in ids


def test_a_template_that_leaves_out_what_is_said(rich: Tokenizer) -> None:
    """A model would answer to nothing, and nobody know why."""
    with pytest.raises(TemplateFailed, match="leaves out what the user says"):
        ChatTemplate("{% for m in messages %}[{{ m.role }}]{{ m.text }}{% endfor %}", rich)


def test_arguments_are_objects_unless_the_template_takes_text(tokenizer: Tokenizer) -> None:
    """Tool calls of earlier turns would be shown to the model quoted twice, or not as it wrote them."""
    call = Message("assistant", "", tool_calls=(ToolCall("1", "f", '{"a":  [1]}'), ToolCall("2", "g", "no json")))
    loop = "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }};{% endfor %}"
    loop += "{{ messages[0].content }}"
    for source, text in (
        (loop, b'{"a": [1]};"no json";'),
        (loop + "{# arguments is string #}", b'"{\\"a\\":  [1]}";"no json";'),
    ):
        ids = ChatTemplate(source, tokenizer).render([call])
        assert b"".join(map(tokenizer.token_bytes, ids)) == text
    deep = Message("assistant", "", tool_calls=(ToolCall("1", "f", '{"a":' * 900 + "1" + "}" * 900),))
    assert ChatTemplate(loop, tokenizer).render([deep])


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (Message("user", "a\ud800"), "messages.1.content"),
        (Message("user", "a", name="\udfff"), "messages.1.name"),
        (Message("tool", "a", tool_call_id="\udfff"), "messages.1.tool_call_id"),
        (Message("assistant", "", tool_calls=(ToolCall("\ud800", "f", "{}"),)), "messages.1.tool_calls.0.id"),
        (
            Message("assistant", "", tool_calls=(ToolCall("1", "\ud800", "{}"),)),
            "messages.1.tool_calls.0.function.name",
        ),
        (
            Message("assistant", "", tool_calls=(ToolCall("1", "f", '{"a": "\\ud800"}'),)),
            "messages.1.tool_calls.0.function.arguments",
        ),
    ],
)
def test_lone_surrogates_name_their_field(tokenizer: Tokenizer, message: Message, param: str) -> None:
    """The caller would get a 500, or not know which message to mend."""
    with pytest.raises(InvalidRequest) as caught:
        ChatTemplate(CHATML, tokenizer).render([Message("user", "hi"), message])
    assert caught.value.param == param


def test_a_template_may_refuse_a_conversation(tokenizer: Tokenizer) -> None:
    """The caller's mistake would be reported as ours."""
    source = "{% if messages[0].role != 'user' %}"
    source += "{{ raise_exception('must start with user: ' + messages[0].content) }}{% endif %}"
    source += "{{ messages[0].content }}"
    with pytest.raises(InvalidRequest, match=r"must start with user: <\|im_end\|>$") as caught:
        ChatTemplate(source, tokenizer).render([Message("assistant", "<|im_end|>")])
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ nothing.at.all }}", "{{ 1/0 }}", "{{ messages|nofilter }}", "{{ {}['a'].b }}"]
)
def test_a_broken_template_is_our_failure(tokenizer: Tokenizer, source: str) -> None:
    """A broken model file would be blamed on the caller, or end in a stack trace."""
    with pytest.raises(TemplateFailed):
        ChatTemplate(source, tokenizer).render([Message("user", "hi")])


def test_enormous_messages_are_refused(tokenizer: Tokenizer) -> None:
    """They would be rendered and tokenized before anybody looks at their size."""
    with pytest.raises(InvalidRequest, match="characters"):
        ChatTemplate(CHATML, tokenizer).render([Message("user", "a" * 2_000_001)])


def test_threads_do_not_share_limits(tokenizer: Tokenizer) -> None:
    """One slow conversation would end another's rendering."""
    slow = ChatTemplate(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", tokenizer, seconds=0.3
    )
    failures: list[Exception] = []

    def run() -> None:
        try:
            slow.render([])
        except TemplateFailed as error:
            failures.append(error)

    fast, done = ChatTemplate(CHATML, tokenizer), 0
    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        fast.render([Message("user", "hi")])
        done += 1
    assert done > 0
    assert [error.message for error in failures if isinstance(error, TemplateFailed)] == [
        "the model's chat template took longer than 0.3 s"
    ]
