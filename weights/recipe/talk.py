"""A conversation under construction: what was said, what the user has told, and what a right answer must contain.

Skills write into a `Talk`; they choose what is asked and answered, this file keeps the books. `Case` is how an
evaluation later judges a reply without knowing any skill.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from recipe.phrases import as_typed, question, reply, signs
from recipe.sources import Origin, Pointer, Span, Subject, located, pointers
from recipe.values import Values
from recipe.words import Split, load
from recipe.world import Order, World

Message = dict[str, Any]  # role, content and, on an assistant's message, tool_calls as OpenAI's API has them


def contains(text: str, value: str) -> bool:
    """Whether a text holds a value whole."""
    return located(text, value) is not None


@dataclass(frozen=True)
class Case:
    """How to judge the assistant's message at `index`.

    Right is a reply that equals `exact`, where that is set; otherwise one that holds all of `expected` and, where there
    are any, one of `signs`. `skill` is what the result is counted under.
    """

    index: int
    skill: str
    expected: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    exact: str | None = None

    def holds(self, text: str) -> bool:
        if self.exact is not None:
            return text.strip() == self.exact
        has_all = all(contains(text, part) for part in self.expected)
        return has_all and (not self.signs or any(contains(text, sign) for sign in self.signs))


@dataclass
class Talk:
    """`told` is what the customer said about themselves, by kind; `notes` are the sentences of a later summary;
    `topic` is what a short follow-up ("and express?") would refer to; `places` are where the sources of replies stand,
    `pointers` which parts of the replies are taken from them."""

    values: Values
    world: World
    messages: list[Message] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    topic: tuple[str, str] | None = None
    order_number: str | None = None
    order: Order | None = None
    places: dict[Subject, Span] = field(default_factory=dict)
    pointers: list[Pointer] = field(default_factory=list)

    @property
    def rng(self) -> random.Random:
        return self.values.rng

    @property
    def split(self) -> Split:
        return self.values.split

    @property
    def has_shop(self) -> bool:
        return self.world.shop is not None

    @property
    def name(self) -> str | None:
        return self.told.get("name")

    def ask(self, text: str, keep: tuple[str, ...] = (), wrap: bool = True) -> None:
        self.messages.append({"role": "user", "content": as_typed(self.rng, self.split, text, keep, wrap)})

    def ask_kind(self, kind: str, keep: tuple[str, ...] = (), wrap: bool = True, **slots: str) -> None:
        self.ask(question(self.rng, self.split, kind, **slots), keep, wrap)

    def answer(
        self,
        skill: str,
        text: str,
        expected: tuple[str, ...] = (),
        kind: str | None = None,
        exact: str | None = None,
        topic: tuple[str, str] | None = None,
        origins: tuple[Origin, ...] | None = (),
        about: str | None = None,
    ) -> None:
        """Adds the assistant's message; `kind` names the signs that tell a right reply without a value. `origins` are
        None where nobody says what the reply is taken from; `about` is what was asked where it is taken
        from nothing."""
        self.messages.append({"role": "assistant", "content": text})
        self.cases.append(Case(len(self.messages) - 1, skill, expected, signs(kind) if kind else (), exact))
        self.topic = topic
        if origins is not None:
            self.pointers += pointers(self.messages, origins, self.places, about)

    def answer_kind(
        self,
        skill: str,
        reply_kind: str,
        expected: tuple[str, ...] = (),
        kind: str | None = None,
        origins: tuple[Origin, ...] | None = (),
        about: str | None = None,
        **slots: str,
    ) -> None:
        about = about or f"reply {reply_kind}"
        self.answer(skill, self.worded(reply_kind, **slots), expected, kind, origins=origins, about=about)

    def place(self, subject: Subject, text: str) -> None:
        """Remembers where the last message says something, to be taken from there later."""
        at = located(self.messages[-1]["content"], text)
        if at:
            self.places[subject] = Span(len(self.messages) - 1, *at)

    def worded(self, reply_kind: str, **slots: str) -> str:
        """One of the assistant's sentences, in this shop."""
        return reply(self.rng, reply_kind, **{"S": self.world.shop or "", **slots})

    def either(self, shop_kind: str) -> str:
        """The reply kind that fits this world: plain assistants have some replies of their own."""
        plain = f"plain_{shop_kind}"
        return plain if not self.has_shop and plain in load("replies") else shop_kind

    def note(self, text: str) -> None:
        self.notes.append(text)
