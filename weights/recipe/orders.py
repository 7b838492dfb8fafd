"""Orders: looked up in the system prompt's table, asked for when the number is missing, remembered afterwards."""

from recipe.sources import Origin
from recipe.talk import Talk
from recipe.world import Order

STATUS, ETA, CARRIER = "order_status", "order_eta", "order_carrier"
NAMES = {STATUS: "the status", ETA: "the delivery date", CARRIER: "the carrier"}


def tell(talk: Talk, skill: str, kind: str, number: str, order: Order) -> None:
    """Answers one kind of question about an order and makes it the order that is talked about."""
    expected = {STATUS: (order.status, order.carrier, order.eta), ETA: (order.eta,), CARRIER: (order.carrier,)}[kind]
    slots = {"I": number, "S": order.status, "C": order.carrier, "E": order.eta}
    origins = tuple(Origin(part, ("order", number)) for part in (number, *expected))
    talk.answer_kind(skill, kind, expected, origins=origins, **slots)
    talk.note(f"The customer asked about {NAMES[kind]} of order {number}.")
    talk.order_number, talk.order = number, order


def from_customer(talk: Talk, number: str) -> tuple[Origin, ...]:
    """The origin of a number that the customer has just given."""
    talk.place(("order number", number), number)
    return (Origin(number, ("order number", number)),)


def order(talk: Talk) -> bool:
    """A question that names its order."""
    if not talk.world.orders:
        return False
    if talk.values.chance(0.15):
        number = talk.values.order_number()
        if number in talk.world.orders:
            return False
        talk.ask_kind(STATUS, (number,), I=number)
        talk.answer_kind(
            "orders", "order_unknown", (number,), kind="order_unknown", origins=from_customer(talk, number), I=number
        )
        talk.note(f"The customer asked about order {number}, which could not be found.")
        return True
    number = talk.rng.choice(list(talk.world.orders))
    kind = talk.rng.choice((STATUS, STATUS, ETA, CARRIER))
    talk.ask_kind(kind, (number,), I=number)
    talk.place(("order number", number), number)
    tell(talk, "orders", kind, number, talk.world.orders[number])
    return True


def order_without_number(talk: Talk) -> bool:
    """The customer asks about 'my order': ask for the number, then answer; or say that orders cannot be seen here."""
    if talk.order_number:
        return False
    talk.ask_kind("order_no_number")
    if not talk.has_shop:
        talk.answer_kind("orders", "plain_order", kind="order_impossible")
        return True
    talk.answer_kind("asks the number", "order_ask", kind="order_ask")
    known = list(talk.world.orders)
    number = talk.rng.choice(known) if known else talk.values.order_number()
    talk.ask_kind("order_number_given", (number,), wrap=False, I=number)
    talk.place(("order number", number), number)
    if known:
        tell(talk, "orders", STATUS, number, talk.world.orders[number])
    else:
        no_table(talk, number)
    return True


def no_table(talk: Talk, number: str) -> None:
    """The number is known, but this assistant sees no orders."""
    origins = from_customer(talk, number)
    talk.answer_kind("orders", "order_impossible", kind="order_impossible", origins=origins, I=number)
    talk.note(f"The customer asked about order {number}, which I could not look up.")
    talk.order_number = number


def order_follow_up(talk: Talk) -> bool:
    """'And when does it arrive?' about the order of before."""
    if not talk.order or not talk.order_number:
        return False
    kind = talk.rng.choice((ETA, CARRIER))
    talk.ask_kind(f"{kind}_follow_up", wrap=False)
    tell(talk, "follow-up", kind, talk.order_number, talk.order)
    return True


def mention_order_number(talk: Talk) -> bool:
    """Without a table: the customer gives a number all the same."""
    if talk.world.orders or talk.order_number or not talk.has_shop:
        return False
    number = talk.values.order_number()
    talk.ask_kind(talk.rng.choice(("order_number_mentioned", STATUS)), (number,), I=number)
    no_table(talk, number)
    return True


def recall_order_number(talk: Talk) -> bool:
    if not talk.order_number and talk.values.chance(0.7):
        return False
    talk.ask_kind("order_number_asked", wrap=False)
    if talk.order_number:
        number, origins = talk.order_number, (Origin(talk.order_number, ("order number", talk.order_number)),)
        talk.answer_kind("memory", "order_number_known", (number,), origins=origins, I=number)
    else:
        talk.answer_kind("memory", "told_nothing", kind="missing")
    return True
