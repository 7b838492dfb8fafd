"""The workloads that a server can be measured with, by name. Pure: the same shape, sizes and seed give the same plan.

    raw     streams that each ask again as soon as they are answered; all replies of the same length
    mixed   the same, but every second reply is short
    widget  visitors of a web page: several turns each, with time to think, all with the same long persona
    long    a long prompt that arrives beside running streams
    burst   prompts that all arrive at the same moment
    quoted  replies that repeat much of their prompt, as answers from a document do

With a rate the same sessions arrive at random, `rate` a second, whether or not the server keeps up (an open loop).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from frontdesk.bench.arrivals import poisson, thinking
from frontdesk.bench.plan import Plan, Round, Session, Turn
from frontdesk.bench.prompts import Sizes, unlike_words

BACKGROUND_PROMPT: Final = 32  # tokens
BACKGROUND_ANSWER: Final = 1024  # tokens; a stream that is over begins again
SHORT: Final = 6  # tokens of a short reply
OPENING_ANSWER: Final = 1  # token
LONG_ANSWER: Final = 8  # tokens: the first is what is waited for


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a load. Sizes are in tokens, `think` in seconds, `rate` in sessions a second (0: closed loop).

    `requests` is how many sessions there are: of one reply each, but of `turns` replies in `widget`. `persona` is the
    length of the system prompt that all visitors share, `context` of what each conversation of `mixed` holds already.
    """

    streams: int
    requests: int
    prompt: int
    new: int
    turns: int = 1
    think: float = 0.0
    persona: int = 0
    context: int = 0
    rate: float = 0.0
    seed: int = 1


DEFAULTS: Final[dict[str, Shape]] = {
    "raw": Shape(streams=8, requests=32, prompt=128, new=128),
    "mixed": Shape(streams=16, requests=32, prompt=128, new=128),
    "widget": Shape(streams=24, requests=24, prompt=60, new=48, turns=5, think=12.0, persona=800),
    "long": Shape(streams=7, requests=3, prompt=2000, new=LONG_ANSWER),
    "burst": Shape(streams=8, requests=32, prompt=256, new=64),
    "quoted": Shape(streams=1, requests=4, prompt=600, new=128),
}


def plan(workload: str, shape: Shape, sizes: Sizes) -> Plan:
    """Raises KeyError for a name that is no workload."""
    return _BUILDERS[workload](shape, sizes, random.Random(shape.seed))


def _raw(shape: Shape, sizes: Sizes, rng: random.Random) -> Plan:
    return _scheduled(shape, rng, [_single(sizes, rng, shape.prompt, shape.new) for _ in range(shape.requests)])


def _mixed(shape: Shape, sizes: Sizes, rng: random.Random) -> Plan:
    """Short and long take turns over the streams, so that half of each round's streams end early."""

    def session(new: int, kind: str) -> Session:
        if not shape.context:
            return _single(sizes, rng, shape.prompt, new, kind)
        system, user = sizes.prompt(rng, shape.context)
        asked = Turn(sizes.text(rng, shape.prompt), new, kind=kind)
        return Session((asked,), system, opening=Turn(user, OPENING_ANSWER))

    lengths = [(shape.new, "long") if number % 2 == 0 else (SHORT, "short") for number in range(shape.requests)]
    sessions = [session(new, kind) for new, kind in lengths]
    return _scheduled(shape, rng, sessions) if shape.rate else _together(shape.streams, sessions)


def _widget(shape: Shape, sizes: Sizes, rng: random.Random) -> Plan:
    persona = sizes.text(rng, shape.persona)

    def visitor() -> Session:
        turns = tuple(
            Turn(sizes.text(rng, shape.prompt), shape.new, thinking(rng, shape.think), _turn_name(number))
            for number in range(shape.turns)
        )
        return Session(turns, persona)

    return _scheduled(shape, rng, [visitor() for _ in range(shape.requests)])


def _long(shape: Shape, sizes: Sizes, rng: random.Random) -> Plan:
    def round() -> Round:
        background = tuple(
            _single(sizes, rng, BACKGROUND_PROMPT, BACKGROUND_ANSWER, "beside it") for _ in range(shape.streams)
        )
        return Round(((_single(sizes, rng, shape.prompt, shape.new, "long prompt"),),), background)

    return Plan(tuple(round() for _ in range(shape.requests)))


def _burst(shape: Shape, sizes: Sizes, rng: random.Random) -> Plan:
    return _together(shape.streams, [_single(sizes, rng, shape.prompt, shape.new) for _ in range(shape.requests)])


def _quoted(shape: Shape, sizes: Sizes, rng: random.Random) -> Plan:
    """A text and the wish to hear it again. Whether the model obeys is the model's affair."""

    def session() -> Session:
        text = unlike_words(rng, max(1, round(shape.prompt / sizes.per_word)))
        return Session((Turn(f"Repeat this text: {text}", shape.new),), "Repeat")

    return _scheduled(shape, rng, [session() for _ in range(shape.requests)])


def _turn_name(number: int) -> str:
    return "later turns" if number else "first turn"


def _single(sizes: Sizes, rng: random.Random, prompt: int, new: int, kind: str = "") -> Session:
    system, user = sizes.prompt(rng, prompt)
    return Session((Turn(user, new, kind=kind),), system)


def _scheduled(shape: Shape, rng: random.Random, sessions: list[Session]) -> Plan:
    """Closed loop: dealt to the streams. Open loop: each at its own time."""
    if not shape.rate:
        lanes = tuple(tuple(sessions[lane :: shape.streams]) for lane in range(shape.streams))
        return Plan((Round(tuple(lane for lane in lanes if lane)),))
    times = poisson(rng, shape.rate, len(sessions))
    timed = [replace(session, at=at) for session, at in zip(sessions, times, strict=True)]
    return Plan((Round(tuple((session,) for session in timed)),))


def _together(streams: int, sessions: list[Session]) -> Plan:
    """Rounds of so many sessions, all of which begin at the same moment."""
    starts = range(0, len(sessions), streams)
    return Plan(tuple(Round(tuple((session,) for session in sessions[at : at + streams])) for at in starts))


_BUILDERS: Final[dict[str, Callable[[Shape, Sizes, random.Random], Plan]]] = {
    "raw": _raw,
    "mixed": _mixed,
    "widget": _widget,
    "long": _long,
    "burst": _burst,
    "quoted": _quoted,
}
