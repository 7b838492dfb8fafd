"""The recipe's generator: reproducible, split cleanly, and never asking for what it did not state.

Standard library and pytest only: the tokenizer and the training need packages that the product does not have.
"""

# pyright: reportMissingImports=false

import random
import re
from pathlib import Path

import pytest
from recipe.drills import drill
from recipe.generator import sample
from recipe.phrases import expand
from recipe.values import Values
from recipe.words import is_held_out, load
from recipe.world import SIZES

SPLITS = ("train", "held_out")
LEVELS = range(len(SIZES))
REMEMBERED = {"memory", "order", "follow-up", "no orders", "unknown order"}  # may hold what the user said, too
SPLIT_LISTS = [name for name, entry in load("words").items() if set(entry) == set(SPLITS)]


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
    """Breaks if an answer holds a value that nobody stated: not the prompt and, for a customer's own, not the user."""
    for talk in conversations(split, level):
        for case in talk.cases:
            answer = talk.messages[case.index]["content"]
            said = talk.messages[: case.index] if case.skill in REMEMBERED else talk.messages[:1]
            context = "\n".join(message["content"] for message in said).lower()
            for value in case.expected:
                denied = value == "No" or f"we don't accept {value}" in answer
                for part in parts_of(value, case.skill):
                    assert denied or part == "Yes" or part.lower() in context, (part, context)


def parts_of(value, skill):
    """The bullets of a list put values together anew; all else is copied whole."""
    return re.split(": |, ", value.removeprefix("- ")) if skill == "as a list" else [value]


@pytest.mark.parametrize("name", SPLIT_LISTS)
def test_word_lists_of_the_splits_share_nothing(name):
    """Breaks if held-out words occur in training: the evaluation would measure memory, not copying."""
    entry = load("words")[name]
    assert not set(entry["train"]) & set(entry["held_out"])


@pytest.mark.parametrize("name", load("questions"))
def test_questions_of_the_splits_share_nothing(name):
    """Breaks if a held-out phrasing occurs in training, or a skill has no phrasing at all."""
    entry = load("questions")[name]
    assert entry["train"]
    assert entry["held_out"]
    assert not set(entry["train"]) & set(entry["held_out"])


@pytest.mark.parametrize("name", load("facts"))
def test_facts_are_complete_and_split(name):
    """Breaks if a kind of fact lacks a label, a sentence, an answer or its value, or leaks a held-out question."""
    fact = load("facts")[name]
    assert not set(fact["questions"]) & set(fact["held_out"])
    assert hasattr(Values, fact["value"])
    for kind in ("labels", "sentences", "answers"):
        assert fact[kind]
        assert all("{v}" in template for template in fact[kind])


def test_numbers_belong_to_one_split():
    """Breaks if the same number can be asked for in training and in evaluation."""
    for split in SPLITS:
        values = Values(random.Random(5), split)
        for _ in range(200):
            assert is_held_out(values.number(1, 900)) == (split == "held_out")


def test_templates_leave_no_slot_and_no_choice_behind():
    """Breaks if the model is trained on unfilled slots such as {v}."""
    for split in SPLITS:
        for talk in conversations(split, 2, 150):
            for message in talk.messages:
                assert not re.search(r"[{}\x00]", message["content"]), message


def test_expand_resolves_nested_choices():
    """Breaks if nested choices are lost: phrasings would never be generated."""
    rng = random.Random(0)
    texts = {expand(rng, "a {b|{c|d}} {X}", X="e") for _ in range(60)}
    assert texts == {"a b e", "a c e", "a d e"}


def test_drills_copy_lines_of_their_prompt():
    """Breaks if a drill asks for something that its prompt does not hold."""
    rng = random.Random(4)
    for split in SPLITS:
        for _ in range(50):
            system, *turns = drill(rng, split)
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                assert answer["content"] in system["content"]
                key = re.sub(r"(\?| please)$", "", question["content"])
                assert f"{key}: {answer['content'].removeprefix(f'{key}: ')}" in system["content"]


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
    shop = re.search(r"assistant of ([A-Z]\w+)", demo)
    assert names
    assert shop
    talks = [talk for level in LEVELS for talk in conversations("train", level, 300)]
    text = "\n".join(message["content"] for talk in talks for message in talk.messages).lower()
    for name in (*names, shop[1]):
        assert name.lower() not in text
