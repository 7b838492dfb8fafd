"""Drills: tiny conversations that are nothing but looking up a key and copying its value.

Copying is what a small model learns last and needs most. Among ordinary conversations its signal is thin, because most
of a reply is phrasing; in a drill nearly every learned token is copied. Some drills write a value between other marks
than their prompt does, since a piece that stands behind a space there and behind a quote here is two tokens; some ask
for the whole list, which is where a copy loses its place. Drills are for training only: nobody evaluates them, and no
shop looks like them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from recipe.sources import Origin, Pointer, Span, pointers
from recipe.talk import Message
from recipe.values import Values
from recipe.words import Split

PAIRS = (2, 10)
TURNS = (4, 8)
REWRITTEN_SHARE = 0.4  # of the drills write values between other marks than the prompt
LISTED_SHARE = 0.2  # of the turns ask for everything
MARKS = ("{}", "{}", '"{}"', '"{}"', '{{"name": "{}"}}', "({})", "*{}*", "/{}", "<{}>")
JOINTS = (" ", "_", "_", "-", ".", "/")
EVERYTHING = ("all", "all?", "everything please", "list all", "the whole list", "what do you have?", "all of them")


def key_makers(values: Values) -> tuple[Callable[[], str], ...]:
    words = (values.any_word, values.invented_name, values.pseudo_word)
    return (values.topic, values.product, *words, values.order_number)


def value_makers(values: Values) -> tuple[Callable[[], str], ...]:
    numbers = (values.days, values.price, values.phone, values.span, values.date, values.opening, values.order_number)
    texts = (values.email, values.address, values.full_name, values.topic_rule, values.code, values.carrier)

    def two_words() -> str:
        return f"{values.any_word()}{values.rng.choice(' _')}{values.any_word()}"

    return (*numbers, *texts, values.product, two_words, lambda: values.digits(values.rng.randint(4, 12)))


def name_maker(rng: random.Random, pieces: Sequence[str]) -> Callable[[], str]:
    """Names of one to three pieces of the vocabulary, so that every piece is copied sometimes."""

    def name() -> str:
        return rng.choice(JOINTS).join(rng.choice(pieces) for _ in range(rng.choice((1, 2, 2, 3))))

    return name


def drill(rng: random.Random, split: Split, pieces: Sequence[str] = ()) -> tuple[list[Message], list[Pointer]]:
    """A list of pairs as the system prompt, then keys asked and answered, mostly as 'key: value'; and where each
    answer is taken from. `pieces` are words of the vocabulary to make names from."""
    values = Values(rng, split)
    rewritten = rng.random() < REWRITTEN_SHARE
    keys, makers = key_makers(values), value_makers(values)
    if rewritten and pieces:
        makers = (*makers, *[name_maker(rng, pieces)] * (3 * len(makers)))
    pairs = {rng.choice(keys)(): rng.choice(makers)() for _ in range(rng.randint(*PAIRS))}
    bullet = rng.choice(("- ", "- ", "* ", ""))
    there, here = (rng.choice(MARKS), rng.choice(MARKS)) if rewritten else ("{}", "{}")
    prompt, places = "", {}
    for key, value in pairs.items():
        start = len(prompt) + len(bullet)
        prompt += f"{bullet}{key}: {there.format(value)}\n"
        places["topic", key] = Span(0, start, len(prompt) - 1)
    messages: list[Message] = [{"role": "system", "content": prompt.rstrip("\n")}]
    found: list[Pointer] = []
    whole = rng.random() < 0.6
    for _ in range(rng.randint(*TURNS)):
        if rng.random() < LISTED_SHARE:
            asked, told = rng.choice(EVERYTHING), list(pairs)
            text = listing(rng, {key: here.format(value) for key, value in pairs.items()})
        else:
            told = [rng.choice(list(pairs))]
            asked = told[0] + rng.choice(("", "?", "?", " please"))
            part = here.format(pairs[told[0]])
            text = f"{told[0]}: {part}" if whole else part
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
        with_keys = whole or len(told) > 1
        origins = [
            Origin(part, ("topic", key)) for key in told for part in ((key, pairs[key]) if with_keys else (pairs[key],))
        ]
        found += [replace(pointer, about=None) for pointer in pointers(messages, origins, places)]
    return messages, found


def listing(rng: random.Random, parts: dict[str, str]) -> str:
    """All pairs, as lines or in a sentence."""
    if rng.random() < 0.5:
        return "\n".join(f"- {key}: {part}" for key, part in parts.items())
    told = [f"{key} ({part})" for key, part in parts.items()]
    return " and ".join((", ".join(told[:-1]), told[-1])) if len(told) > 1 else told[0]
