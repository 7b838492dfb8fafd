"""The last hour in numbers, and the replies that run now. In memory, of a fixed size: a restart begins anew.

Time is cut into slots of ten seconds. What happens is counted in the slot in which it happens, at the moment at which
readers can see it; what is a level and not an event (requests that run, memory) is sampled by others and given to
`level`. A reply reports through its `Meter`, whose calls are in the path of every token: see `Meter.advanced`.
Knows no reply, no engine and no text. For one event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from frontdesk.errors import FrontdeskError
from frontdesk.telemetry.histogram import Histogram
from frontdesk.telemetry.problems import Asked, Problems

SLOT_SECONDS: Final = 10
SLOTS: Final = 360

End = Literal["finished", "cancelled", "failed"]
State = Literal["waiting", "prefill", "streaming"]


@dataclass(frozen=True, slots=True)
class Level:
    """How much there is of something at one moment. Memory is in bytes."""

    running: int = 0
    waiting: int = 0
    kv_used: int = 0
    kv_cells: int = 0
    memory: int = 0


@dataclass(slots=True)
class Slot:
    """Ten seconds from `at` on, in seconds since 1970.

    `started`, `finished`, `cancelled` and `failed` count replies, `refused` calls that were turned away before a reply
    began. `prompt_tokens` counts a prompt when the engine has read it, once for all replies to it; `tokens` those of
    answers. `ttft` is from the call to the first token, `itl` from each token to the next. `level` holds the most that
    was seen of each.
    """

    at: int
    started: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    ttft: Histogram = field(default_factory=Histogram)
    itl: Histogram = field(default_factory=Histogram)
    level: Level = field(default_factory=Level)


class Recent:
    """`clock` gives seconds since 1970; it may jump. `problems` hears of replies that fail."""

    def __init__(self, clock: Callable[[], float], problems: Problems) -> None:
        self.problems = problems
        self.now = clock
        self._ring: list[Slot | None] = [None] * SLOTS
        self._slot = Slot(-SLOT_SECONDS)  # over before anything happens
        self._live: dict[str, Meter] = {}

    def started(self, id: str, order: Metered, *, since: float, resumed: int | None = None) -> Meter:
        """A reply began, asked for at `since`. `resumed`: tokens that it had in a former life of the server."""
        meter = Meter(self, id, order, since, resumed)
        self._live[id] = meter
        self.slot(self.now()).started += 1
        return meter

    def refused(self) -> None:
        """A call was turned away before a reply began."""
        self.slot(self.now()).refused += 1

    def level(self, level: Level) -> None:
        slot = self.slot(self.now())
        most = slot.level
        slot.level = Level(
            max(most.running, level.running),
            max(most.waiting, level.waiting),
            max(most.kv_used, level.kv_used),
            level.kv_cells,
            max(most.memory, level.memory),
        )

    def live(self) -> list[Meter]:
        """The replies that run or wait, the oldest first."""
        return sorted(self._live.values(), key=lambda meter: meter.since)

    def slots(self, since: float = 0) -> list[Slot]:
        """Those of the last hour that end after `since`, the oldest first, empty ones too; the last one is not over."""
        now = int(self.now()) // SLOT_SECONDS
        first = max(now - SLOTS + 1, min(int(max(since, 0)) // SLOT_SECONDS, now))
        return [self._kept(number) or Slot(number * SLOT_SECONDS) for number in range(first, now + 1)]

    def slot(self, now: float) -> Slot:
        """The slot of this moment, to count in."""
        slot = self._slot
        if not 0 <= now - slot.at < SLOT_SECONDS:
            number = int(now) // SLOT_SECONDS
            slot = self._kept(number) or Slot(number * SLOT_SECONDS)
            self._ring[number % SLOTS] = self._slot = slot
        return slot

    def leave(self, id: str) -> None:
        self._live.pop(id, None)

    def _kept(self, number: int) -> Slot | None:
        """An hour later the same place in the ring is another slot's."""
        slot = self._ring[number % SLOTS]
        return slot if slot is not None and slot.at == number * SLOT_SECONDS else None


@dataclass(frozen=True, slots=True)
class Metered:
    """What is told of a reply as long as it runs. `place` gives its place in the waiting line, 0 when it does not wait;
    `pays` is whether its prompt counts, which it does once for all replies to one call. `payer` is a name, not a text.
    """

    model: str
    prompt_tokens: int
    payer: str
    place: Callable[[], int]
    pays: bool = True
    asked: Asked | None = None


class Meter:
    """Counts for one reply. Its calls may come in any order and after its end."""

    __slots__ = ("_last", "_recent", "_resumed", "id", "order", "since", "tokens", "ttft")

    def __init__(self, recent: Recent, id: str, order: Metered, since: float, resumed: int | None) -> None:
        self.id = id
        self.order = order
        self.since = since
        self.tokens = resumed or 0
        self.ttft: float | None = None  # seconds
        self._recent = recent
        self._resumed = resumed is not None
        self._last: float | None = None  # when the last token came

    def state(self) -> tuple[State, int | None]:
        """What it is doing, and its place in the line if it waits: 1 is next."""
        if self._last is not None:
            return "streaming", None
        place = self.order.place()
        return ("waiting", place) if place else ("prefill", None)

    @property
    def age(self) -> float:
        """Seconds since it was asked for."""
        return max(0.0, self._recent.now() - self.since)

    def advanced(self, tokens: int, *, read: bool) -> None:
        """So many more tokens can be seen; `read`: the engine has now read the prompt.

        Called for every token: two subtractions, one logarithm. Tokens that come together share the time since the one
        before them; of the first ones only the first has a time.
        """
        recent = self._recent
        now = recent.now()
        slot = recent.slot(now)
        if read and self.order.pays:
            slot.prompt_tokens += self.order.prompt_tokens
        if not tokens:
            return
        slot.tokens += tokens
        self.tokens += tokens
        if self._last is not None:
            slot.itl.add((now - self._last) / tokens, tokens)
        elif not self._resumed:
            self.ttft = max(0.0, now - self.since)
            slot.ttft.add(self.ttft)
        self._last = now

    def ended(self, end: End) -> None:
        slot = self._recent.slot(self._recent.now())
        if end == "finished":
            slot.finished += 1
        elif end == "cancelled":
            slot.cancelled += 1
        else:
            slot.failed += 1
        self._recent.leave(self.id)

    def failed(self, error: FrontdeskError) -> None:
        """It ended with an error."""
        self.ended("failed")
        self._recent.problems.failed(self.order.asked, error, self.id)

    def left(self) -> None:
        """It goes on elsewhere: neither over nor running here."""
        self._recent.leave(self.id)
