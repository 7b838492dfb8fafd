"""Makes the names, numbers and other single values that a shop's facts consist of.

Every value is drawn for one split. Invented words stand where a memorised word would be a shortcut (people, streets,
brands), because only copying gets those right. This file does not know which fact a value belongs to, nor any phrasing.
"""

import random
import re
from collections.abc import Iterator

from recipe.words import Split, all_words, filler, is_held_out, load, shared, topic_names, words

LETTERS = "ABCDEFGHKMNPRSTWX"
UNHEARD_SHARE = 0.3  # of training's products are called something that is no product
ODD_SHARE = 0.12  # of training's products have numbers, measures or several nouns in their names
ALIKE_SHARE = 0.4  # of training's catalogs are of products that share most of their words
UNITS = ("kg", "g", "litres", "ml", "cm", "m", "pieces", "pack", "inch", "W")
TOPIC_SHARE = 0.6  # of training's topics are among those that it can ask about in other words
SLOT = re.compile(r"\{([a-z_]+)(?::(\d+)-(\d+))?\}")


def join_and(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


class Values:
    """Draws values of one split from one random generator. Method names are the slots of value templates."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng = rng
        self.split = split

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def listed(self, kind: str) -> str:
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

    def fill(self, template: str) -> str:
        """Puts a drawn value into each slot of a value template: {days}, {price}, {number:2-60}."""

        def drawn(slot: re.Match[str]) -> str:
            if slot[2]:
                return str(self.number(int(slot[2]), int(slot[3])))
            return str(getattr(self, "pseudo_word" if slot[1] == "word" else slot[1])())

        return SLOT.sub(drawn, template)

    def filler(self, kind: str) -> str:
        """A piece of a system prompt that is no fact, its value slots filled; {S} and {K} stay for the shop."""
        return self.fill(self.rng.choice(filler(kind, self.split)))

    def fillers(self, kind: str, count: int) -> list[str]:
        """So many different pieces, or all there are."""
        pieces = filler(kind, self.split)
        return [self.fill(piece) for piece in self.rng.sample(pieces, min(count, len(pieces)))]

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

    def any_word(self) -> str:
        """Any word of training's own texts, so that no word is one that only stands for itself."""
        return self.rng.choice(all_words())

    def invented_name(self) -> str:
        return self.pseudo_word().capitalize()

    def shop(self) -> str:
        first = self.listed("shop_adjectives") if self.chance(0.4) else self.invented_name()
        form = self.rng.random()
        if form < 0.7:
            return f"{first} {self.listed('shop_kinds')}"
        if form < 0.8:
            return f"{first}'s {self.listed('shop_kinds')}"
        if form < 0.9:
            return f"{first} & {self.invented_name()}"
        return first

    def product(self) -> str:
        noun, adjective, form = self.listed("product_nouns"), self.listed("product_adjectives"), self.rng.random()
        if self.split == "train" and self.chance(UNHEARD_SHARE):
            noun = self.any_word() if self.chance(0.6) else self.pseudo_word()
            adjective = self.any_word().capitalize() if self.chance(0.5) else self.invented_name()
        if self.split == "train" and self.chance(ODD_SHARE):
            name = self.odd_product(noun, adjective)
        elif form < 0.3:
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
        capitals = " ".join(word[:1].upper() + word[1:] for word in name.split())
        return capitals if case < 0.9 else name.lower()

    def products(self) -> Iterator[str]:
        """Names for one shop's products, without end. In training many catalogs hold names that differ in one word:
        who looks at one word alone finds the wrong product."""
        alike: list[list[str]] = []
        if self.split == "train" and self.chance(ALIKE_SHARE):
            alike = [self.product().split() for _ in range(self.rng.randint(2, 4))]
        while True:
            if alike and self.chance(0.8):
                yield self.varied(f"{self.rng.choice(alike)[0]} {self.rng.choice(alike[:3])[-1]}")
            else:
                yield self.product()

    def varied(self, name: str) -> str:
        """The name as it is, or with a brand before it or a model's number behind it."""
        form = self.rng.random()
        if form < 0.6:
            return name
        if form < 0.8:
            return f"{self.invented_name()} {name}"
        return f"{name} {self.rng.choice(LETTERS)}{self.number(1, 900)}"

    def odd_product(self, noun: str, adjective: str) -> str:
        """A product's name as catalogs have them: with a number, a measure or a second noun in it."""
        rng, invented, number = self.rng, self.invented_name(), self.number(2, 900)
        other, unit = self.listed("product_nouns"), rng.choice(UNITS)
        return rng.choice((
            f"{invented} {number} {noun}", f"{invented} {number} {adjective.lower()} {noun}", f"{noun} {number}",
            f"{noun}, {number} {unit}", f"{adjective} {noun} ({number} {unit})", f"{number} {unit} {noun}",
            f"{invented} {noun} and {other}", f"{noun} for {other}", f"{noun}, {number} {unit} {other}",
            f"{adjective} {other} {noun}",
        ))  # fmt: skip

    def person(self) -> str:
        return self.listed("first_names") if self.chance(0.5) else self.invented_name()

    def full_name(self) -> str:
        return f"{self.person()} {self.invented_name()}"

    def carrier(self) -> str:
        if self.chance(0.7):
            return self.listed("carriers")
        return self.invented_name() + self.rng.choice((" Express", " Logistics", " Freight", " Couriers", ""))

    def topic(self) -> str:
        if self.split == "train" and self.chance(TOPIC_SHARE):
            return self.rng.choice(topic_names())
        form = self.rng.random()
        if form < 0.7:
            return self.listed("topics")
        if form < 0.85:
            return f"{self.pseudo_word()} {self.rng.choice(('service', 'card', 'plan', 'club', 'kit', 'pass', 'fee'))}"
        return f"{self.listed('product_nouns')} {self.rng.choice(('repair', 'rental', 'cleaning', 'insurance'))}"

    # money, time, places

    def money(self, low: int, high: int) -> str:
        currency = "$" if self.chance(0.75) else self.rng.choice("€£")
        if high > 500 and self.chance(0.08):
            return f"{currency}{self.number(1, 9)},{self.digits(3)}{self.rng.choice(('', '', '.00', '.50'))}"
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
        return f"{self.number(3, 400 if self.chance(0.2) else 90)} days"

    def weeks(self) -> str:
        return f"{self.number(2, 26)} weeks"

    def months(self) -> str:
        return f"{self.number(2, 60)} months"

    def years(self) -> str:
        return f"{self.number(2, 30)} years"

    def business_days(self) -> str:
        return f"{self.number(2, 40)} {self.rng.choice(('business', 'business', 'working'))} days"

    def hours_n(self) -> str:
        return f"{self.number(2, 96)} hours"

    def minutes(self) -> str:
        return f"{self.number(5, 120)} minutes"

    def percent(self) -> str:
        return f"{self.number(3, 70)}%"

    def span(self) -> str:
        first = self.number(1, 20)
        last = first + self.rng.randint(1, 5)
        unit = self.rng.choice(("business days", "days", "working days"))
        form = self.rng.random()
        if form < 0.5:
            return f"{first}-{last} {unit}"
        return f"{first} to {last} {unit}" if form < 0.85 else f"{max(2, first)} {unit}"

    def shipping_time(self) -> str:
        return self.span() if self.chance(0.9) else self.rng.choice(("next day", "same day", "next business day"))

    def time(self) -> str:
        form = self.rng.random()
        if form < 0.4:
            return f"{self.rng.randint(1, 12)}{self.rng.choice(('', ' ', ':30 '))}{self.rng.choice(('am', 'pm'))}"
        return f"{self.rng.randint(7, 22)}:{self.rng.choice(('00', '00', '30', '15', '45'))}"

    def opening(self) -> str:
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
        weekday, form = self.weekday(), self.rng.random()
        if form < 0.45:
            return f"{month} {day}"
        if form < 0.6:
            return f"{month[:3]} {day}"
        if form < 0.7:
            return weekday
        return f"{weekday}, {month} {day}" if form < 0.85 else f"{day} {month}"

    def month(self) -> str:
        return self.rng.choice(shared("months"))

    def weekday(self) -> str:
        return self.rng.choice(shared("weekdays"))

    def weekdays(self) -> str:
        first = self.rng.randrange(5)
        days = shared("weekdays")
        return f"{days[first]} to {days[self.rng.randint(first + 1, 6)]}"

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
        kind = re.sub("[^a-z]", "", self.listed("shop_kinds").lower()) if self.chance(0.4) else ""
        domain = self.rng.choice((".com", ".com", ".co", ".net", ".shop", ".org", ".example"))
        return f"{user}@{self.pseudo_word()}{kind}{domain}"

    def order_number(self) -> str:
        number, form = self.number(1000, 999999), self.rng.random()
        if form < 0.6:
            return str(number)
        if form < 0.75:
            return f"{self.rng.choice(LETTERS)}{self.rng.choice(LETTERS)}-{number}"
        return f"ORD-{number}" if form < 0.85 else f"{self.rng.choice(LETTERS)}{number}"

    def code(self) -> str:
        return f"{self.pseudo_word(1).upper()}{self.number(5, 60)}"

    def city(self) -> str:
        return self.rng.choice(shared("cities")) if self.chance(0.4) else self.invented_name()

    def country(self) -> str:
        return self.rng.choice(shared("countries"))

    def countries(self) -> str:
        return join_and(self.rng.sample(shared("countries"), self.rng.randint(2, 4)))

    def language(self) -> str:
        return self.rng.choice(shared("languages"))

    def languages(self) -> str:
        return join_and(self.rng.sample(shared("languages"), self.rng.randint(2, 4)))

    def company(self) -> str:
        return self.invented_name()

    def url(self) -> str:
        path = self.rng.choice(("", "", "/" + self.pseudo_word(), "/help", "/shop", "/info"))
        www = self.rng.choice(("www.", "www.", ""))
        return f"{www}{self.pseudo_word()}{self.rng.choice(('.com', '.example', '.net', '.shop'))}{path}"

    def handle(self) -> str:
        return f"@{self.pseudo_word()}{self.rng.choice(('', '', 'shop', 'goods', 'store'))}"

    def quantity(self) -> str:
        return str(self.rng.randint(2, 40))

    def rating(self) -> str:
        return str(self.rng.randint(1, 5))

    def postcode(self) -> str:
        return self.digits(5) if self.chance(0.7) else f"{self.rng.choice(LETTERS)}{self.digits(1)} {self.digits(3)}"

    def size(self) -> str:
        return self.rng.choice(shared("sizes")) if self.chance(0.5) else str(self.rng.randint(30, 49))

    def color(self) -> str:
        return self.rng.choice(shared("colors"))

    def order_state(self) -> str:
        return self.rng.choice(shared("order_states"))

    def topic_rule(self) -> str:
        """What a shop says about one of its open topics."""
        forms = (
            lambda: f"available for {self.price()}",
            lambda: f"only in our {self.rng.choice(shared('cities'))} store",
            lambda: "not offered at the moment",
            lambda: f"yes, {self.weekday()}s from {self.opening()}",
            lambda: f"up to {self.number(2, 99)} items per order",
            lambda: f"takes {self.span()}",
            lambda: f"{self.number(3, 70)}% off with a valid ID",
            lambda: f"ask {self.person()} at the {self.pseudo_word()} desk",
            lambda: f"sign up at {self.pseudo_word()}.com",
            lambda: f"choose {self.pseudo_word()} at checkout",
        )
        return self.rng.choice(forms)()

    def stock(self) -> str:
        left = f"{self.number(2, 99)} {self.rng.choice(('left', 'left', 'in stock'))}"
        if self.chance(0.06):
            return f"out of stock, back {self.rng.choice(('on', 'from', 'by'))} {self.date()}"
        return self.rng.choice(("in stock", "in stock", "out of stock", "sold out", left, left, left))
