"""Cutting text at literals, in llama.cpp's order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.fleet.literals import Literals, Swallowing

IDS = {"<a>": 1, "<a>b": 2, "b<": 3, "aba": 4, "x": 5}
ALPHABET = st.text(alphabet="<ab>xé", max_size=24)


def test_longest_first_then_leftmost() -> None:
    """Another order would give a template's prompt other control tokens than llama.cpp gives it."""
    literals = Literals(IDS)
    assert literals.split("<a>b<a>") == [2, 1]
    assert literals.split("ab<a>b<") == ["ab", 2, "<"]
    assert literals.split("") == []


def test_single_characters_are_left_alone() -> None:
    """They cannot be broken inside messages, so they must never be recognised either."""
    assert Literals(IDS).split("axa") == ["axa"]


@settings(max_examples=200, deadline=None)
@given(text=ALPHABET)
def test_nothing_is_lost(text: str) -> None:
    """Text between control tokens would vanish from the prompt."""
    names = {number: literal for literal, number in IDS.items()}
    parts = Literals(IDS).split(text)
    assert "".join(part if isinstance(part, str) else names[part] for part in parts) == text
    assert all(not Literals(IDS).present(part) for part in parts if isinstance(part, str))


@settings(max_examples=200, deadline=None)
@given(text=ALPHABET)
def test_present_is_exactly_what_occurs(text: str) -> None:
    """A literal that is overlooked would stay text; one too many would cost time only."""
    assert set(Literals(IDS).present(text)) == {literal for literal in IDS if len(literal) > 1 and literal in text}


def test_white_space_beside_a_literal_is_swallowed_by_it() -> None:
    """Newlines that a model never saw in training would stand behind its control tokens, or words would be lost."""
    literals = Literals(Swallowing({"<a>": 1, "<b>": 2, "<c>": 3}, before={2}, after={1}))
    assert literals.swallow(literals.split(" <a>\t\n x <b>\v y <a> \r\f<c> ")) == [" ", 1, "x", 2, "\v y ", 1, 3, " "]
    assert literals.swallow(literals.split("<a>\u00a0x\u2003<b>")) == [1, "\u00a0x\u2003", 2]
    assert Literals(IDS).swallow([1, " ", 2]) == [1, " ", 2]
