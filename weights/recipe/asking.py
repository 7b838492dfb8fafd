"""Questions that the world can answer, each with its answer and the values that the answer must hold.

`some_question` draws one; the skills decide how to put it (alone, two at once, "just the number, please").
"""

from collections.abc import Callable
from dataclasses import dataclass

from recipe.phrases import expand, question, reply
from recipe.talk import Talk
from recipe.values import join_and
from recipe.words import load, shared


@dataclass(frozen=True)
class Asked:
    """`keep` are parts of the question that typing must not roughen; `short` is the bare value, if there is one."""

    question: str
    answer: str
    expected: tuple[str, ...]
    keep: tuple[str, ...] = ()
    short: str | None = None


def lower_maybe(talk: Talk, text: str) -> str:
    return text.lower() if talk.values.chance(0.4) else text


def ask_fact(talk: Talk) -> Asked:
    key = talk.rng.choice(list(talk.world.facts))
    value, fact = talk.world.facts[key], load("facts")[key]
    asked = fact_question(talk, key)
    return Asked(asked, expand(talk.rng, talk.rng.choice(fact["answers"]), v=value), (value,), short=value)


def fact_question(talk: Talk, key: str) -> str:
    fact = load("facts")[key]
    return expand(talk.rng, talk.rng.choice(fact["questions" if talk.split == "train" else "held_out"]))


def ask_topic(talk: Talk) -> Asked:
    topic = talk.rng.choice(list(talk.world.topics))
    rule = talk.world.topics[topic]
    answer = reply(talk.rng, "topic", K=topic[:1].upper() + topic[1:], V=rule)
    return Asked(question(talk.rng, talk.split, "topic", T=topic), answer, (rule,), (topic,), rule)


def ask_product(talk: Talk) -> Asked:
    name = talk.rng.choice(list(talk.world.products))
    product, typed = talk.world.products[name], lower_maybe(talk, name)
    kind = talk.rng.choice(("product_price", "product_price", "product_stock", "product_sold"))
    value = product.stock if kind == "product_stock" else product.price
    reply_kind = "product_left" if value.endswith("left") else kind
    answer = reply(talk.rng, reply_kind, P=name, V=value)
    return Asked(question(talk.rng, talk.split, kind, P=typed), answer, (value,), (typed,), value)


def ask_product_list(talk: Talk) -> Asked:
    listed = [f"{name} ({product.price})" for name, product in talk.world.products.items()]
    answer = reply(talk.rng, "product_list", V=join_and(listed))
    return Asked(question(talk.rng, talk.split, "product_list"), answer, tuple(talk.world.products))


def ask_one_shipping(talk: Talk) -> Asked:
    method = talk.rng.choice(talk.world.shipping)
    kind = talk.rng.choice(("shipping_time", "shipping_cost"))
    value = method.time if kind == "shipping_time" else method.cost
    asked = question(talk.rng, talk.split, kind, M=lower_maybe(talk, method.method))
    return Asked(asked, reply(talk.rng, kind, M=method.method, V=value), (value,), short=value)


def ask_all_shipping(talk: Talk) -> Asked:
    methods = talk.world.shipping
    listed = join_and([f"{item.method} ({item.time}, {item.cost})" for item in methods])
    expected = tuple(part for item in methods for part in (item.time, item.cost))
    return Asked(question(talk.rng, talk.split, "shipping_all"), reply(talk.rng, "shipping_all", V=listed), expected)


def ask_hours(talk: Talk) -> Asked:
    assert talk.world.hours
    week, weekend = talk.world.hours
    if talk.values.chance(0.6):
        answer = reply(talk.rng, "hours", A=week, B=weekend)
        return Asked(question(talk.rng, talk.split, "hours"), answer, (week, weekend))
    answer = reply(talk.rng, "weekend_hours", B=weekend)
    return Asked(question(talk.rng, talk.split, "weekend_hours"), answer, (weekend,), short=weekend)


def ask_payment(talk: Talk) -> Asked:
    accepted = talk.world.payments
    if talk.values.chance(0.5):
        answer = reply(talk.rng, "payment_all", V=join_and(accepted))
        return Asked(question(talk.rng, talk.split, "payment_all"), answer, tuple(accepted))
    method = talk.rng.choice(accepted if talk.values.chance(0.5) else shared("payment_methods"))
    asked = question(talk.rng, talk.split, "payment_one", M=method)
    if method in accepted:
        return Asked(asked, reply(talk.rng, "payment_yes", M=method), ("Yes", method), (method,))
    return Asked(asked, reply(talk.rng, "payment_no", M=method, V=join_and(accepted)), ("No", method), (method,))


Maker = Callable[[Talk], Asked]


def possible(talk: Talk) -> dict[Maker, float]:
    """What can be asked of this world, with weights."""
    world = talk.world
    return {
        ask_fact: 5.0 if world.facts else 0.0,
        ask_topic: 1.5 if world.topics else 0.0,
        ask_product: 3.0 if world.products else 0.0,
        ask_product_list: 0.4 if world.products else 0.0,
        ask_one_shipping: 2.0 if world.shipping else 0.0,
        ask_all_shipping: 0.8 if world.shipping else 0.0,
        ask_hours: 1.5 if world.hours else 0.0,
        ask_payment: 1.5 if world.payments else 0.0,
    }


def some_question(talk: Talk) -> Asked:
    """One answerable question; every world with a shop has at least one fact."""
    weights = possible(talk)
    maker = talk.rng.choices(list(weights), list(weights.values()))[0]
    return maker(talk)
