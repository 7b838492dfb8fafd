"""Which turns of a conversation are sent when not all of them fit: a pure function of token counts.

A turn leaves whole, the oldest first, and when one must leave, enough leave to make room for many turns to come: every
drop changes the prompt near its beginning, so that the engine has to read the rest of it again. What was dropped once
stays dropped: the plan walks through the history as it grew, part by part, and never looks ahead.

Laws, for the same limit, policy and fixed parts:
- system, pinned and summary parts and the newest turn are kept; so are the last `keep_last` turns while they fit;
- a plan that says it fits has at most `limit` tokens;
- a longer history keeps what its beginning keeps and all that came since, or begins at a later turn (a drop);
- after a drop at most `low_water` of what the fixed parts leave free is used, unless the last `keep_last` turns alone
  are more. So from one drop to the next at least (1 - low_water) x (limit - fixed parts) new tokens come.
Another limit (a longer answer is asked for) or other pins may move the beginning at once.

Knows no text, no template and no model: `fitting` counts, renders and holds the plan to what was really rendered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from frontdesk.generation import Truncation

PartKind = Literal["system", "pinned", "summary", "history", "input"]
FIXED: Final = -1  # the turn of parts that stand in front of all turns


@dataclass(frozen=True, slots=True)
class Part:
    """Something that can be sent, and what it costs. `turn` numbers never fall from one part to the next, but for
    `FIXED`, which system and summary parts have."""

    id: str
    kind: PartKind
    tokens: int
    turn: int = FIXED


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do when a conversation does not fit. `keep_last` counts turns, from 1; `low_water` is a share, 0 to 1.

    `summarise` asks whoever runs replies to put a summary in the place of what leaves; the plan itself is the same.
    """

    truncation: Truncation = "auto"
    keep_last: int = 1
    low_water: float = 0.5
    summarise: bool = False
    long_message: Literal["refuse", "cut"] = "refuse"


@dataclass(frozen=True, slots=True)
class Plan:
    """`kept` and `dropped` are indices of parts, in order. Pinned parts before `first_turn` stand in front of the kept
    turns. `tokens` is the sum over `kept`, and `fits` says whether it is within the limit."""

    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    first_turn: int
    tokens: int
    fits: bool


def plan(parts: Sequence[Part], *, limit: int, policy: Policy, first: int = 0) -> Plan:
    """Choose what is sent. `limit` is in tokens, of the parts together. Raises nothing.

    Turns before `first` are not sent even if there is room, since a summary stands for them; the walk counts them all
    the same, so that it does not begin elsewhere whenever a little more was summed up.
    """
    walk = _Walk(limit, policy, sum(part.tokens for part in parts if part.turn == FIXED))
    for part in parts:
        if part.turn != FIXED:
            walk.add(part)
    if walk.turns:
        first = min(max(first, walk.turns[0].number), walk.turns[-1].number)
    chosen = [part.kind == "pinned" or part.turn == FIXED or part.turn >= first for part in parts]
    kept = tuple(i for i, keep in enumerate(chosen) if keep)
    dropped = tuple(i for i, keep in enumerate(chosen) if not keep)
    tokens = sum(parts[i].tokens for i in kept)
    return Plan(kept, dropped, first, tokens, tokens <= limit)


@dataclass(slots=True)
class _Turn:
    number: int
    tokens: int = 0  # that leave with it: without what is pinned


class _Walk:
    """The history so far. `fixed` counts what never leaves, pinned parts from the moment they are met."""

    def __init__(self, limit: int, policy: Policy, fixed: int) -> None:
        self.turns: deque[_Turn] = deque()
        self._limit = limit
        self._policy = policy
        self._fixed = fixed
        self._history = 0

    def add(self, part: Part) -> None:
        if not self.turns or self.turns[-1].number != part.turn:
            self.turns.append(_Turn(part.turn))
        if part.kind == "pinned":
            self._fixed += part.tokens
        else:
            self.turns[-1].tokens += part.tokens
            self._history += part.tokens
        if self._fixed + self._history > self._limit and self._policy.truncation == "auto":
            self._drop()

    def _drop(self) -> None:
        low = self._policy.low_water * (self._limit - self._fixed)
        while len(self.turns) > max(1, self._policy.keep_last) and self._history > low:
            self._drop_oldest()
        while len(self.turns) > 1 and self._fixed + self._history > self._limit:  # the last turns do not all fit
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._history -= self.turns.popleft().tokens
