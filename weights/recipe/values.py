"""Makes the names, numbers and other single values that a shop's facts consist of.

Every value is drawn for one split. Invented words stand where a memorised word would be a shortcut (people, streets,
brands), because only copying gets those right. This file does not know which fact a value belongs to, nor any phrasing.
"""

import random
import re

from recipe.words import Split, is_held_out, load, shared, words

LETTERS = "ABCDEFGHKMNPRSTWX"


def join_and(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


class Values:
    """Draws values of one split from one random generator. Method names are what `data/facts.toml` calls `value`."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng = rng
        self.split = split

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def word(self, kind: str) -> str:
        return self.rng.choice(words(kind, self.split))

    def number(self, low: int, high: int) -> int:
        """A number of this split; a range too narrow to hold one gives any number of the range."""
        for _ in range(100):
            number = self.rng.randint(low, high)
            if is_held_out(number) == (self.split == "held_out"):
                return number
        return self.rng.randint(low, high)

    def digits(self, count: int) -> str:
        return "".join(self.rng.choice("0123456789") for _ in range(count))

    # names

    def pseudo_word(self, syllables: int | None = None) -> str:
        """An invented, pronounceable word in lower case."""
        parts = load("words")["syllables"]
        count = syllables or self.rng.choice((1, 2, 2, 2, 3))
        text = ""
        for index in range(count):
            text += self.rng.choice(parts["onsets"]) + self.rng.choice(parts["vowels"])
            if self.chance(0.75 if index == count - 1 else 0.35):
                text += self.rng.choice(parts["codas"])
        return text

    def invented_name(self) -> str:
        return self.pseudo_word().capitalize()

    def shop(self) -> str:
        first = self.word("shop_adjectives") if self.chance(0.4) else self.invented_name()
        form = self.rng.random()
        if form < 0.7:
            return f"{first} {self.word('shop_kinds')}"
        if form < 0.8:
            return f"{first}'s {self.word('shop_kinds')}"
        if form < 0.9:
            return f"{first} & {self.invented_name()}"
        return first

    def product(self) -> str:
        noun, adjective, form = self.word("product_nouns"), self.word("product_adjectives"), self.rng.random()
        if form < 0.3:
            name = f"{self.invented_name()} {noun}"
        elif form < 0.65:
            name = f"{adjective} {noun}"
        elif form < 0.85:
            name = f"{self.invented_name()} {adjective} {noun}"
        else:
            name = f"{self.invented_name()} {noun} {self.rng.choice('XSZRTV')}{self.number(1, 900)}"
        case = self.rng.random()
        if case < 0.45:
            return name
        return name.title() if case < 0.9 else name.lower()

    def person(self) -> str:
        return self.word("first_names") if self.chance(0.5) else self.invented_name()

    def full_name(self) -> str:
        return f"{self.person()} {self.invented_name()}"

    def carrier(self) -> str:
        if self.chance(0.7):
            return self.word("carriers")
        return self.invented_name() + self.rng.choice((" Express", " Logistics", " Freight", " Couriers", ""))

    def topic(self) -> str:
        form = self.rng.random()
        if form < 0.7:
            return self.word("topics")
        if form < 0.85:
            return f"{self.pseudo_word()} {self.rng.choice(('service', 'card', 'plan', 'club', 'kit', 'pass', 'fee'))}"
        return f"{self.word('product_nouns')} {self.rng.choice(('repair', 'rental', 'cleaning', 'insurance'))}"

    # money, time, places

    def money(self, low: int, high: int) -> str:
        currency = "$" if self.chance(0.85) else self.rng.choice("€£")
        form = self.rng.random()
        if form < 0.4:
            return f"{currency}{self.number(low, high)}"
        cents = self.rng.choice(("99", "95", "50", "49", "00")) if form < 0.85 else self.digits(2)
        return f"{currency}{self.number(low, high)}.{cents}"

    def price(self) -> str:
        return self.money(1, 900)

    def small_price(self) -> str:
        return self.money(1, 20)

    def threshold(self) -> str:
        return self.money(10, 300)

    def days(self) -> str:
        form = self.rng.random()
        if form < 0.7:
            return f"{self.number(3, 400)} days"
        if form < 0.8:
            return f"{self.number(2, 26)} weeks"
        if form < 0.9:
            return f"{self.number(2, 24)} months"
        return f"{self.number(2, 40)} business days"

    def span(self) -> str:
        first = self.number(1, 20)
        last = first + self.rng.randint(1, 5)
        unit = self.rng.choice(("business days", "days", "working days"))
        form = self.rng.random()
        if form < 0.5:
            return f"{first}-{last} {unit}"
        if form < 0.8:
            return f"{first} to {last} {unit}"
        if form < 0.93:
            return f"{max(2, first)} {unit}"
        return self.rng.choice(("next day", "same day", "next business day"))

    def warranty(self) -> str:
        form = self.rng.random()
        if form < 0.45:
            return f"{self.number(2, 30)} years"
        if form < 0.65:
            return f"{self.number(2, 60)} months"
        return self.days() if form < 0.93 else "lifetime"

    def cancellation(self) -> str:
        form = self.rng.randrange(4)
        if form == 0:
            return f"within {self.number(1, 72)} hours"
        if form == 1:
            return f"within {self.number(5, 120)} minutes"
        return f"within {self.number(2, 9)} days" if form == 2 else "until it ships"

    def hours(self) -> str:
        opens, closes, form = self.rng.randint(6, 11), self.rng.randint(3, 10), self.rng.random()
        if form < 0.25:
            return f"{opens} am to {closes} pm"
        if form < 0.5:
            return f"{opens}am-{closes}pm"
        if form < 0.75:
            return f"{opens}:00 to {closes + 12}:00"
        return f"{opens}:{self.rng.choice(('15', '30', '45'))} to {closes + 12}:{self.rng.choice(('00', '30'))}"

    def date(self) -> str:
        month, day = self.rng.choice(shared("months")), self.rng.randint(1, 28)
        weekday, form = self.rng.choice(shared("weekdays")), self.rng.random()
        if form < 0.45:
            return f"{month} {day}"
        if form < 0.6:
            return f"{month[:3]} {day}"
        if form < 0.7:
            return weekday
        return f"{weekday}, {month} {day}" if form < 0.85 else f"{day} {month}"

    def year(self) -> str:
        return str(self.number(1890, 2025))

    def address(self) -> str:
        street = self.rng.choice(("Street", "Road", "Avenue", "Lane", "Square"))
        text = f"{self.number(1, 999)} {self.invented_name()} {street}"
        form = self.rng.random()
        if form < 0.4:
            return text
        return f"{text}, {self.rng.choice(shared('cities')) if form < 0.65 else self.invented_name()}"

    # identifiers and policies

    def phone(self) -> str:
        form = self.rng.random()
        if form < 0.3:
            return f"1-800-{self.digits(3)}-{self.digits(4)}"
        if form < 0.5:
            return f"({self.digits(3)}) {self.digits(3)}-{self.digits(4)}"
        if form < 0.75:
            return f"{self.digits(3)}-{self.digits(4)}"
        return f"+{self.rng.randint(1, 99)} {self.digits(2)} {self.digits(4)} {self.digits(4)}"

    def email(self) -> str:
        user = self.rng.choice(("support", "help", "hello", "care", "contact", "service", "info", "team"))
        kind = re.sub("[^a-z]", "", self.word("shop_kinds").lower()) if self.chance(0.4) else ""
        domain = self.rng.choice((".com", ".com", ".co", ".net", ".shop", ".org", ".example"))
        return f"{user}@{self.pseudo_word()}{kind}{domain}"

    def order_number(self) -> str:
        number, form = self.number(1000, 999999), self.rng.random()
        if form < 0.6:
            return str(number)
        if form < 0.75:
            return f"{self.rng.choice(LETTERS)}{self.rng.choice(LETTERS)}-{number}"
        return f"ORD-{number}" if form < 0.85 else f"{self.rng.choice(LETTERS)}{number}"

    def promo_code(self) -> str:
        return f"{self.pseudo_word(1).upper()}{self.number(5, 60)}"

    def return_cost(self) -> str:
        return self.rng.choice(("free", "paid by the customer", self.small_price()))

    def price_match(self) -> str:
        percent, days = self.number(5, 50), self.number(3, 60)
        limits = (f"up to {percent}% difference", f"within {days} days of purchase")
        return self.rng.choice((*limits, "not offered", "only in store", "yes, on identical items"))

    def loyalty(self) -> str:
        name = self.rng.choice((self.invented_name(), "Star", "Gold", "Circle"))
        kind = self.rng.choice(("Club", "Rewards", "Perks", "Points"))
        return f"{name} {kind}, {self.number(1, 30)} points per $1"

    def destinations(self) -> str:
        if self.chance(0.25):
            return self.rng.choice(("worldwide", "domestic orders only"))
        return join_and(self.rng.sample(shared("countries"), self.rng.randint(1, 4)))

    def topic_rule(self) -> str:
        """What a shop says about one of its open topics."""
        forms = (
            lambda: f"available for {self.price()}",
            lambda: f"only in our {self.rng.choice(shared('cities'))} store",
            lambda: "not offered at the moment",
            lambda: f"yes, {self.rng.choice(shared('weekdays'))}s from {self.hours()}",
            lambda: f"up to {self.number(2, 99)} items per order",
            lambda: f"takes {self.span()}",
            lambda: f"{self.number(3, 70)}% off with a valid ID",
            lambda: f"ask {self.person()} at the {self.pseudo_word()} desk",
            lambda: f"sign up at {self.pseudo_word()}.com",
            lambda: f"choose {self.pseudo_word()} at checkout",
        )
        return self.rng.choice(forms)()

    def stock(self) -> str:
        left = f"{self.number(2, 99)} left"
        return self.rng.choice(("in stock", "in stock", "out of stock", "sold out", left, left))
