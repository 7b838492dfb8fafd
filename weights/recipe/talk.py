"""A conversation under construction: what was said, what the user has told, and what a right answer must contain.

Skills write into a `Talk`; they choose what is asked and answered, this file keeps the books. `Case` is how an
evaluation later judges a reply without knowing any skill.
"""

import random
import re
from dataclasses import dataclass, field

from recipe.phrases import as_typed, question, reply, signs
from recipe.values import Values
from recipe.words import Split
from recipe.world import Order, World

Message = dict[str, str]


def contains(text: str, value: str) -> bool:
    """Whether a text holds a value whole: '$85' is not in '$85.50', nor '2 days' in '12 days'."""
    return bool(re.search(rf"(?<!\w){re.escape(value)}(?!\w|\.\d)", text, re.IGNORECASE))


@dataclass(frozen=True)
class Case:
    """The message at `index` is right if it holds all of `expected` and, where there are any, one of `signs`."""

    index: int
    skill: str
    expected: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()

    def holds(self, text: str) -> bool:
        has_all = all(contains(text, part) for part in self.expected)
        return has_all and (not self.signs or any(contains(text, sign) for sign in self.signs))


@dataclass
class Talk:
    values: Values
    world: World
    messages: list[Message] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    name: str | None = None
    order_number: str | None = None
    order: Order | None = None

    @property
    def rng(self) -> random.Random:
        return self.values.rng

    @property
    def split(self) -> Split:
        return self.values.split

    @property
    def has_shop(self) -> bool:
        return self.world.shop is not None

    def ask(self, text: str, keep: tuple[str, ...] = (), wrap: bool = True) -> None:
        self.messages.append({"role": "user", "content": as_typed(self.rng, self.split, text, keep, wrap)})

    def ask_kind(self, kind: str, keep: tuple[str, ...] = (), wrap: bool = True, **slots: str) -> None:
        self.ask(question(self.rng, self.split, kind, **slots), keep, wrap)

    def answer(self, skill: str, text: str, expected: tuple[str, ...] = (), kind: str | None = None) -> None:
        """Adds the assistant's message; `kind` names the signs that tell a right reply without a value."""
        self.messages.append({"role": "assistant", "content": text})
        self.cases.append(Case(len(self.messages) - 1, skill, expected, signs(kind) if kind else ()))

    def answer_kind(
        self, skill: str, reply_kind: str, expected: tuple[str, ...] = (), kind: str | None = None, **slots: str
    ) -> None:
        slots.setdefault("S", self.world.shop or "")
        slots.setdefault("N", f", {self.name}" if self.name else "")
        self.answer(skill, reply(self.rng, reply_kind, **slots), expected, kind)

    def either(self, shop_kind: str) -> str:
        """The reply kind that fits this world: plain assistants have replies of their own."""
        return shop_kind if self.has_shop else f"plain_{shop_kind}"
