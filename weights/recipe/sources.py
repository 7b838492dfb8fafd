"""Where a reply comes from: the stretch of the prompt, or of an earlier message, that each part of it is taken from.

The generator knows which line states the fact that is asked for; training uses that to teach attention where to look
(`pointing.py`). Lines of a system prompt are written with marks around them, since layouts cut and join lines; once
the prompt is finished the marks go and leave the places behind. Everything here counts characters; tokens and
attention are unknown to this file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Subject = tuple[str, str]  # what a source is about: ("fact", "returns"), ("product", "Tarn kids' bike")
FIRST_MARK, END_MARK = 0xE000, "\uf8ff"  # both ends of Unicode's private use: no text of the generator holds them


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of the content of the message at index `message`."""

    message: int
    start: int
    end: int


NOWHERE = Span(0, 0, 0)  # what is asked stands nowhere


@dataclass(frozen=True)
class Origin:
    """`part` of a reply is taken from the source about `subject`, which writes it as `value` (the same, unless given).
    Without a subject it is taken from nowhere. `about` says more of what is asked than the subject does."""

    part: str
    subject: Subject | None
    value: str | None = None
    about: str | None = None


@dataclass(frozen=True)
class Pointer:
    """Whoever writes characters `start` to `end` of the reply at index `reply` must look at `line` to know what is
    asked, and at `value` to write it. A span that is None is unknown, which is not the same as `NOWHERE`. `about` is
    the kind of what is asked there, if somebody knows."""

    reply: int
    start: int
    end: int
    line: Span | None
    value: Span | None
    about: str | None = None


def kind_of(subject: Subject) -> str:
    """What a subject is about without its name: a fact's key, or "product", "tool", ..."""
    return subject[1] if subject[0] == "fact" else subject[0]


def located(text: str, part: str, start: int = 0, end: int | None = None) -> tuple[int, int] | None:
    """Where a text holds a part whole, whatever its case: '$85' is not in '$85.50', nor '2 days' in '12 days'."""
    pattern = re.compile(rf"(?<!\w){re.escape(part)}(?!\w|\.\d)", re.IGNORECASE)
    found = pattern.search(text, start, len(text) if end is None else end)
    return found.span() if found else None


def marked(number: int, line: str) -> str:
    """A line between marks that carry a number."""
    return f"{chr(FIRST_MARK + number)}{line}{END_MARK}"


def is_marked(text: str) -> bool:
    """Whether a marked line begins in this text."""
    return any(FIRST_MARK <= ord(character) < ord(END_MARK) for character in text)


def unmarked(text: str) -> tuple[str, dict[int, tuple[int, int]]]:
    """The text without its marks, and the start and end of each marked line in it."""
    plain, places, opened = [], {}, None
    for character in text:
        if character == END_MARK and opened is not None:
            places[opened[0]] = (opened[1], len(plain))
            opened = None
        elif is_marked(character):
            opened = (ord(character) - FIRST_MARK, len(plain))
        else:
            plain.append(character)
    return "".join(plain), places


def pointers(
    messages: Sequence[Mapping[str, Any]],
    origins: Sequence[Origin],
    places: Mapping[Subject, Span],
    about: str | None = None,
) -> list[Pointer]:
    """Points from the last message, part by part in the order of `origins`, to where each comes from.

    What leads up to a part points with it; what follows the last part points nowhere: nothing more is to be said (two
    characters are enough, a full stop and what comes after it). A
    reply without origins points nowhere with its first character alone, for the rest follows from that; `about` is then
    what was asked. Where a part
    or its source cannot be found, it and everything behind it is left out.
    """
    reply, text = len(messages) - 1, messages[-1]["content"]
    if not origins:
        return [Pointer(reply, 0, 1, NOWHERE, NOWHERE, about)]
    found, cursor = [], 0
    for origin in origins:
        at = located(text, origin.part, cursor)
        line = places.get(origin.subject) if origin.subject else NOWHERE
        if at is None or line is None:
            return found
        value = NOWHERE if line == NOWHERE else within(messages[line.message]["content"], line, origin)
        kind = origin.about or (kind_of(origin.subject) if origin.subject else about)
        found.append(Pointer(reply, cursor, at[0] + 1, line, value, kind))
        cursor = at[1]
    return [*found, Pointer(reply, cursor, cursor + 2, NOWHERE, NOWHERE)]


def within(text: str, line: Span, origin: Origin) -> Span | None:
    """Where a line writes the value."""
    at = located(text, origin.value or origin.part, line.start, line.end)
    return Span(line.message, *at) if at else None
