"""What customers tell about themselves, and are asked back later: name, town, e-mail, product, budget, size."""

from collections.abc import Callable

from recipe.asking import some_question
from recipe.phrases import question
from recipe.skills import tell
from recipe.sources import Origin
from recipe.talk import Talk
from recipe.values import Values

# kind: its slot in the questions, how its value is drawn
KINDS: dict[str, tuple[str, Callable[[Values], str]]] = {
    "name": ("N", Values.person),
    "city": ("C", Values.city),
    "email": ("E", Values.email),
    "item": ("P", Values.product),
    "budget": ("V", Values.threshold),
    "size": ("Z", Values.size),
}
NOTES = {
    "name": "The customer's name is {V}.",
    "city": "The customer lives in {V}.",
    "email": "The customer's email address is {V}.",
    "item": "The customer bought the {V}.",
    "budget": "The customer wants to spend at most {V}.",
    "size": "The customer's size is {V}.",
}


def tell_something(talk: Talk) -> bool:
    """The customer says something to be remembered, now and then with a question behind it."""
    kind = talk.rng.choice([*["name"] * 5, *KINDS])
    if kind in talk.told:
        return False
    slot, draw = KINDS[kind]
    value = draw(talk.values)
    typed = value.lower() if kind in ("name", "city") and talk.values.chance(0.3) else value
    if talk.has_shop and talk.values.chance(0.25):
        asked = some_question(talk)
        given = talk.rng.choice((". ", ", ", ". ", "! "))
        text = question_text(talk, f"{kind}_given", slot, typed) + given + asked.question
        talk.ask(text, (typed, *asked.keep), wrap=False)
        talk.place(("told", kind), typed)
        tell(talk, "fact", asked)
    else:
        talk.ask(question_text(talk, f"{kind}_given", slot, typed), (typed,), wrap=False)
        talk.place(("told", kind), typed)
        origins = (Origin(value, ("told", kind)),)
        talk.answer_kind("memory", f"{kind}_given", (value,), origins=origins, **{slot: value})
    talk.told[kind] = value
    talk.note(NOTES[kind].format(V=value))
    return True


def question_text(talk: Talk, kind: str, slot: str, value: str) -> str:
    return question(talk.rng, talk.split, kind, **{slot: value})


def recall(talk: Talk) -> bool:
    """Asks back what was told; or, more rarely, what never was."""
    if not talk.told and talk.values.chance(0.7):
        return False
    told = list(talk.told)
    kind = talk.rng.choice(told) if told and talk.values.chance(0.85) else talk.rng.choice(list(KINDS))
    talk.ask_kind(f"{kind}_asked", wrap=False)
    if kind in talk.told:
        value = talk.told[kind]
        origins = (Origin(value, ("told", kind)),)
        talk.answer_kind("memory", f"{kind}_known", (value,), origins=origins, **{KINDS[kind][0]: value})
    else:
        talk.answer_kind("memory", "told_nothing", kind="missing")
    return True
