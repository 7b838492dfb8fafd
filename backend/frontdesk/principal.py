"""Who asks: the identity that a request was given at the edge, as pure values. Knows no secret and no header."""

from __future__ import annotations

from dataclasses import dataclass, field

ALL_SCOPES = frozenset(["chat", "visitors", "usage", "admin"])
DEFAULT_SCOPES = ALL_SCOPES - {"admin"}  # of a new key: whoever may see everybody's is named as such


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of one account; `None` is no limit. Tokens are prompt and completion together.

    A minute is a minute of the clock, a day a day in UTC; `tokens_total` never refills.
    """

    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_total: int | None = None
    requests_per_minute: int | None = None

    def __bool__(self) -> bool:
        return any(
            limit is not None
            for limit in (self.tokens_per_minute, self.tokens_per_day, self.tokens_total, self.requests_per_minute)
        )


@dataclass(frozen=True, slots=True)
class Principal:
    """`owner` separates what is stored and what is cached: only requests of the same owner see each other's.

    Every key is an owner of its own, and so is every visitor; without authentication everybody is the owner "".
    `conversation` is set on a visitor's token that is good for one conversation only. `origin` is the only site from
    which a widget's token may come; `persona` is what a widget's visitor always talks to ("": the model's own), and
    may not be changed by a request.
    """

    owner: str = ""
    key: str | None = None  # id of the API key; a visitor carries the id of the key that issued the token
    visitor: str | None = None
    scopes: frozenset[str] = ALL_SCOPES
    key_limits: Limits = field(default_factory=Limits)
    visitor_limits: Limits = field(default_factory=Limits)
    conversation: str | None = None
    origin: str | None = None
    persona: str | None = None


ANONYMOUS = Principal()
