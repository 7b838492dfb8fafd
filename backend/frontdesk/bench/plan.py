"""What a load generator does, as plain values: who says what, when, and after whom.

A `Plan` is rounds, one after the other. A round's lanes run beside each other, each session of a lane after the one
before it; its background streams begin first, have all written before the lanes begin, and are left when they end.
Conversations that have an opening are begun before the lanes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One question. `wait`: seconds from the answer before (or the session's begin) until it is asked. `kind` names the
    group in which the report counts it."""

    text: str
    new_tokens: int
    wait: float = 0.0
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation. `at`: seconds after the round's begin, before which it does not begin. `opening` was asked and
    answered before that, and is counted nowhere."""

    turns: tuple[Turn, ...]
    system: str = ""
    at: float = 0.0
    opening: Turn | None = None


@dataclass(frozen=True, slots=True)
class Round:
    lanes: tuple[tuple[Session, ...], ...]
    background: tuple[Session, ...] = ()

    @property
    def sessions(self) -> Iterator[Session]:
        return (session for lane in self.lanes for session in lane)


@dataclass(frozen=True, slots=True)
class Plan:
    """`replies`: how many there are, those in the background not counted."""

    rounds: tuple[Round, ...]

    @property
    def replies(self) -> int:
        return sum(len(session.turns) for round in self.rounds for session in round.sessions)
