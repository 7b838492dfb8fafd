"""Drills: tiny conversations that are nothing but looking up a key and copying its value.

Copying is what a small model learns last and needs most. Among ordinary conversations its signal is thin, because most
of a reply is phrasing; in a drill nearly every learned token is copied. Drills are for training only: nobody evaluates
them, and no shop looks like them.
"""

import random
from collections.abc import Callable

from recipe.sources import Pointer, Span
from recipe.talk import Message
from recipe.values import Values
from recipe.words import Split

PAIRS = (2, 10)
TURNS = (4, 8)


def key_makers(values: Values) -> tuple[Callable[[], str], ...]:
    words = (values.any_word, values.invented_name, values.pseudo_word)
    return (values.topic, values.product, *words, values.order_number)


def value_makers(values: Values) -> tuple[Callable[[], str], ...]:
    numbers = (values.days, values.price, values.phone, values.span, values.date, values.opening, values.order_number)
    texts = (values.email, values.address, values.full_name, values.topic_rule, values.code, values.carrier)

    def two_words() -> str:
        return f"{values.any_word()}{values.rng.choice(' _')}{values.any_word()}"

    return (*numbers, *texts, values.product, two_words, lambda: values.digits(values.rng.randint(4, 12)))


def drill(rng: random.Random, split: Split) -> tuple[list[Message], list[Pointer]]:
    """A list of pairs as the system prompt, then keys asked and answered, mostly as 'key: value'; and where each
    answer is taken from."""
    values = Values(rng, split)
    keys, makers = key_makers(values), value_makers(values)
    pairs = {rng.choice(keys)(): rng.choice(makers)() for _ in range(rng.randint(*PAIRS))}
    bullet = rng.choice(("- ", "- ", "* ", ""))
    prompt, places = "", {}
    for key, value in pairs.items():
        start = len(prompt) + len(bullet)
        prompt += f"{bullet}{key}: {value}\n"
        places[key] = Span(0, start, len(prompt) - 1)
    messages, pointers = [{"role": "system", "content": prompt.rstrip("\n")}], []
    whole = rng.random() < 0.6
    for _ in range(rng.randint(*TURNS)):
        key = rng.choice(list(pairs))
        asked = key + rng.choice(("", "?", "?", " please"))
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": f"{key}: {pairs[key]}" if whole else pairs[key]})
        line, reply = places[key], len(messages) - 1
        source = line if whole else Span(0, line.end - len(pairs[key]), line.end)
        pointers.append(Pointer(reply, 0, 1, line, source))
    return messages, pointers
