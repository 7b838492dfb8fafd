"""The world behind one conversation: a shop with its facts, or no shop at all.

A world is plain data. How it is written into a system prompt is `layout.py`'s business, what is asked about it is the
skills'. Which facts a shop lacks matters as much as which it has: the missing ones are what the model must not invent.
"""

from dataclasses import dataclass, field

from recipe.values import Values
from recipe.words import load, shared, words


@dataclass(frozen=True)
class Size:
    """How much a world of one level holds: upper limits, and how likely each optional part is."""

    facts: tuple[int, int]
    topics: int
    shipping: int
    payments: int
    products: int
    orders: int
    part: float  # probability of each optional part


SIZES = (
    Size(facts=(1, 4), topics=1, shipping=2, payments=3, products=2, orders=2, part=0.25),
    Size(facts=(3, 9), topics=3, shipping=3, payments=5, products=4, orders=4, part=0.5),
    Size(facts=(5, 15), topics=7, shipping=4, payments=7, products=8, orders=7, part=0.7),
)


@dataclass(frozen=True)
class Shipping:
    method: str
    time: str
    cost: str


@dataclass(frozen=True)
class Product:
    price: str
    stock: str


@dataclass(frozen=True)
class Order:
    item: str
    status: str
    carrier: str
    eta: str


@dataclass
class World:
    """Everything the assistant may know. `shop` is None in a conversation with a plain assistant."""

    shop: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    shipping: list[Shipping] = field(default_factory=list)
    hours: tuple[str, str] | None = None
    payments: list[str] = field(default_factory=list)
    products: dict[str, Product] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)


def make_order(values: Values) -> Order:
    status = values.rng.choice(shared("order_states"))
    return Order(item=values.product(), status=status, carrier=values.carrier(), eta=values.date())


def shipping_methods(values: Values) -> list[str]:
    """Held-out worlds also draw from the methods that training knows: the word itself is not what is tested."""
    methods = list(words("shipping_methods", "train"))
    return methods + words("shipping_methods", "held_out") if values.split == "held_out" else methods


def make_world(values: Values, level: int) -> World:
    """A shop of a size given by `level` (0 short, 1 a usual shop, 2 long)."""
    rng, size = values.rng, SIZES[level]
    world = World(shop=values.shop())
    facts = load("facts")
    for key in rng.sample(list(facts), rng.randint(*size.facts)):
        world.facts[key] = getattr(values, facts[key]["value"])()
    for _ in range(rng.randint(0, size.topics)):
        world.topics[values.topic()] = values.topic_rule()
    if values.chance(size.part):
        for method in rng.sample(shipping_methods(values), rng.randint(1, size.shipping)):
            cost = values.money(1, 60) if values.chance(0.9) else "free"
            world.shipping.append(Shipping(method, values.span(), cost))
    if values.chance(size.part):
        world.hours = (values.hours(), values.hours() if values.chance(0.7) else "closed")
    if values.chance(size.part):
        world.payments = rng.sample(shared("payment_methods"), rng.randint(2, size.payments))
    if values.chance(size.part + 0.15):
        for _ in range(rng.randint(1, size.products)):
            world.products[values.product()] = Product(values.price(), values.stock())
    if values.chance(size.part):
        for _ in range(rng.randint(1, size.orders)):
            world.orders[values.order_number()] = make_order(values)
    return world
