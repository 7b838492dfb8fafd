"""Questions that are answered by a single letter: judging a customer's message, or a fact of the shop.

The options stand in random order behind letters, so that only reading them helps.
"""

import random
from dataclasses import dataclass

from recipe.asking import some_question
from recipe.phrases import as_typed, expand
from recipe.skills import fact_question
from recipe.sources import Origin
from recipe.talk import Talk
from recipe.values import Values
from recipe.words import Split, facts, load, shared

LETTERS = "ABCDEFGH"
COPIED_SHARE = 0.2  # of the choices in training: the question itself spells the right option
COPIED = (
    'Which option says "{o}"?', "Choose {o}.", "The answer is {o}.", "Message: {o}\nWhich option repeats the message?",
    "Which letter stands before {o}?", "The customer wants {o}. Which option is it?", "{o}",
)  # fmt: skip
YES_NO = (("Yes", "No"), ("yes", "no"))
QUESTIONS = {  # questions.toml's kinds that belong to a category
    "shipping_all": "shipping", "shipping_time": "shipping", "shipping_cost": "shipping", "hours": "hours",
    "weekend_hours": "hours", "weekday_hours": "hours", "payment_all": "payment", "payment_one": "payment",
    "product_price": "products", "product_stock": "products", "product_list": "products", "order_status": "orders",
    "order_no_number": "orders", "off_topic": "other",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """`about` is the kind of decision with its outcome, for `about.py`."""

    question: str
    options: list[str]
    right: str
    about: str | None = None


@dataclass(frozen=True)
class Posed:
    """A finished question, the right option's line in it, and that option's letter."""

    text: str
    line: str
    letter: str


def posed(rng: random.Random, split: Split, choice: Choice) -> Posed:
    """Puts the question; the options are shuffled unless they are yes and no."""
    options = list(choice.options)
    if len(options) > 2 or rng.random() < 0.3:
        rng.shuffle(options)
    data = load("choices")
    style = rng.choice(data["option_styles"][split if rng.random() < 0.5 else "train"])
    lines = [style.replace("{L}", LETTERS[i]).replace("{o}", option) for i, option in enumerate(options)]
    text = expand(rng, rng.choice(data["formats"][split]), Q="\x01", O="\x02")
    index = options.index(choice.right)
    return Posed(text.replace("\x01", choice.question).replace("\x02", "\n".join(lines)), lines[index], LETTERS[index])


def put(talk: Talk, choice: Choice) -> None:
    """Adds the question and its letter to a talk; the letter comes from the right option's line."""
    done = posed(talk.rng, talk.split, choice)
    talk.messages.append({"role": "user", "content": done.text})
    talk.place(("option", done.letter), done.line)
    origin = Origin(done.letter, ("option", done.letter), about=choice.about)
    talk.answer("choice", done.letter, exact=done.letter, origins=(origin,))


def kinds() -> list[str]:
    """Every `Choice.about` that is no kind of fact."""
    data = load("choices")
    judged = [f"{task['question']} {answer}" for task in data["yes_no"] for answer in ("yes", "no")]
    return [*judged, *(f"category {name}" for name in data["categories"])]


def about_message(values: Values) -> Choice:
    """A yes/no question about a customer's message."""
    rng, held_out = values.rng, values.split == "held_out"
    data = rng.choice([task for task in load("choices")["yes_no"] if not held_out or "held_out_questions" in task])
    answer = rng.choice(("yes", "no"))
    question = rng.choice(data["held_out_questions" if held_out else "questions"])
    message = expand(rng, values.fill(rng.choice(data[f"held_out_{answer}" if held_out else answer])))
    message = message if values.chance(0.5) else message[:1].upper() + message[1:]
    yes_no = rng.choice(YES_NO)
    asked = rng.choice(("{Q}\nMessage: {M}", "Message: {M}\n{Q}", '{Q}\n"{M}"', "Customer: {M}\n{Q}", '"{M}"\n{Q}'))
    asked = asked.replace("{Q}", question).replace("{M}", message)
    return Choice(asked, list(yes_no), yes_no[answer == "no"], f"{data['question']} {answer}")


def category_message(talk: Talk) -> tuple[str, str]:
    """A customer's message and its category."""
    rng = talk.rng
    if talk.values.chance(0.6):
        key = rng.choice(list(facts()))
        return fact_question(talk, key), facts()[key]["category"]
    kind = rng.choice(list(QUESTIONS))
    slots = {"M": rng.choice(shared("payment_methods")) if "payment" in kind else "Express", "P": talk.values.product()}
    text = expand(rng, rng.choice(load("questions")[kind][talk.split]), I=talk.values.order_number(), **slots)
    return text, QUESTIONS[kind]


def about_topic(talk: Talk) -> Choice:
    """Which of a few topics a customer's message belongs to."""
    rng, data = talk.rng, load("choices")
    message, category = category_message(talk)
    others = rng.sample([name for name in data["categories"] if name != category], rng.randint(1, 4))
    names = {name: rng.choice(data["categories"][name]) for name in [category, *others]}
    typed = as_typed(rng, talk.split, message, wrap=False)
    question = expand(rng, rng.choice(data["topic_questions"][talk.split]).replace("{M}", "\x01"))
    options = sorted(names.values(), key=lambda _: rng.random())
    return Choice(question.replace("\x01", typed), options, names[category], f"category {category}")


def about_fact(talk: Talk) -> Choice | None:
    """A question about the shop with one right value among others of its kind."""
    asked = some_question(talk)
    if asked.expected[0] in ("Yes", "No"):
        return Choice(asked.question, ["Yes", "No"], asked.expected[0], "payments")
    if not asked.short or asked.topic:
        return None
    key = next((key for key, value in talk.world.facts.items() if value == asked.short), None)
    if key is None:
        return None
    options = {asked.short}
    while len(options) < talk.rng.choice((2, 3, 3, 4)):
        options.add(talk.values.fill(talk.rng.choice(facts()[key]["values"])))
    return Choice(asked.question, talk.rng.sample(sorted(options), len(options)), asked.short, key)


def spelled_out(talk: Talk) -> Choice:
    """A choice that only takes finding the right option's words: a drill for tying options to letters."""
    rng, values = talk.rng, talk.values
    categories = [name for names in load("choices")["categories"].values() for name in names]
    maker = rng.choice((values.topic, values.product, values.pseudo_word, values.price, lambda: rng.choice(categories)))
    options = list(dict.fromkeys(maker() for _ in range(rng.randint(2, 5))))
    if len(options) < 2 or rng.random() < 0.25:
        options = list(rng.choice(YES_NO))
    right = rng.choice(options)
    return Choice(rng.choice(COPIED).replace("{o}", right), options, right)


def choose(talk: Talk) -> bool:
    """A choice in the middle of a shop's conversation."""
    if not talk.has_shop:
        return False
    drawn = about_fact(talk)
    if drawn is None:
        return False
    put(talk, drawn)
    return True


def judge(talk: Talk, questions: int) -> None:
    """Fills a talk with nothing but so many choices about customers' messages."""
    rng = talk.rng
    system = rng.choice(load("choices")["systems"][talk.split])
    if rng.random() < 0.85:
        talk.messages.append({"role": "system", "content": system})
    for _ in range(questions):
        if talk.split == "train" and rng.random() < COPIED_SHARE:
            put(talk, spelled_out(talk))
        else:
            put(talk, about_message(talk.values) if rng.random() < 0.5 else about_topic(talk))
