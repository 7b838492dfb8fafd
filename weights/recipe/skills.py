"""What the assistant can do about the shop itself: answer, answer twice, answer briefly, as a list, or admit it cannot.

A skill adds one exchange (or a short run of them) to a talk and says whether it could. `orders.py` and `smalltalk.py`
hold the others.
"""

from recipe.asking import fact_question, lower_maybe, some_question
from recipe.phrases import question
from recipe.talk import Talk
from recipe.values import join_and
from recipe.words import load, shared
from recipe.world import shipping_methods


def fact(talk: Talk) -> bool:
    if not talk.has_shop:
        return False
    asked = some_question(talk)
    talk.ask(asked.question, asked.keep)
    talk.answer("fact", asked.answer, asked.expected)
    return True


def two_facts(talk: Talk) -> bool:
    """Two questions in one message, answered in their order."""
    if not talk.has_shop:
        return False
    first, second = some_question(talk), some_question(talk)
    if first.answer == second.answer or set(first.expected) & set(second.expected):
        return False
    joint = talk.rng.choice((" and ", " and ", "? also, ", "? "))
    talk.ask(first.question.rstrip("?") + joint + second.question, first.keep + second.keep)
    talk.answer("two facts", f"{first.answer} {second.answer}", first.expected + second.expected)
    return True


def briefly(talk: Talk) -> bool:
    """The bare value, because the customer wants nothing else."""
    if not talk.has_shop:
        return False
    asked = some_question(talk)
    if not asked.short:
        return False
    talk.ask(asked.question.rstrip("?") + "? " + question(talk.rng, talk.split, "briefly"), asked.keep, wrap=False)
    talk.answer("briefly", asked.short[:1].upper() + asked.short[1:], asked.expected)
    return True


def as_list(talk: Talk) -> bool:
    """Bullets where the customer asks for a list."""
    world, rng = talk.world, talk.rng
    lists = {
        "shipping_all": [f"{item.method}: {item.time}, {item.cost}" for item in world.shipping],
        "payment_all": world.payments,
        "product_list": [f"{name}: {product.price}" for name, product in world.products.items()],
    }
    kinds = [kind for kind, items in lists.items() if items]
    if not kinds:
        return False
    kind = rng.choice(kinds)
    asked = question(rng, talk.split, kind) + " " + question(rng, talk.split, "as_list")
    talk.ask(asked, wrap=False)
    bullets = tuple(f"- {item}" for item in lists[kind])
    talk.answer("as a list", "\n".join(bullets), bullets)
    return True


def unknown_question(talk: Talk) -> str | None:
    """A question about something that other shops state and this one does not."""
    world, rng = talk.world, talk.rng
    missing = [key for key in load("facts") if key not in world.facts]
    absent = [kind for kind, part in (("hours", world.hours), ("payment_all", world.payments)) if not part]
    if not world.shipping:
        absent.append("shipping_all")
    if talk.values.chance(0.35):
        topic = talk.values.topic()
        return None if topic in world.topics else question(rng, talk.split, "topic", T=topic)
    key = rng.choice(missing + absent)
    return question(rng, talk.split, key) if key in absent else fact_question(talk, key)


def unknown(talk: Talk) -> bool:
    """Abstains instead of inventing."""
    if not talk.has_shop:
        return False
    form = talk.rng.random()
    if form < 0.7:
        asked = unknown_question(talk)
        if asked is None:
            return False
        talk.ask(asked)
        talk.answer_kind("unknown", "unknown", kind="unknown")
    elif form < 0.88:
        product = talk.values.product()
        kind = talk.rng.choice(("product_sold", "product_price", "product_stock"))
        typed = lower_maybe(talk, product)
        talk.ask_kind(kind, (typed,), P=typed)
        talk.answer_kind("unknown", "product_unknown", kind="unknown", P=typed)
    else:
        known = [item.method for item in talk.world.shipping]
        if not known:
            return False
        method = talk.rng.choice([name for name in shipping_methods(talk.values) if name not in known])
        talk.ask_kind(talk.rng.choice(("shipping_time", "shipping_cost")), M=lower_maybe(talk, method))
        talk.answer_kind("unknown", "shipping_unknown", kind="unknown", M=method, V=join_and(known))
    return True


def off_topic(talk: Talk) -> bool:
    topic = talk.values.word("off_topics")
    country = talk.rng.choice(shared("countries"))
    city = talk.rng.choice(shared("cities"))
    talk.ask_kind("off_topic", T=topic, N=country, C=city, D=str(talk.values.number(2, 99)))
    talk.answer_kind("off topic", talk.either("off_topic"), kind="off_topic")
    return True


def plain_unknown(talk: Talk) -> bool:
    """A shop question to an assistant that has no shop."""
    if talk.has_shop:
        return False
    kind = talk.rng.choice(("fact", "fact", "product_price", "hours", "shipping_all"))
    if kind == "fact":
        talk.ask(fact_question(talk, talk.rng.choice(list(load("facts")))))
    else:
        talk.ask_kind(kind, P=talk.values.product())
    talk.answer_kind("unknown", "plain_unknown", kind="unknown")
    return True
