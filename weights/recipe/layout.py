"""Writes a world into a system prompt, in one of several layouts.

Bare lines, bullets, Markdown with headings and bold keys, and flowing prose: shop owners write all of them, and a model
that has seen only one fails on the others. A value always appears literally.
This file does not know what will be asked.
"""

import re

from recipe.phrases import expand
from recipe.values import Values, join_and
from recipe.words import load
from recipe.world import World

LAYOUTS = ("lines", "bullets", "bullets", "markdown", "markdown", "markdown", "prose")


def fact_lines(values: Values, world: World, prose: bool) -> list[str]:
    """One line or sentence for each single-value fact, topic, the hours and the payments."""
    rng, data, lines = values.rng, load("facts"), []
    for key, value in world.facts.items():
        kind = "sentences" if prose or values.chance(0.15) else "labels"
        lines.append(expand(rng, rng.choice(data[key][kind] or data[key]["labels"]), v=value))
    for topic, rule in world.topics.items():
        lines.append(f"{topic[:1].upper()}{topic[1:]}: {rule}{'.' if prose else ''}")
    if world.hours:
        week, weekend = world.hours
        sentence = f"We are open Monday to Friday {week}, weekends {weekend}."
        labels = (
            f"Opening hours: Monday to Friday {week}, weekends {weekend}",
            f"Hours: Mon-Fri {week}, Sat-Sun {weekend}",
            f"Opening hours: weekdays {week}; weekend {weekend}",
        )
        lines.append(sentence if prose else rng.choice(labels))
    if world.payments:
        listed = join_and(world.payments) if prose or values.chance(0.3) else ", ".join(world.payments)
        label = rng.choice(load("system")["payment_labels"])
        lines.append(f"We accept {listed}." if prose else f"{label}: {listed}")
    rng.shuffle(lines)
    return lines


def shipping_lines(values: Values, world: World, prose: bool) -> list[str]:
    methods = world.shipping
    if prose:
        return [f"{item.method} shipping takes {item.time} and costs {item.cost}." for item in methods]
    suffix = values.rng.choice((" shipping", "", ""))
    return [f"{item.method}{suffix}: {item.time}, {item.cost}" for item in methods]


def product_lines(values: Values, world: World, prose: bool) -> list[str]:
    if prose:
        return [f"The {name} costs {item.price} and is {item.stock}." for name, item in world.products.items()]
    form = values.rng.choice(("{0}: {1}, {2}", "{0}: {1}, {2}", "{0} - {1} ({2})", "{0} | {1} | {2}"))
    return [form.format(name, item.price, item.stock) for name, item in world.products.items()]


def order_lines(values: Values, world: World, prose: bool) -> list[str]:
    forms = (
        "{0}: {1}, {2}, {3}, ETA {4}",
        "{0} | {1} | {2} | {3} | {4}",
        "Order {0}: {2} via {3}, arrives {4} ({1})",
    )
    form = "Order {0} ({1}) is {2} with {3}, expected {4}." if prose else values.rng.choice(forms)
    return [form.format(number, o.item, o.status, o.carrier, o.eta) for number, o in world.orders.items()]


def bold_keys(lines: list[str]) -> list[str]:
    return [re.sub(r"^([^:|]{1,40}): ", r"**\1:** ", line) for line in lines]


def sections(values: Values, world: World, prose: bool) -> list[tuple[str, list[str]]]:
    """The titled groups of lines, in random order but mostly facts first."""
    groups = [
        ("fact_titles", fact_lines(values, world, prose)),
        ("shipping_titles", shipping_lines(values, world, prose)),
        ("product_titles", product_lines(values, world, prose)),
        ("order_titles", order_lines(values, world, prose)),
    ]
    titled = [(values.rng.choice(load("system")[title]), lines) for title, lines in groups if lines]
    if values.chance(0.4):
        values.rng.shuffle(titled)
    return titled


def body(values: Values, world: World, layout: str) -> str:
    """The facts of a world in one layout."""
    rng = values.rng
    parts = sections(values, world, prose=layout == "prose")
    if layout == "prose":
        return rng.choice((" ", "\n\n", "\n")).join(" ".join(lines) for _, lines in parts)
    bullet = "" if layout == "lines" else rng.choice(("- ", "- ", "- ", "* "))
    bold = layout == "markdown" and values.chance(0.4)
    heading, gap = ("## {}\n", "\n\n") if layout == "markdown" else ("{}:\n", rng.choice(("\n", "\n\n")))
    untitled = layout != "markdown" and values.chance(0.4)
    texts = []
    for title, lines in parts:
        lines = bold_keys(lines) if bold else lines
        text = "\n".join(bullet + line for line in lines)
        texts.append(text if untitled else heading.format(title) + text)
    return gap.join(texts)


def system_prompt(values: Values, world: World) -> str:
    """The whole system prompt: the role, some rules, and the facts. Empty for some plain assistants."""
    rng, data = values.rng, load("system")
    if world.shop is None:
        return rng.choice(data["plain"])
    layout = rng.choice(LAYOUTS)
    role = expand(rng, rng.choice(data["roles"]), S=world.shop, K=rng.choice(data["sectors"]))
    rules = rng.sample(data["rules"], rng.randint(0, 2))
    head = rng.choice((" ", "\n")).join([role, *rules])
    return head + rng.choice(("\n", "\n\n")) + body(values, world, layout)
