"""Orders: looked up in the system prompt's table, asked for when the number is missing, remembered afterwards."""

from recipe.talk import Talk
from recipe.world import Order

STATUS, ETA, CARRIER = "order_status", "order_eta", "order_carrier"


def tell(talk: Talk, skill: str, kind: str, number: str, order: Order) -> None:
    """Answers one kind of question about an order and makes it the order that is talked about."""
    expected = {STATUS: (order.status, order.carrier, order.eta), ETA: (order.eta,), CARRIER: (order.carrier,)}[kind]
    slots = {"I": number, "S": order.status, "C": order.carrier, "E": order.eta}
    talk.answer_kind(skill, kind, expected, **slots)
    talk.order_number, talk.order = number, order


def order(talk: Talk) -> bool:
    """A question that names its order."""
    if not talk.world.orders:
        return False
    if talk.values.chance(0.15):
        number = talk.values.order_number()
        if number in talk.world.orders:
            return False
        talk.ask_kind(STATUS, (number,), I=number)
        talk.answer_kind("unknown order", "order_unknown", (number,), kind="order_unknown", I=number)
        return True
    number = talk.rng.choice(list(talk.world.orders))
    kind = talk.rng.choice((STATUS, STATUS, ETA, CARRIER))
    talk.ask_kind(kind, (number,), I=number)
    tell(talk, "order", kind, number, talk.world.orders[number])
    return True


def order_without_number(talk: Talk) -> bool:
    """The customer asks about 'my order': ask for the number, then answer; or say that orders cannot be seen here."""
    if talk.order_number:
        return False
    if not talk.world.orders:
        talk.ask_kind("order_no_number")
        kind = "order_impossible" if talk.has_shop else "plain_order"
        talk.answer_kind("no orders", kind, kind="order_impossible")
        return True
    talk.ask_kind("order_no_number")
    talk.answer_kind("asks number", "order_ask", kind="order_ask")
    number = talk.rng.choice(list(talk.world.orders))
    talk.ask_kind("order_number_given", (number,), wrap=False, I=number)
    tell(talk, "order", STATUS, number, talk.world.orders[number])
    return True


def order_follow_up(talk: Talk) -> bool:
    """'And when does it arrive?' about the order of before."""
    if not talk.order or not talk.order_number:
        return False
    kind = talk.rng.choice((ETA, CARRIER))
    talk.ask_kind(f"{kind}_follow_up", wrap=False)
    tell(talk, "follow-up", kind, talk.order_number, talk.order)
    return True


def mention_order_number(talk: Talk) -> bool:
    """Without a table: the customer gives a number that matters only to memory."""
    if talk.world.orders or talk.order_number:
        return False
    number = talk.values.order_number()
    talk.ask_kind("order_number_mentioned", (number,), I=number)
    kind = "order_impossible" if talk.has_shop else "plain_order"
    talk.answer_kind("no orders", kind, kind="order_impossible")
    talk.order_number = number
    return True


def recall_order_number(talk: Talk) -> bool:
    if not talk.order_number and talk.values.chance(0.6):
        return False
    talk.ask_kind("order_number_asked", wrap=False)
    if talk.order_number:
        talk.answer_kind("memory", "order_number_known", (talk.order_number,), I=talk.order_number)
    else:
        talk.answer_kind("memory", "order_number_missing", kind="missing")
    return True
