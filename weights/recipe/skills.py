"""What the assistant can do about the shop itself: answer, answer several questions, briefly, as a list, after a short
follow-up, or admit that it cannot.

A skill adds one exchange (or a short run of them) to a talk and says whether it could. `orders.py`, `memory.py` and
`smalltalk.py` hold the others.
"""

from dataclasses import dataclass

from recipe.asking import (
    Asked,
    day_answer,
    fact_question,
    lower_maybe,
    named,
    payment_origins,
    payment_question,
    product_answer,
    shipping_answer,
    shipping_origins,
    some_question,
    topic_question,
    typed_product,
)
from recipe.phrases import expand, question
from recipe.sources import Origin
from recipe.talk import Talk
from recipe.values import join_and
from recipe.words import facts, same_topic, shared
from recipe.world import HOURS, shipping_methods

ABSENT = {"hours": "hours", "payment_all": "payments", "shipping_all": "shipping"}  # questions, and what they are about
DETAIL_SHARE = 0.2  # of the questions that nothing answers are about a property of a listed product
PAIRS = {
    "two_prices": ("product_price", "product_price"),
    "two_stocks": ("product_stock", "product_stock"),
    "price_and_stock": ("product_price", "product_stock"),
}
JOINTS = (" and ", " and ", "? also, ", "? ", "? and ", ", and ", ". ", " plus ", "?\n", "? oh and ")
MORE_JOINTS = (
    ", ", "; ", " / ", "... ", " & ", " as well as ", "?? ", "! ", "\n- ", "? then ", "? next: ", "? p.s. ",
    ", besides, ", "? second question: ", ". and while i'm here, ", "? one more: ", ", oh, and ", "? likewise, ",
)  # fmt: skip
NEAR_SHARE = 0.6  # of the products that training asks for and no list holds differ from a listed one in a word
UNKNOWN_LATER = 0.15  # share of several questions where the last cannot be answered


def tell(talk: Talk, skill: str, asked: Asked) -> None:
    talk.answer(skill, asked.answer, asked.expected, topic=asked.topic, origins=asked.origins)
    talk.note(asked.note)


def fact(talk: Talk) -> bool:
    if not talk.has_shop:
        return False
    asked = some_question(talk)
    talk.ask(asked.question, asked.keep)
    tell(talk, "fact", asked)
    return True


def several(talk: Talk) -> bool:
    """Two or three questions in one message, answered in their order; now and then the last one cannot be."""
    if not talk.has_shop:
        return False
    asked = [some_question(talk) for _ in range(talk.rng.choice((2, 2, 2, 3)))]
    values = [value for item in asked for value in item.expected]
    if len(set(values)) < len(values) or len({item.about for item in asked}) < len(asked):
        return False
    texts, answers = [item.question for item in asked], [item.answer for item in asked]
    expected, keep = tuple(values), sum((item.keep for item in asked), ())
    missing = unknown_question(talk) if talk.values.chance(UNKNOWN_LATER) else None
    if missing:
        texts, answers = [texts[0], missing.question], [answers[0], talk.worded("unknown")]
        expected, keep = asked[0].expected, asked[0].keep + missing.keep
    joint = talk.rng.choice(JOINTS if talk.split == "held_out" else JOINTS + MORE_JOINTS)
    talk.ask(joint.join(text.rstrip("?") for text in texts) + talk.rng.choice(("?", "?", "")), keep)
    kind, answered = ("unknown", asked[:1]) if missing else (None, asked)
    origins = sum((item.origins for item in answered), ())
    talk.answer("several questions", " ".join(answers), expected, kind, origins=origins)
    for item in answered:
        talk.note(item.note)
    return True


def together(talk: Talk) -> bool:
    """Two things in one breath, the second leaning on the first: 'the kettle, how much, and do you have one?'"""
    world, rng = talk.world, talk.rng
    kinds = ["two_prices", "two_stocks"] if len(world.products) > 1 else []
    kinds += ["price_and_stock"] * bool(world.products) + ["time_and_cost"] * bool(world.shipping)
    if not kinds:
        return False
    kind = rng.choice(kinds)
    if kind == "time_and_cost":
        item = rng.choice(world.shipping)
        slots, notes = {"M": lower_maybe(talk, item.method)}, [f"{item.method} shipping"]
        answers = [shipping_answer(talk, item, "shipping_time"), shipping_answer(talk, item, "shipping_cost")]
        origins = named("shipping", item.method, item.time) + named("shipping", item.method, item.cost)
    else:
        names = rng.sample(list(world.products), 1 if kind == "price_and_stock" else 2)
        slots = dict(zip("PQ", [typed_product(talk, name) for name in names], strict=False))
        notes = [f"the {name}" for name in names]
        parts = [product_answer(talk, name, asked) for name, asked in zip((*names, *names), PAIRS[kind], strict=False)]
        answers, origins = [part[:2] for part in parts], sum((part[2] for part in parts), ())
    values = tuple(value for _, value in answers)
    if len(set(values)) < 2:
        return False
    talk.ask_kind(kind, tuple(slots.values()), **slots)
    talk.answer("several questions", " ".join(text for text, _ in answers), values, origins=origins)
    for name in notes:
        talk.note(f"The customer asked about {name}.")
    return True


def briefly(talk: Talk) -> bool:
    """The bare value, because the customer wants nothing else."""
    if not talk.has_shop:
        return False
    asked = some_question(talk)
    if not asked.short:
        return False
    talk.ask(asked.question.rstrip("?") + "? " + question(talk.rng, talk.split, "briefly"), asked.keep, wrap=False)
    text = asked.short[:1].upper() + asked.short[1:]
    origins = tuple(origin for origin in asked.origins if origin.part == asked.short)
    talk.answer("style", text, asked.expected, topic=asked.topic, origins=origins)
    talk.note(asked.note)
    return True


def as_list(talk: Talk) -> bool:
    """Bullets where the customer asks for a list."""
    world, rng = talk.world, talk.rng
    lists = {
        "shipping_all": [f"{item.method}: {item.time}, {item.cost}" for item in world.shipping],
        "payment_all": world.payments,
        "product_list": [f"{name}: {product.price}" for name, product in list(world.products.items())],
    }
    kinds = [kind for kind, items in lists.items() if 0 < len(items) <= 7]
    if not kinds:
        return False
    kind = rng.choice(kinds)
    asked = question(rng, talk.split, kind) + " " + question(rng, talk.split, "as_list")
    talk.ask(asked, wrap=False)
    bullets = tuple(f"- {item}" for item in lists[kind])
    origins = {
        "shipping_all": shipping_origins(world.shipping),
        "payment_all": payment_origins(world.payments),
        "product_list": sum((named("product", name, item.price) for name, item in world.products.items()), ()),
    }
    talk.answer("style", "\n".join(bullets), bullets, origins=origins[kind])
    names = {"shipping_all": "shipping options", "payment_all": "payment methods", "product_list": "our products"}
    talk.note(f"The customer asked about {names[kind]}.")
    return True


def follow_up(talk: Talk) -> bool:
    """A fragment that only makes sense after the question before: 'and express?', 'is it in stock?'"""
    if talk.topic is None:
        return False
    kind, subject = talk.topic
    world, rng = talk.world, talk.rng
    if kind in ("product_price", "product_stock", "product_sold"):
        others = [name for name in world.products if name != subject]
        if others and talk.values.chance(0.5):
            name, text = rng.choice(others), "and_other"
            typed = typed_product(talk, name)
        else:
            name, typed = subject, ""
            kind = "product_stock" if kind != "product_stock" else "product_price"
            text = "and_stock" if kind == "product_stock" else "and_price"
        answer, value, origins = product_answer(talk, name, kind)
        talk.ask_kind(text, (typed,), wrap=False, X=typed)
        talk.answer("follow-up", answer, (value,), topic=(kind, name), origins=origins)
        return True
    if kind in ("shipping_time", "shipping_cost"):
        others = [item for item in world.shipping if item.method != subject]
        if others and talk.values.chance(0.5):
            item, text = rng.choice(others), "and_other"
        else:
            item = next(item for item in world.shipping if item.method == subject)
            kind = "shipping_cost" if kind == "shipping_time" else "shipping_time"
            text = "and_price" if kind == "shipping_cost" else "and_time"
        answer, value = shipping_answer(talk, item, kind)
        talk.ask_kind(text, wrap=False, X=lower_maybe(talk, item.method))
        origins = named("shipping", item.method, value)
        talk.answer("follow-up", answer, (value,), topic=(kind, item.method), origins=origins)
        return True
    if kind == "hours" and world.hours:
        day = rng.choice([day for day in shared("weekdays") if day != subject])
        value = {"Saturday": world.hours.saturday, "Sunday": world.hours.sunday}.get(day, world.hours.week)
        typed = lower_maybe(talk, day)
        talk.ask_kind("and_other", wrap=False, X=rng.choice((f"on {typed}", f"on {typed}s", typed)))
        origins = (Origin(value, HOURS),)
        talk.answer("follow-up", day_answer(day, value), (value,), topic=("hours", day), origins=origins)
        return True
    if kind == "payment":
        method = rng.choice([method for method in shared("payment_methods") if method != subject])
        asked = payment_question(talk, method)
        (typed,) = asked.keep
        talk.ask_kind("and_other", asked.keep, wrap=False, X=typed)
        talk.answer("follow-up", asked.answer, asked.expected, topic=asked.topic, origins=asked.origins)
        return True
    return False


def repeat(talk: Talk) -> bool:
    """The last answer again."""
    if len(talk.messages) < 3 or talk.messages[-1]["role"] != "assistant" or not talk.cases[-1].expected:
        return False
    last, topic = talk.messages[-1]["content"], talk.topic
    if not isinstance(last, str) or len(last) > 200:
        return False
    talk.ask_kind("repeat", wrap=False)
    talk.answer("follow-up", last, talk.cases[-1].expected, topic=topic, origins=None)
    return True


def unclear(talk: Talk) -> bool:
    """A fragment with nothing before it that it could refer to."""
    if not talk.has_shop or any(message["role"] == "assistant" for message in talk.messages):
        return False
    talk.ask_kind("unclear", wrap=False)
    talk.answer_kind("small talk", "unclear", kind="unclear")
    return True


@dataclass(frozen=True)
class Missing:
    """A question that nothing in the prompt answers; `name` is what it is about in a summary, `kind` for `about.py`,
    `keep` what typing must not roughen."""

    question: str
    name: str
    kind: str
    keep: tuple[str, ...] = ()


def unknown_question(talk: Talk) -> Missing | None:
    """A question about something that other shops state and this one does not, or about a product's properties."""
    world, rng = talk.world, talk.rng
    if world.products and talk.values.chance(DETAIL_SHARE):
        name = rng.choice(list(world.products))
        typed = typed_product(talk, name)
        return Missing(question(rng, talk.split, "product_detail", P=typed), f"the {name}", "topic", (typed,))
    missing = [key for key in facts() if key not in world.facts]
    absent = {"hours": "opening hours"} if not world.hours else {}
    absent |= {"payment_all": "payment methods"} if not world.payments else {}
    absent |= {"shipping_all": "shipping options"} if not world.shipping else {}
    form = rng.random()
    if form < 0.2:
        topic = talk.values.topic()
        if any(same_topic(topic, other) for other in world.topics):
            return None
        return Missing(topic_question(talk, topic), topic, "topic")
    if absent and form < 0.4:
        kind = rng.choice(list(absent))
        return Missing(question(rng, talk.split, kind), absent[kind], ABSENT[kind])
    key = rng.choice(missing)
    return Missing(fact_question(talk, key), facts()[key]["name"], key)


def unlisted_product(talk: Talk) -> str:
    """A product that the shop may not have; in training often one that differs from a listed one in a word."""
    other = talk.values.product()
    if talk.split == "held_out" or not talk.world.products or not talk.values.chance(NEAR_SHARE):
        return other
    parts, others = talk.rng.choice(list(talk.world.products)).split(), other.split()
    at = talk.rng.choice((0, -1))
    parts[at] = others[at]
    return " ".join(parts)


def unknown(talk: Talk) -> bool:
    """Abstains instead of inventing."""
    if not talk.has_shop:
        return False
    form, training = talk.rng.random(), talk.split == "train"
    if form < (0.62 if training else 0.75):
        asked = unknown_question(talk)
        if asked is None:
            return False
        talk.ask(asked.question, asked.keep)
        talk.answer_kind("abstention", "unknown", kind="unknown", about=asked.kind)
        talk.note(f"The customer asked about {asked.name}, which I could not answer.")
    elif form < 0.9:
        product = unlisted_product(talk)
        kind = talk.rng.choice(("product_sold", "product_price", "product_stock"))
        typed = lower_maybe(talk, product)
        if any(typed.lower() in name.lower() for name in talk.world.products):
            return False
        talk.ask_kind(kind, (typed,), P=typed)
        talk.place(("asked", typed), typed)
        origins = (Origin("I'm sorry", None), Origin(typed, ("asked", typed)))
        talk.answer_kind("abstention", "product_unknown", kind="unknown", origins=origins, about="product", P=typed)
        talk.note(f"The customer asked about the {typed}, which we do not list.")
    else:
        known = [item.method for item in talk.world.shipping]
        if not known:
            return False
        method = talk.rng.choice([name for name in shipping_methods(talk.values) if name not in known])
        talk.ask_kind(talk.rng.choice(("shipping_time", "shipping_cost")), M=lower_maybe(talk, method))
        talk.place(("asked", method), method)
        named_first = (Origin("I don't have", None), Origin(method, ("asked", method)))
        origins = (*named_first, *(Origin(name, ("shipping", name)) for name in known))
        slots = {"M": method, "V": join_and(known)}
        talk.answer_kind("abstention", "shipping_unknown", kind="unknown", origins=origins, about="shipping", **slots)
        talk.note(f"The customer asked about {method} shipping, which we do not offer.")
    return True


def off_topic(talk: Talk) -> bool:
    """Something that has nothing to do with a shop, or an attempt to talk the assistant out of its role."""
    kind = "injection" if talk.values.chance(0.3) else "off_topic"
    if kind == "off_topic" and talk.values.chance(0.25):
        text = question(talk.rng, talk.split, "off_topic_about", T=talk.values.listed("off_topics"))
    else:
        text = question(talk.rng, talk.split, kind)
    talk.ask(expand(talk.rng, text))
    origins = (Origin("Sorry", None), Origin(talk.world.shop, ("shop", ""))) if talk.world.shop else ()
    talk.answer_kind("off topic", talk.either("off_topic"), kind="off_topic", origins=origins)
    talk.note("The customer asked for something off topic.")
    return True


def plain_unknown(talk: Talk) -> bool:
    """A shop question to an assistant that has no shop."""
    if talk.has_shop:
        return False
    kind = talk.rng.choice(("fact", "fact", "product_price", "hours", "shipping_all"))
    if kind == "fact":
        talk.ask(fact_question(talk, talk.rng.choice(list(facts()))))
    else:
        talk.ask_kind(kind, P=talk.values.product())
    talk.answer_kind("abstention", "plain_unknown", kind="unknown")
    return True
