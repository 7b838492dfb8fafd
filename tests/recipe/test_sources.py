"""Where replies say that they come from: the places must hold what is said, or training teaches to look wrong."""

# pyright: reportMissingImports=false

import random

import pytest
from recipe.generator import sample
from recipe.layout import Style, group_text, under_headings
from recipe.sources import NOWHERE, Origin, Span, located, marked, pointers, unmarked
from recipe.values import Values
from recipe.world import SIZES

SPLITS = ("train", "held_out")
LEVELS = range(len(SIZES))


def conversations(split, level, count=60, seed=7):
    rng = random.Random(seed)
    return [sample(rng, split, level) for _ in range(count)]


def text_of(talk, span):
    return talk.messages[span.message]["content"][span.start : span.end]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_reply_with_a_value_points_at_one(split, level):
    """Breaks if some kind of reply loses its pointers without a word: the heads are then never told how to find it."""
    answering = {"fact", "several questions", "style", "follow-up"}
    seen = 0
    for talk in conversations(split, level):
        if talk.messages[0]["role"] != "system" or not talk.world.shop:
            continue
        for case in talk.cases:
            reply = talk.messages[case.index]["content"]
            if case.skill not in answering or not case.expected or case.expected[0] in ("Yes", "No"):
                continue
            if case.index > 2 and reply == talk.messages[case.index - 2]["content"]:
                continue  # it was asked for once more
            values = [p for p in talk.pointers if p.reply == case.index and p.value not in (None, NOWHERE)]
            assert values, (talk.messages[case.index - 1]["content"], reply)
            seen += 1
    assert seen > 50


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_value_that_is_pointed_at_is_what_the_reply_says_next(split, level):
    """Breaks if a pointer's value is another text than the one that the reply takes from it."""
    seen = 0
    for talk in conversations(split, level):
        for pointer in talk.pointers:
            reply = talk.messages[pointer.reply]["content"].lower().replace("_", " ")
            if pointer.value in (None, NOWHERE):
                continue
            value = text_of(talk, pointer.value).lower().replace("_", " ")
            told = reply[pointer.end - 1 :]
            assert told.startswith((value, f"yes, we accept {value}"))
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_value_lies_in_its_line_and_both_before_the_reply(split, level):
    """Breaks if a place is off, or in a message that the model has not read yet."""
    for talk in conversations(split, level):
        for pointer in talk.pointers:
            if pointer.line in (None, NOWHERE):
                continue
            assert pointer.line.message < pointer.reply
            assert 0 <= pointer.line.start < pointer.line.end <= len(talk.messages[pointer.line.message]["content"])
            if pointer.value is not None:
                assert pointer.value.message == pointer.line.message
                assert pointer.line.start <= pointer.value.start < pointer.value.end <= pointer.line.end


@pytest.mark.parametrize("split", SPLITS)
def test_answers_point_somewhere_and_abstentions_nowhere(split):
    """Breaks if a skill forgets to say what it answers from, or an abstention claims to be taken from a fact."""
    somewhere = {"fact", "several questions", "orders", "tool call", "choice"}
    for talk in conversations(split, 1, 300):
        opening = {pointer.reply: pointer for pointer in talk.pointers if pointer.start == 0}
        for case in talk.cases:
            pointer = opening.get(case.index)
            plain = talk.world.shop is None and case.skill not in ("tool call", "choice")
            if case.skill in somewhere and pointer is not None and not plain:
                assert pointer.line != NOWHERE, (case, talk.messages[case.index])
            if case.skill in ("abstention", "off topic"):
                assert pointer is not None
                assert pointer.line == NOWHERE


@pytest.mark.parametrize("split", SPLITS)
def test_nearly_all_replies_are_labelled(split):
    """Breaks if the search for parts and places begins to fail: supervision would thin out unnoticed."""
    labelled = total = 0
    for talk in conversations(split, 1, 300):
        replies = {pointer.reply for pointer in talk.pointers}
        judged = [case for case in talk.cases if case.skill != "summary"]
        labelled, total = labelled + sum(case.index in replies for case in judged), total + len(judged)
    assert labelled > 0.98 * total


@pytest.mark.parametrize("level", LEVELS)
def test_no_mark_is_left(level):
    """Breaks if the marks of a prompt's lines reach the model."""
    for talk in conversations("train", level):
        for message in talk.messages:
            assert not any("\ue000" <= character <= "\uf8ff" for character in message["content"])


def test_a_key_that_became_a_heading_stays():
    """Breaks if a layout without titles drops the key of a line: '40 days' alone answers no question."""
    style = Style("{}:\n", "\n", "- ", untitled=True)
    [(title, lines)] = under_headings([marked(0, "Returns: 40 days")])
    values = Values(random.Random(1), "train")
    assert "Returns" in group_text(values, style, title, lines, "bullets")
    assert "Policies" not in group_text(values, style, "Policies", lines, "bullets")


def test_marks_become_places():
    """Breaks if places are counted with the marks in the text."""
    text, places = unmarked(f"Facts:\n{marked(1, 'Parking: free')}\n{marked(0, 'Phone: 55')}.")
    assert text == "Facts:\nParking: free\nPhone: 55."
    assert {number: text[start:end] for number, (start, end) in places.items()} == {
        1: "Parking: free",
        0: "Phone: 55",
    }


def test_located_finds_whole_values_only():
    """Breaks if a value is found inside a longer one."""
    assert located("$85.50 or $85", "$85") == (10, 13)
    assert located("12 days", "2 days") is None
    assert located("Takes PayPal", "paypal") == (6, 12)


def test_parts_of_a_reply_point_one_after_the_other():
    """Breaks if the second of two answers points to the source of the first."""
    messages = [{"content": "Parking: free\nPhone: 55"}, {"content": "Parking is free. Call 55."}]
    places = {("fact", "parking"): Span(0, 0, 13), ("fact", "phone"): Span(0, 14, 23)}
    found = pointers(messages, (Origin("free", ("fact", "parking")), Origin("55", ("fact", "phone"))), places)
    assert [(pointer.start, pointer.end) for pointer in found] == [(0, 12), (15, 23), (24, 26)]
    assert [pointer.value for pointer in found] == [Span(0, 9, 13), Span(0, 21, 23), NOWHERE]
    assert found[1].line == Span(0, 14, 23)


def test_what_cannot_be_found_is_left_out():
    """Breaks if an unknown source counts as 'nowhere': that would teach to abstain where there is an answer."""
    messages = [{"content": "Parking: free"}, {"content": "Call 55."}]
    assert pointers(messages, (Origin("55", ("fact", "phone")),), {}) == []
