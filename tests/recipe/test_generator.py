"""The recipe's generator: reproducible, split cleanly, and never asking for what it did not state.

Standard library and pytest only: the tokenizer and the training need packages that the product does not have.
"""

# pyright: reportMissingImports=false

import json
import os
import random
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from recipe.asking import fact_question
from recipe.drills import EVERYTHING, drill
from recipe.generator import sample
from recipe.phrases import expand
from recipe.sources import NOWHERE
from recipe.talk import Talk
from recipe.tools import call_text, labels
from recipe.values import Values
from recipe.words import facts, is_held_out, load, same_topic
from recipe.world import SIZES, make_world

SPLITS = ("train", "held_out")
LEVELS = range(len(SIZES))
SPLIT_LISTS = [name for name, entry in load("words").items() if set(entry) == set(SPLITS)]
QUESTIONS = load("questions") | load("follow_ups")


def conversations(split, level, count=60, seed=1):
    rng = random.Random(seed)
    return [sample(rng, split, level) for _ in range(count)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_same_seed_gives_the_same_conversations(split, level):
    """Breaks if a seed no longer fixes the data: nobody could make the shipped model again."""
    first, second = conversations(split, level, 10), conversations(split, level, 10)
    assert [talk.messages for talk in first] == [talk.messages for talk in second]
    assert [talk.cases for talk in first] == [talk.cases for talk in second]


def test_another_process_gives_the_same_conversations():
    """Breaks if the order of a set decides what is drawn: it is another in every process, whatever the seed."""
    code = (
        "import random; from recipe.generator import sample; rng = random.Random(7); "
        "print([sample(rng, 'train', level, form=form).messages for level in range(4) for form in (None, 'choices')])"
    )
    path = os.pathsep.join(sys.path)
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True, check=True, timeout=60,
        ).stdout
        for seed in ("1", "2")
    )  # fmt: skip
    assert first == second


def test_another_seed_gives_other_conversations():
    """Breaks if the seed is ignored: every file of data would hold the same conversations."""
    assert conversations("train", 0, 3, seed=1) != conversations("train", 0, 3, seed=2)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_generators_own_answer_passes_its_own_case(split, level):
    """Breaks if a case expects what its own reference answer does not say: the evaluation would be wrong."""
    for talk in conversations(split, level):
        for case in talk.cases:
            assert talk.messages[case.index]["role"] == "assistant"
            assert case.holds(talk.messages[case.index]["content"]), case


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_expected_value_was_stated_before(split, level):
    """Breaks if an answer holds a value that neither the prompt, the customer nor a tool stated: copying what is not
    there can only be guessed, and the model learns to invent."""
    for talk in conversations(split, level):
        for case in talk.cases:
            context = "\n".join(message["content"] for message in talk.messages[: case.index]).lower()
            context += context.replace('"', "").replace("|", ":")
            for value in case.expected:
                for part in parts_of(value):
                    assert part in ("yes", "no") or part in context, (case.skill, part, context)


def parts_of(value):
    """A bullet of a list, or a product with its price in brackets, puts values together anew."""
    joined = re.fullmatch(r"- (.+): (.+)|(.+) \((.+)\)", value)
    parts = [part for part in joined.groups() if part] if joined else [value.removeprefix("- ")]
    return [piece.lower() for part in parts for piece in (part.split(", ") if value.startswith("- ") else [part])]


@pytest.mark.parametrize("split", SPLITS)
def test_a_letter_is_one_of_those_offered(split):
    """Breaks if a choice is answered by a letter without an option, or always by the same one."""
    letters = []
    for talk in conversations(split, 0, 400):
        for case in talk.cases:
            if case.skill == "choice":
                asked = talk.messages[case.index - 1]["content"]
                assert re.search(rf"(?m)^(?:- )?[\[(]?{case.exact}(?:[).:\]]+| [=|-]| ->)? ", asked), asked
                letters.append(case.exact)
    assert {"A", "B", "C"} <= set(letters)
    assert max(letters.count(letter) for letter in set(letters)) < 0.7 * len(letters)


@pytest.mark.parametrize("split", SPLITS)
def test_tool_calls_use_what_the_prompt_and_the_customer_said(split):
    """Breaks if a call names a tool or a parameter that the prompt does not list, or a value that nobody stated."""
    seen = 0
    for talk in conversations(split, 1, 200):
        for message in talk.messages:
            if "call" not in message:
                continue
            seen += 1
            name, arguments = message["call"]["name"], json.loads(message["call"]["arguments"])
            assert message["content"] == call_text(name, message["call"]["arguments"])
            assert f"\n- {name}({', '.join(arguments)}): " in talk.messages[0]["content"]
            [schema] = [tool["function"] for tool in talk.tools if tool["function"]["name"] == name]
            assert schema["parameters"]["required"] == list(arguments)
            before = talk.messages[: talk.messages.index(message)]
            said = " ".join(m["content"] for m in before if m["role"] == "user").lower()
            assert all(str(value).lower() in said for value in arguments.values()), (arguments, said)
    assert seen > 50


def test_held_out_tools_never_occur_in_training():
    """Breaks if the tools of the evaluation are known from training: reading a tool list would not be measured."""
    assert not set(labels("train")) & set(labels("held_out"))
    assert len(labels("held_out")) >= 10
    descriptions = {text for label in labels("held_out") for text in load("tools")[label]["descriptions"]}
    for talk in conversations("train", 1, 200):
        assert not any(tool["function"]["description"] in descriptions for tool in talk.tools)


def test_summaries_hold_what_was_told():
    """Breaks if a summary misses the values told in the conversation that it sums up."""
    cases = [(talk, case) for talk in conversations("train", 0, 400) for case in talk.cases if case.skill == "summary"]
    assert len(cases) > 20
    assert sum(bool(case.expected) for _, case in cases) > 10
    for talk, case in cases:
        text = talk.messages[case.index]["content"]
        assert "The customer" in text or text == "Nothing has been discussed yet."


def test_roles_alternate():
    """Breaks if a conversation has two customer's messages in a row, or a tool's result without a call before it."""
    for talk in conversations("train", 1, 200):
        roles = [message["role"] for message in talk.messages if message["role"] != "system"]
        assert roles[0] == "user"
        for (before, after), message in zip(pairwise(roles), talk.messages[-len(roles) :], strict=False):
            assert after == ("assistant" if before in ("user", "tool") else "tool" if "call" in message else "user")


@pytest.mark.parametrize("name", SPLIT_LISTS)
def test_word_lists_of_the_splits_share_nothing(name):
    """Breaks if held-out words occur in training: the evaluation would measure memory, not copying."""
    entry = load("words")[name]
    assert not set(entry["train"]) & set(entry["held_out"])


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_of_the_splits_share_nothing(name):
    """Breaks if a held-out phrasing occurs in training, or a skill has too few phrasings to learn from."""
    entry = QUESTIONS[name]
    assert len(entry["train"]) >= 10
    assert len(entry["held_out"]) >= 4
    assert not set(entry["train"]) & set(entry["held_out"])


@pytest.mark.parametrize("name", facts())
def test_facts_are_complete_and_split(name):
    """Breaks if a kind of fact lacks a label, a sentence, an answer or its values, or leaks a held-out question."""
    fact = facts()[name]
    assert len(fact["questions"]) >= 30
    assert len(fact["held_out"]) >= 8
    assert not set(fact["questions"]) & set(fact["held_out"])
    assert fact["category"] in load("choices")["categories"]
    assert len(fact["answers"]) == 1
    for kind in ("labels", "sentences", "answers"):
        assert all("{v}" in template for template in fact[kind])
    values = Values(random.Random(1), "train")
    for template in fact["values"]:
        assert not re.search(r"[{}]", values.fill(template))


def test_topics_have_many_questions_and_leak_nothing():
    """Breaks if training's questions about topics are malformed, or are those that the evaluation asks."""
    assert len(load("topics")["topic"]) > 500
    held_out = {text for entry in (*facts().values(), *QUESTIONS.values()) for text in entry["held_out"]}
    rng = random.Random(1)
    for topic in load("topics")["topic"]:
        assert not set(topic["names"]) & set(load("words")["topics"]["held_out"])
        assert len(topic["asks"]) >= 8
        assert not set(topic["asks"]) & held_out
        for ask in topic["asks"]:
            assert not re.search(r"[{}|]", expand(rng, ask))


def test_keywords_belong_to_one_kind_and_leak_nothing():
    """Breaks if a phrase is said to mean two things, which nobody can learn, or is a sentence of the evaluation."""
    data = load("keywords")
    held_out = [text for entry in (*facts().values(), *QUESTIONS.values()) for text in entry["held_out"]]
    phrases = [phrase for known in data["kinds"].values() for phrase in known]
    assert len(set(phrases)) == len(phrases)
    assert set(facts()) <= set(data["kinds"]) <= set(facts()) | set(QUESTIONS)
    assert not [phrase for phrase in phrases if re.search(r"[{}|?]", phrase) or phrase.count(" ") > 5]
    assert not [phrase for phrase in phrases if phrase.count(" ") > 1 and any(phrase in text for text in held_out)]
    for count, wraps in (("one", ("W",)), ("two", ("V", "W"))):
        for wrap in data["wraps"][count]:
            assert tuple(sorted(re.findall(r"\{([A-Z])\}", wrap))) == wraps


def test_keywords_are_asked_for_in_training_alone():
    """Breaks if the evaluation asks in training's words, or training never does: then the words teach nothing."""
    known = load("keywords")["kinds"]["invoice"]
    for split in SPLITS:
        values = Values(random.Random(3), split)
        talk = Talk(values, make_world(values, 0))
        asked = [fact_question(talk, "invoice").rstrip("?") for _ in range(2000)]
        assert (sum(text in known for text in asked) >= 5) == (split == "train")


def test_a_missing_topic_is_missing_under_all_its_names():
    """Breaks if a shop that states a rule is said to have none, because the question used another name for it."""
    one, other = load("topics")["topic"][0]["names"][:2]
    assert same_topic(one, other)
    assert not same_topic(one, load("topics")["topic"][1]["names"][0])
    assert not same_topic("recycling", "subscriptions")


def test_numbers_belong_to_one_split():
    """Breaks if the same number can be asked for in training and in evaluation."""
    for split in SPLITS:
        values = Values(random.Random(5), split)
        for _ in range(200):
            assert is_held_out(values.number(1, 900)) == (split == "held_out")


def test_templates_leave_no_slot_and_no_choice_behind():
    """Breaks if the model is trained on unfilled slots such as {v}."""
    slot = re.compile(r"\{[A-Za-z_|]+\}|[\x00-\x02]")
    for split in SPLITS:
        for level in LEVELS:
            for talk in conversations(split, level, 150):
                for message in talk.messages:
                    assert not slot.search(message["content"]), message


def test_expand_resolves_nested_choices():
    """Breaks if nested choices are lost: phrasings would never be generated."""
    rng = random.Random(0)
    texts = {expand(rng, "a {b|{c|d}} {X}", X="e") for _ in range(60)}
    assert texts == {"a b e", "a c e", "a d e"}


def test_drills_copy_lines_of_their_prompt():
    """Breaks if a drill asks for something that its prompt does not hold, or points elsewhere than it copies from."""
    rng = random.Random(4)
    for split in SPLITS:
        for _ in range(100):
            messages, pointers = drill(rng, split, ("quill", "ember", "fjord"))
            system, *turns = (message["content"] for message in messages)
            for question in turns[::2]:
                assert question in EVERYTHING or re.sub(r"(\?| please)$", "", question) + ": " in system
            copies = [pointer for pointer in pointers if pointer.value != NOWHERE]
            assert {pointer.reply for pointer in copies} == set(range(2, len(messages), 2))
            for pointer in copies:
                copied = system[pointer.value.start : pointer.value.end]
                assert messages[pointer.reply]["content"][pointer.end - 1 :].startswith(copied)


def test_drills_ask_for_whole_lists_and_for_both_forms_of_a_piece():
    """Breaks if a piece is never written behind a quote where the prompt has it behind a space, or the other way round,
    or no list is ever copied to its end: what training does not ask for the model does not learn."""
    rng = random.Random(5)
    quoted = spaced = lists = 0
    for _ in range(400):
        messages, _ = drill(rng, "train", ("quill",))
        system, *turns = (message["content"] for message in messages)
        for question, reply in zip(turns[::2], turns[1::2], strict=True):
            lists += question in EVERYTHING and reply.count("\n- ") + reply.count(", ") > 2
            quoted += '"quill' in reply and '"quill' not in system
            spaced += " quill" in reply and " quill" not in system
    assert min(quoted, spaced, lists) > 20


def test_system_prompts_come_in_several_layouts():
    """Breaks if the model sees one layout only and fails on every other persona."""
    prompts = [talk.messages[0]["content"] for talk in conversations("train", 1, 200)]
    assert any("## " in prompt for prompt in prompts)
    assert any("**" in prompt for prompt in prompts)
    assert any("\n- " in prompt for prompt in prompts)
    assert any("\n- " not in prompt and "\n* " not in prompt and "We accept" in prompt for prompt in prompts)


def test_the_demo_shop_is_not_in_the_training_data():
    """Breaks if the demo's answers could come from memory: the demo would show nothing."""
    demo = (Path(__file__).parents[2] / "prompts" / "demo_shop.md").read_text()
    names = re.findall(r"^- ([A-Z]\w+(?: [A-Z]\w+)+): \$", demo, re.MULTILINE)
    shop = re.search(r"shop: ([A-Z]\w+)", demo)
    assert names
    assert shop
    talks = [talk for level in LEVELS for talk in conversations("train", level, 300)]
    text = "\n".join(message["content"] for talk in talks for message in talk.messages).lower()
    for name in (*names, shop[1]):
        assert name.lower() not in text
