"""Slot grammars: picks a template of a split, fills its slots, expands its choices, and roughens it like a customer.

`{a|b}` is a choice (they nest), `{X}` a slot. Held-out templates are held out whole, and so are the wrappers around
them. This file knows nothing about shops or about what the right answer is.
"""

import random
import re

from recipe.words import Split, load, shared

CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")
TYPO_SHARE, LOWER_SHARE = 0.15, 0.5
TERSE_SHARE = 0.12  # of training's messages lose some of their small words
CHAT_SHARE = 0.1  # of training's messages are spelt as on a phone
KEYWORD_SHARE = 0.2  # of training's questions are hardly more than words that belong to their kind
BEFORE_SHARE = {"train": 0.5, "held_out": 0.35}  # training rambles more than it is tested
AFTER_SHARE = {"train": 0.25, "held_out": 0.15}


def expand(rng: random.Random, template: str, **slots: str) -> str:
    """Fills the slots, then resolves choices from the inside out."""
    for name, value in slots.items():
        template = template.replace("{" + name + "}", value)
    while match := CHOICE.search(template):
        template = template[: match.start()] + rng.choice(match.group(1).split("|")) + template[match.end() :]
    return template


def question(rng: random.Random, split: Split, kind: str, **slots: str) -> str:
    """A bare question of a kind in `data/questions.toml` or `data/follow_ups.toml`; in training now and then one of
    `keywords`."""
    if split == "train" and not slots and (asked := keywords(rng, kind)):
        return asked
    kinds = load("follow_ups") if kind in load("follow_ups") else load("questions")
    return expand(rng, rng.choice(kinds[kind][split]), **slots)


def keywords(rng: random.Random, kind: str) -> str | None:
    """Now and then a question that says no more than one or two words or phrases that belong to this kind, if there are
    any: a shop is asked in more words than templates can be written for."""
    data = load("keywords")
    if rng.random() >= KEYWORD_SHARE or not (known := data["kinds"].get(kind)):
        return None
    one, other = rng.sample(known, 2)
    return expand(rng, rng.choice(data["wraps"]["two" if rng.random() < 0.3 else "one"]), W=one, V=other)


def reply(rng: random.Random, kind: str, **slots: str) -> str:
    """One of the assistant's sentences in `data/replies.toml`; these are the same in both splits."""
    return expand(rng, rng.choice(load("replies")[kind]), **slots)


def signs(kind: str) -> tuple[str, ...]:
    """Strings of which one must occur in a reply of this kind (an evaluation looks for them)."""
    return tuple(load("replies")["signs"][kind])


def with_typo(rng: random.Random, text: str) -> str:
    """Swaps, drops or doubles a letter of one longer word."""
    parts = text.split(" ")
    index = rng.randrange(len(parts))
    word = parts[index]
    if len(word) < 4 or not word.isalpha():
        return text
    at = rng.randint(1, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    parts[index] = rng.choice((swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]))
    return " ".join(parts)


def tersely(rng: random.Random, text: str) -> str:
    """Leaves out half of the small words, as hurried people and foreigners do; what is asked about stays."""
    small = shared("small_words")
    words = [word for word in text.split(" ") if word.lower() not in small or rng.random() < 0.5]
    return " ".join(words) or text


def as_chatted(rng: random.Random, text: str) -> str:
    """Spells most of the common words as hurried people do on a phone."""
    spellings = load("words")["chat_spelling"]

    def spelt(word: re.Match[str]) -> str:
        return rng.choice(spellings.get(word[0], [word[0]])) if rng.random() < 0.7 else word[0]

    return re.sub(r"(?<![\w'])[a-z']+(?![\w'])", spelt, text)


def as_typed(rng: random.Random, split: Split, text: str, keep: tuple[str, ...] = (), wrap: bool = True) -> str:
    """What a customer would really type: openers, typos, case and punctuation at will; `keep` stays untouched."""
    if wrap and rng.random() < BEFORE_SHARE[split]:
        text = rng.choice(load("questions")["before"][split]) + text
    if wrap and rng.random() < AFTER_SHARE[split]:
        text += rng.choice(load("questions")["after"][split])
    kept = [part for part in keep if part and part in text]
    for index, part in enumerate(kept):
        text = text.replace(part, f"\x00{index}\x00")
    if split == "train" and rng.random() < TERSE_SHARE:
        text = tersely(rng, text)
    if split == "train" and rng.random() < CHAT_SHARE:
        text = as_chatted(rng, text)
    if rng.random() < TYPO_SHARE:
        text = with_typo(rng, text)
    if rng.random() > LOWER_SHARE:
        text = re.sub(r"\bi\b", "I", text[:1].upper() + text[1:])
    elif rng.random() < 0.4:
        text = text.replace("?", "").replace("'", "")
    elif rng.random() < 0.06:
        text = text.upper()
    for index, part in enumerate(kept):
        text = text.replace(f"\x00{index}\x00", part)
    return text.strip()
