"""The world behind one conversation: a shop with its facts, or no shop at all.

A world is plain data. How it is written into a system prompt is `layout.py`'s business, what is asked about it is the
skills'. Which facts a shop lacks matters as much as which it has: the missing ones are what the model must not invent.
"""

from dataclasses import dataclass, field

from recipe.sources import Subject, marked
from recipe.values import Values
from recipe.words import facts, same_topic, shared, words

MORE_TOPICS = 2  # of a world in training: they can be asked about in most words
HOURS: Subject = ("hours", "")
PAYMENTS: Subject = ("payments", "")


@dataclass(frozen=True)
class Size:
    """How much a world of one level holds: limits, and how likely each optional part is."""

    facts: tuple[int, int]
    topics: int
    shipping: int
    payments: int
    products: int
    orders: int
    paragraphs: tuple[int, int]  # of text around the facts
    part: float  # probability of each optional part


SIZES = (
    Size(facts=(1, 4), topics=1, shipping=2, payments=3, products=3, orders=2, paragraphs=(0, 0), part=0.3),
    Size(facts=(3, 10), topics=2, shipping=3, payments=5, products=6, orders=3, paragraphs=(0, 1), part=0.6),
    Size(facts=(7, 18), topics=4, shipping=4, payments=7, products=10, orders=5, paragraphs=(0, 5), part=0.75),
    Size(facts=(10, 26), topics=7, shipping=5, payments=8, products=14, orders=8, paragraphs=(5, 30), part=0.85),
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


@dataclass(frozen=True)
class Hours:
    """Opening hours of the week, Saturday and Sunday; `weekend` where one value serves both days."""

    week: str
    saturday: str
    sunday: str

    @property
    def same_weekend(self) -> bool:
        return self.saturday == self.sunday


@dataclass
class World:
    """Everything the assistant may know. `shop` is None in a conversation with a plain assistant."""

    shop: str | None = None
    sector: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    shipping: list[Shipping] = field(default_factory=list)
    hours: Hours | None = None
    payments: list[str] = field(default_factory=list)
    products: dict[str, Product] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    paragraphs: int = 0

    @property
    def subjects(self) -> list[Subject]:
        """Everything that a line of the prompt may be about; the order is what marks refer to."""
        named = {
            "fact": self.facts,
            "topic": self.topics,
            "shipping": [item.method for item in self.shipping],
            "product": self.products,
            "order": self.orders,
        }
        return [HOURS, PAYMENTS, *((kind, name) for kind, names in named.items() for name in names)]

    def marked(self, kind: str, name: str, line: str) -> str:
        """A line of the prompt with marks that tell what it is about."""
        return marked(self.subjects.index((kind, name)), line)


def make_order(values: Values) -> Order:
    return Order(item=values.product(), status=values.order_state(), carrier=values.carrier(), eta=values.date())


def make_hours(values: Values) -> Hours:
    week, saturday = values.opening(), values.opening()
    form = values.rng.random()
    if form < 0.4:
        return Hours(week, saturday, saturday)
    if form < 0.6:
        return Hours(week, "closed", "closed")
    return Hours(week, saturday, "closed" if form < 0.85 else values.opening())


def shipping_methods(values: Values) -> list[str]:
    """Held-out worlds also draw from the methods that training knows: the word itself is not what is tested."""
    methods = list(words("shipping_methods", "train"))
    return methods + words("shipping_methods", "held_out") if values.split == "held_out" else methods


def make_world(values: Values, level: int) -> World:
    """A shop of a size given by `level` (0 short, 1 a usual shop, 2 large, 3 long)."""
    rng, size = values.rng, SIZES[level]
    world = World(shop=values.shop(), sector=values.filler("sectors"))
    kinds = facts()
    for key in rng.sample(list(kinds), rng.randint(*size.facts)):
        world.facts[key] = values.fill(rng.choice(kinds[key]["values"]))
    for _ in range(rng.randint(0, size.topics + (MORE_TOPICS if values.split == "train" else 0))):
        topic, rule = values.topic(), values.topic_rule()
        if not any(same_topic(topic, other) for other in world.topics):
            world.topics[topic] = rule
    if values.chance(size.part):
        for method in rng.sample(shipping_methods(values), rng.randint(1, size.shipping)):
            cost = values.money(1, 60) if values.chance(0.9) else "free"
            world.shipping.append(Shipping(method, values.shipping_time(), cost))
    if values.chance(size.part):
        world.hours = make_hours(values)
    if values.chance(size.part):
        world.payments = rng.sample(shared("payment_methods"), rng.randint(2, size.payments))
    if values.chance(size.part + 0.1):
        names = values.products()
        for _ in range(rng.randint(1, size.products)):
            product = Product(values.price(), values.stock())
            world.products[next(names)] = product
    if values.chance(size.part * 0.5):
        for _ in range(rng.randint(1, size.orders)):
            world.orders[values.order_number()] = make_order(values)
    world.paragraphs = rng.randint(*size.paragraphs)
    return world
