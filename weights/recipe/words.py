"""Word lists and the split between training and held-out material.

Everything that can be remembered (names, nouns, numbers, phrasings) exists in two disjoint parts, so that an evaluation
on held-out worlds measures copying from the prompt and not memory. This file knows no grammar and makes no values.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

Split = Literal["train", "held_out"]
DATA = Path(__file__).parent / "data"
WORD = re.compile(r"(?<![A-Za-z])[a-z]{4,12}(?![A-Za-z])")
HELD_OUT_SHARE = 5  # one number in five is never seen in training


@cache
def load(name: str) -> dict[str, Any]:
    """Reads one of the data files, once."""
    return tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def facts() -> dict[str, Any]:
    """Every kind of single-value fact that a shop may state."""
    return load("facts_policies") | load("facts_shop")


def words(kind: str, split: Split) -> list[str]:
    """The words of a kind that has a training and a held-out part."""
    return load("words")[kind][split]


@cache
def topics() -> dict[str, list[str]]:
    """Things that a shop may have a rule for, by each of their names: questions about them, for training only."""
    return {name: topic["asks"] for topic in load("topics")["topic"] for name in topic["names"]}


@cache
def topic_names() -> list[str]:
    return list(topics())


def same_topic(one: str, other: str) -> bool:
    """Are these two names of one thing?"""
    return one == other or topics().get(one, one) is topics().get(other, other)


@cache
def all_words() -> list[str]:
    """Every longer word of the questions that training asks, in lower case."""
    texts = [text for fact in facts().values() for text in fact["questions"]]
    texts += [text for kind in load("questions").values() for text in kind["train"]]
    texts += [text for asks in topics().values() for text in asks]
    return sorted({word for text in texts for word in WORD.findall(text)})


def shared(kind: str) -> list[str]:
    """The words of a closed class (months, payment methods, ...) that both splits use."""
    return load("words")["shared"][kind]


def filler(kind: str, split: Split) -> list[str]:
    """What shop owners write around their facts."""
    return load("filler")[kind][split]


def is_held_out(number: int) -> bool:
    """Splits the integers by a fixed hash, so that no list of numbers has to be kept."""
    return crc32(str(number).encode()) % HELD_OUT_SHARE == 0
