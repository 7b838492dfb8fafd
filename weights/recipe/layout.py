"""Writes a world into a system prompt, in one of several layouts.

Bare lines, bullets, Markdown with headings and bold keys, and flowing prose: shop owners write all of them, and a model
that has seen only one fails on the others. Text that answers nothing stands between the facts of longer prompts.
A value always appears literally. This file does not know what will be asked.
"""

import re
from dataclasses import dataclass

from recipe.phrases import expand
from recipe.sources import END_MARK, is_marked
from recipe.values import Values, join_and
from recipe.words import facts, shared
from recipe.world import HOURS, PAYMENTS, Hours, World

LAYOUTS = ("lines", "bullets", "bullets", "markdown", "markdown", "markdown", "prose", "prose", "mixed", "mixed")
PAYMENT_LABELS = ("Payment methods", "We accept", "Payment", "Accepted payments", "Payment options", "You can pay with")


def hours_line(values: Values, hours: Hours, prose: bool) -> str:
    week, saturday, sunday, rng = hours.week, hours.saturday, hours.sunday, values.rng
    if hours.same_weekend:
        sentences = (
            f"We are open Monday to Friday {week}, weekends {saturday}.",
            f"Our opening hours are {week} on weekdays and {saturday} on weekends.",
        )
        labels = (
            f"Opening hours: Monday to Friday {week}, weekends {saturday}",
            f"Hours: Mon-Fri {week}, Sat-Sun {saturday}",
            f"Opening hours: weekdays {week}; weekend {saturday}",
            f"Opening times: Monday-Friday {week}, Saturday and Sunday {saturday}",
        )
    else:
        sentences = (
            f"We are open Monday to Friday {week}, Saturday {saturday}, Sunday {sunday}.",
            f"Opening hours are {week} from Monday to Friday, {saturday} on Saturdays and {sunday} on Sundays.",
        )
        labels = (
            f"Opening hours: Monday to Friday {week}, Saturday {saturday}, Sunday {sunday}",
            f"Hours: Mon-Fri {week}, Sat {saturday}, Sun {sunday}",
            f"Opening times: weekdays {week}; Saturday {saturday}; Sunday {sunday}",
            f"Store hours: Monday-Friday {week}, Saturdays {saturday}, Sundays {sunday}",
        )
    return rng.choice(sentences if prose else labels)


def payment_line(values: Values, payments: list[str], prose: bool) -> str:
    listed = join_and(payments) if prose or values.chance(0.3) else ", ".join(payments)
    if prose:
        line = values.rng.choice(
            (f"We accept {listed}.", f"Customers can pay with {listed}.", f"{listed} are accepted.")
        )
    else:
        line = f"{values.rng.choice(PAYMENT_LABELS)}: {listed}"
    if values.chance(0.2):
        refused = values.rng.choice([method for method in shared("payment_methods") if method not in payments])
        line = f"{line.removesuffix('.')}. {values.rng.choice(('No', 'We do not take', 'Not accepted:'))} {refused}."
    return line


def fact_lines(values: Values, world: World, prose: bool) -> list[str]:
    """One line or sentence for each single-value fact, topic, the hours and the payments."""
    rng, kinds, lines = values.rng, facts(), []
    sentences = values.rng.choice((0.05, 0.15, 0.5))
    for key, value in world.facts.items():
        form = "sentences" if prose or values.chance(sentences) else "labels"
        lines.append(world.marked("fact", key, expand(rng, rng.choice(kinds[key][form]), v=value)))
    for topic, rule in world.topics.items():
        line = f"{topic[:1].upper()}{topic[1:]}: {rule}{'.' if prose else ''}"
        lines.append(world.marked("topic", topic, line))
    if world.hours:
        lines.append(world.marked(*HOURS, hours_line(values, world.hours, prose)))
    if world.payments:
        lines.append(world.marked(*PAYMENTS, payment_line(values, world.payments, prose)))
    rng.shuffle(lines)
    return lines


def shipping_lines(values: Values, world: World, prose: bool) -> list[str]:
    methods = world.shipping
    if prose:
        lines = [f"{item.method} shipping takes {item.time} and costs {item.cost}." for item in methods]
        return [world.marked("shipping", item.method, line) for item, line in zip(methods, lines, strict=True)]
    suffix = values.rng.choice((" shipping", " delivery", "", ""))
    form = values.rng.choice(("{0}: {1}, {2}", "{0}: {1}, {2}", "{0} - {2}, {1}", "{0} ({1}): {2}", "{0} | {1} | {2}"))
    lines = [form.format(item.method + suffix, item.time, item.cost) for item in methods]
    return [world.marked("shipping", item.method, line) for item, line in zip(methods, lines, strict=True)]


def product_lines(values: Values, world: World, prose: bool) -> list[str]:
    if prose:
        form = values.rng.choice(("The {0} costs {1} and is {2}.", "We sell the {0} for {1} ({2})."))
    else:
        forms = (
            "{0}: {1}, {2}",
            "{0}: {1}, {2}",
            "{0} - {1} ({2})",
            "{0} | {1} | {2}",
            "{0}, {1}, {2}",
            "{0} ({1}) {2}",
        )
        form = values.rng.choice(forms)
    products = world.products.items()
    lines = [world.marked("product", name, form.format(name, item.price, item.stock)) for name, item in products]
    if form.startswith("{0} |") and values.chance(0.4):
        return ["| product | price | stock |", "|---|---|---|", *(f"| {line} |" for line in lines)]
    return lines


def order_lines(values: Values, world: World, prose: bool) -> list[str]:
    forms = (
        "{0}: {1}, {2}, {3}, ETA {4}",
        "{0} | {1} | {2} | {3} | {4}",
        "Order {0}: {2} via {3}, arrives {4} ({1})",
    )
    form = "Order {0} ({1}) is {2} with {3}, expected {4}." if prose else values.rng.choice(forms)
    return [
        world.marked("order", number, form.format(number, o.item, o.status, o.carrier, o.eta))
        for number, o in world.orders.items()
    ]


def under_headings(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Lines of the form 'Key: value' as sections of their own: the key is the heading."""
    return [(line.split(": ", 1)[0], [line.split(": ", 1)[1]]) for line in lines]


def bold_keys(lines: list[str]) -> list[str]:
    return [re.sub(r"^([^:|]{1,41}): ", r"**\1:** ", line) for line in lines]


def split_lines(values: Values, world: World, lines: list[str]) -> list[tuple[str, list[str]]]:
    """Longer lists of facts stand under two or three headings."""
    parts = 1 if len(lines) < 6 else values.rng.randint(1, 3)
    size = -(-len(lines) // parts) if lines else 1
    chunks = [lines[start : start + size] for start in range(0, len(lines), size)]
    titles = [piece(values, world, "extra_titles" if index else "fact_titles") for index in range(len(chunks))]
    return list(zip(titles, chunks, strict=False))


def sections(values: Values, world: World, prose: bool) -> list[tuple[str, list[str]]]:
    """The titled groups of lines, in random order but mostly facts first."""
    lines = fact_lines(values, world, prose)
    alone = [] if prose else [line for line in lines if re.match(r"[^:]{1,41}: \S", line) and values.chance(0.12)]
    titled = split_lines(values, world, [line for line in lines if line not in alone]) + under_headings(alone)
    for title, lines in (
        ("shipping_titles", shipping_lines(values, world, prose)),
        ("product_titles", product_lines(values, world, prose)),
        ("order_titles", order_lines(values, world, prose)),
    ):
        if lines:
            titled.append((piece(values, world, title), lines))
    if values.chance(0.5):
        values.rng.shuffle(titled)
    return titled


def paragraphs(values: Values, world: World) -> list[str]:
    return [finished(values, world, text) for text in values.fillers("paragraphs", world.paragraphs)]


def piece(values: Values, world: World, kind: str) -> str:
    """A drawn piece of text around the facts, finished."""
    return finished(values, world, values.filler(kind))


def finished(values: Values, world: World, text: str) -> str:
    return expand(values.rng, text, S=world.shop or "", K=world.sector)


@dataclass(frozen=True)
class Style:
    """How the groups of one prompt are written."""

    heading: str
    gap: str
    bullet: str
    bold: bool = False
    untitled: bool = False


def draw_style(values: Values, layout: str) -> Style:
    rng = values.rng
    bullet = "" if layout == "lines" else rng.choice(("- ", "- ", "- ", "* "))
    if layout == "markdown":
        heading = rng.choice(("## {}\n", "## {}\n", "### {}\n", "# {}\n", "**{}**\n"))
        return Style(heading, rng.choice(("\n\n", "\n\n", "\n")), bullet, bold=values.chance(0.3))
    heading = rng.choice(("{}:\n", "{}:\n", "{}\n", "[{}]\n", "== {} ==\n"))
    return Style(heading, rng.choice(("\n", "\n\n")), bullet, untitled=values.chance(0.4))


def group_text(values: Values, style: Style, title: str, lines: list[str], layout: str) -> str:
    """One group of facts; in a mixed prompt some groups are running text."""
    if layout == "prose":
        return " ".join(lines)
    if layout == "mixed" and values.chance(0.4) and not lines[0].startswith("|"):
        text = " ".join(line if line.rstrip(END_MARK).endswith((".", "!")) else line + "." for line in lines)
    elif len(lines) == 1 and style.bullet and values.chance(0.5):
        text = lines[0]
    else:
        lines = bold_keys(lines) if style.bold else lines
        text = "\n".join(line if line.startswith("|") else style.bullet + line for line in lines)
    untitled = style.untitled and not is_marked(title)  # a line's key that became the heading must stay
    return text if untitled else style.heading.format(title) + text


def body(values: Values, world: World, layout: str) -> str:
    """The facts of a world in one layout, with the paragraphs between the groups."""
    rng = values.rng
    style, prose = draw_style(values, layout), layout == "prose"
    texts = [group_text(values, style, title, lines, layout) for title, lines in sections(values, world, prose)]
    for text in paragraphs(values, world):
        if values.chance(0.4):
            text = style.heading.format(piece(values, world, "headings")) + text
        texts.insert(rng.randint(0, len(texts)), text)
    return (rng.choice((" ", "\n\n", "\n")) if prose and not world.paragraphs else style.gap).join(texts)


def system_prompt(values: Values, world: World) -> str:
    """The whole system prompt, its lines still marked: the role, some rules, and the facts. Empty for some plain
    assistants."""
    rng = values.rng
    if world.shop is None:
        return "" if values.chance(0.15) else piece(values, world, "plain")
    rules = values.fillers("rules", rng.choice((0, 1, 1, 2, 2, 3, 5)))
    head = [piece(values, world, "roles"), *(finished(values, world, rule) for rule in rules)]
    parts = [rng.choice((" ", "\n")).join(head)]
    if values.chance(0.25):
        parts.append(piece(values, world, "intros"))
    parts.append(body(values, world, rng.choice(LAYOUTS)))
    if values.chance(0.2):
        parts.append(piece(values, world, "outros"))
    return rng.choice(("\n", "\n\n")).join(parts)
