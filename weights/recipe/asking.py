"""Questions that the world can answer, each with its answer and the values that the answer must hold.

`some_question` draws one; the skills decide how to put it (alone, two at once, "just the number, please").
"""

from collections.abc import Callable
from dataclasses import dataclass

from recipe.phrases import expand, keywords, question, reply
from recipe.sources import Origin
from recipe.talk import Talk
from recipe.values import join_and
from recipe.words import facts, shared, topics
from recipe.world import HOURS, PAYMENTS, Shipping

UNNAMED_SHARE = 0.6  # of training's questions about a topic do not call it by its name
TWICE_SHARE = 0.12  # of training's questions for a fact are put in two ways


ALSO_CALLED = {
    "American Express": ("amex", "amex cards"), "bank transfer": ("wire transfer", "wire transfers"),
    "crypto": ("bitcoin", "ethereum"), "cash": ("coins", "banknotes"), "cheque": ("check",), "PayPal": ("pay pal",),
    "Mastercard": ("master card",),
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """`keep` are parts of the question that typing must not roughen; `short` is the bare value, if there is one;
    `about` names the subject in a summary; `topic` is what a short follow-up may refer to; `origins` are what the
    answer is taken from, part by part."""

    question: str
    answer: str
    expected: tuple[str, ...]
    about: str
    keep: tuple[str, ...] = ()
    short: str | None = None
    topic: tuple[str, str] | None = None
    origins: tuple[Origin, ...] = ()

    @property
    def note(self) -> str:
        return f"The customer asked about {self.about}{f' ({self.short})' if self.short else ''}."


def lower_maybe(talk: Talk, text: str) -> str:
    return text.lower() if talk.values.chance(0.4) else text


def typed_product(talk: Talk, name: str) -> str:
    """What a customer calls a product: its name, or its last words (in training also its first ones) where those
    single it out."""
    parts = name.split()
    training = talk.split == "train"
    if len(parts) > 1 and talk.values.chance(0.4 if training else 0.3):
        count = talk.rng.randint(1, len(parts) - 1)
        first = training and talk.values.chance(0.5)
        short = " ".join(parts[:count] if first else parts[-count:])
        if sum(short.lower() in other.lower() for other in talk.world.products) == 1:
            return lower_maybe(talk, short)
    return lower_maybe(talk, name)


def ask_fact(talk: Talk) -> Asked:
    key = talk.rng.choice(list(talk.world.facts))
    value, fact = talk.world.facts[key], facts()[key]
    answer = expand(talk.rng, fact["answers"][0], v=value)
    origins = (Origin(value, ("fact", key)),)
    return Asked(fact_question(talk, key), answer, (value,), fact["name"], short=value, origins=origins)


def fact_question(talk: Talk, key: str) -> str:
    """A question for a kind of fact; in training now and then in two ways at once, as people do who explain."""
    fact, rng = facts()[key], talk.rng
    if talk.split == "held_out":
        return expand(rng, rng.choice(fact["held_out"]))
    if asked := keywords(rng, key):
        return asked
    ways = rng.sample(fact["questions"], 2 if rng.random() < TWICE_SHARE else 1)
    joint, end = rng.choice((" ", ". ", ", ", " - ")), rng.choice(("?", ""))
    return joint.join(expand(rng, way).rstrip("?") for way in ways) + end


def ask_topic(talk: Talk) -> Asked:
    topic = talk.rng.choice(list(talk.world.topics))
    rule = talk.world.topics[topic]
    answer = reply(talk.rng, "topic", K=topic[:1].upper() + topic[1:], V=rule)
    origins = (Origin(topic, ("topic", topic)), Origin(rule, ("topic", topic)))
    return Asked(topic_question(talk, topic), answer, (rule,), topic, (topic,), rule, origins=origins)


def topic_question(talk: Talk, topic: str) -> str:
    """Names the topic, or in training says the same in other words, if there are any for it."""
    asks = topics().get(topic) if talk.split == "train" else None
    if asks and talk.values.chance(UNNAMED_SHARE):
        return expand(talk.rng, talk.rng.choice(asks))
    return question(talk.rng, talk.split, "topic", T=topic)


def product_answer(talk: Talk, name: str, kind: str) -> tuple[str, str, tuple[Origin, ...]]:
    """The answer, its value, and what both are taken from, in the answer's order; `kind` is product_price,
    product_stock or product_sold."""
    product = talk.world.products[name]
    value = product.stock if kind == "product_stock" else product.price
    counted = value[0].isdigit() and kind == "product_stock"
    origins = named("product", name, value)
    answer = reply(talk.rng, "product_left" if counted else kind, P=name, V=value)
    return answer, value, origins[::-1] if counted else origins


def shipping_answer(talk: Talk, item: Shipping, kind: str) -> tuple[str, str]:
    """The answer and its value; `kind` is shipping_time or shipping_cost."""
    if kind == "shipping_time":
        value, words = item.time, kind if item.time[0].isdigit() else "shipping_day"
    else:
        value, words = item.cost, "shipping_free" if item.cost == "free" else kind
    return reply(talk.rng, words, M=item.method, V=value), value


def named(kind: str, name: str, *values: str) -> tuple[Origin, ...]:
    """Origins of an answer that names its subject and then tells values of it."""
    return tuple(Origin(part, (kind, name)) for part in (name, *values))


def ask_product(talk: Talk) -> Asked:
    name = talk.rng.choice(list(talk.world.products))
    kind = talk.rng.choice(("product_price", "product_price", "product_stock", "product_sold"))
    typed = typed_product(talk, name)
    answer, value, origins = product_answer(talk, name, kind)
    asked, what = question(talk.rng, talk.split, kind, P=typed), "stock" if kind == "product_stock" else "price"
    short = None if kind == "product_sold" else value
    about = f"the {what} of the {name}"
    return Asked(asked, answer, (value,), about, (typed,), short, (kind, name), origins)


def ask_product_list(talk: Talk) -> Asked:
    kind = talk.rng.choice(("product_list", "product_list", "product_cheapest", "product_dearest"))
    listed = [f"{name} ({product.price})" for name, product in talk.world.products.items()]
    answer = reply(talk.rng, "product_list", V=join_and(listed))
    origins = sum((named("product", name, item.price) for name, item in talk.world.products.items()), ())
    return Asked(question(talk.rng, talk.split, kind), answer, tuple(listed), "our products", origins=origins)


def ask_one_shipping(talk: Talk) -> Asked:
    method = talk.rng.choice(talk.world.shipping)
    kind = talk.rng.choice(("shipping_time", "shipping_cost"))
    asked = question(talk.rng, talk.split, kind, M=lower_maybe(talk, method.method))
    answer, value = shipping_answer(talk, method, kind)
    about = f"the {kind.removeprefix('shipping_')} of {method.method} shipping"
    origins = named("shipping", method.method, value)
    return Asked(asked, answer, (value,), about, short=value, topic=(kind, method.method), origins=origins)


def ask_all_shipping(talk: Talk) -> Asked:
    methods = talk.world.shipping
    listed = join_and([f"{item.method} ({item.time}, {item.cost})" for item in methods])
    expected = tuple(part for item in methods for part in (item.time, item.cost))
    asked = question(talk.rng, talk.split, "shipping_all")
    answer = reply(talk.rng, "shipping_all", V=listed)
    return Asked(asked, answer, expected, "shipping options", origins=shipping_origins(methods))


def shipping_origins(methods: list[Shipping]) -> tuple[Origin, ...]:
    return sum((named("shipping", item.method, item.time, item.cost) for item in methods), ())


def day_answer(day: str, value: str) -> str:
    return f"We're closed on {day}s." if value == "closed" else f"We're open {value} on {day}s."


def ask_hours(talk: Talk) -> Asked:
    """All hours, those of the week or of the weekend, or those of one day."""
    hours, rng = talk.world.hours, talk.rng
    assert hours
    kind = rng.choice(("hours", "hours", "weekday_hours", "weekend_hours", "day_hours", "day_hours"))
    about = "opening hours"
    if kind == "day_hours":
        day = rng.choice(shared("weekdays"))
        value = {"Saturday": hours.saturday, "Sunday": hours.sunday}.get(day, hours.week)
        asked = question(rng, talk.split, kind, D=lower_maybe(talk, day))
        origins, topic = (Origin(value, HOURS),), ("hours", day)
        return Asked(
            asked, day_answer(day, value), (value,), f"the hours on {day}", short=value, topic=topic, origins=origins
        )
    week = f"We're open {hours.week} on weekdays"
    if hours.same_weekend:
        weekend = "closed on weekends" if hours.saturday == "closed" else f"open {hours.saturday} on weekends"
        ends = (hours.saturday,)
    else:
        sunday = "closed on Sundays" if hours.sunday == "closed" else f"{hours.sunday} on Sundays"
        weekend, ends = f"open {hours.saturday} on Saturdays and {sunday}", (hours.saturday, hours.sunday)
    if kind == "weekday_hours":
        asked, origins = question(rng, talk.split, kind), (Origin(hours.week, HOURS),)
        return Asked(asked, week + ".", (hours.week,), about, short=hours.week, topic=("hours", ""), origins=origins)
    if kind == "weekend_hours":
        kind = rng.choice(("weekend_hours", "weekend_open"))
        origins = tuple(Origin(value, HOURS) for value in ends)
        return Asked(question(rng, talk.split, kind), f"We're {weekend}.", ends, "weekend hours", origins=origins)
    joined = weekend.removeprefix("open ") if hours.same_weekend and hours.saturday != "closed" else weekend
    answer = f"{week} and {joined}."
    asked, values = question(rng, talk.split, kind), (hours.week, *ends)
    origins = tuple(Origin(value, HOURS) for value in values)
    return Asked(asked, answer, values, about, topic=("hours", ""), origins=origins)


def ask_payment(talk: Talk) -> Asked:
    accepted = talk.world.payments
    if talk.values.chance(0.4):
        answer = reply(talk.rng, "payment_all", V=join_and(accepted))
        asked, origins = question(talk.rng, talk.split, "payment_all"), payment_origins(accepted)
        return Asked(asked, answer, tuple(accepted), "payment methods", origins=origins)
    others = [method for method in shared("payment_methods") if method not in accepted]
    method = talk.rng.choice(accepted if talk.values.chance(0.5) else others)
    return payment_question(talk, method)


def payment_origins(methods: list[str]) -> tuple[Origin, ...]:
    return tuple(Origin(method, PAYMENTS) for method in methods)


def payment_question(talk: Talk, method: str) -> Asked:
    accepted = talk.world.payments
    typed = lower_maybe(talk, method)
    if talk.split == "train" and method in ALSO_CALLED and talk.values.chance(0.5):
        typed = talk.rng.choice(ALSO_CALLED[method])
    asked = question(talk.rng, talk.split, "payment_one", M=typed)
    about, topic = f"paying with {method}", ("payment", method)
    if method in accepted:
        answer = reply(talk.rng, "payment_yes", M=method)
        origins = (Origin("Yes", PAYMENTS, method), Origin(method, PAYMENTS))
        return Asked(asked, answer, ("Yes", method), about, (typed,), topic=topic, origins=origins)
    said = typed if typed in ALSO_CALLED.get(method, ()) else method  # what nobody has said cannot be copied
    answer = reply(talk.rng, "payment_no", M=said, V=join_and(accepted))
    origins = (Origin("No", PAYMENTS), *payment_origins(accepted))
    return Asked(asked, answer, ("No", said), about, (typed,), topic=topic, origins=origins)


Maker = Callable[[Talk], Asked]


def possible(talk: Talk) -> dict[Maker, float]:
    """What can be asked of this world, with weights: training asks more of what is hard to learn."""
    world, training = talk.world, talk.split == "train"
    return {
        ask_fact: 7.0 if world.facts else 0.0,
        ask_topic: (1.8 if training else 1.2) if world.topics else 0.0,
        ask_product: (3.6 if training else 3.0) if world.products else 0.0,
        ask_product_list: (1.6 if training else 0.6) if 0 < len(world.products) <= 6 else 0.0,
        ask_one_shipping: 2.0 if world.shipping else 0.0,
        ask_all_shipping: (2.0 if training else 0.8) if world.shipping else 0.0,
        ask_hours: 2.0 if world.hours else 0.0,
        ask_payment: 1.7 if world.payments else 0.0,
    }


def some_question(talk: Talk) -> Asked:
    """One answerable question; every world with a shop has at least one fact."""
    weights = possible(talk)
    maker = talk.rng.choices(list(weights), list(weights.values()))[0]
    return maker(talk)
