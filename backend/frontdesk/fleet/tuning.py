"""Finds the engine's best settings for a model on this machine, by timing steps for about as long as it is given.

Each question is one `Trial` or a few that differ in one thing; a change has to save `WORTH` to be made, since every
measurement here is of a few seconds on a machine that others may use. What is asked first matters most; when the time
is over the rest stays as it would be without. Knows no settings of a server and writes nothing.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from frontdesk.fleet.registry import ModelCard
from frontdesk.fleet.tuned import Tuned, machine
from frontdesk.worker.lab_client import Lab, laboratory
from frontdesk.worker.protocol import Shape, Timed, Trial

SECONDS: Final = 20.0
WORTH: Final = 0.94  # of the time that something takes otherwise: more is no reason for a change
EFFICIENT, BEARABLE = 0.97, 0.8  # of the best prompt tokens a second: alone, and beside streams that want short steps
CHUNKS: Final = (64, 128, 256, 512)
LEAST_CHUNK: Final = 128  # without streams
FULL: Final = 16  # streams
ODD: Final = (3, 7, 11, 15)  # streams that leave one row of a group of four free
GUESSED: Final = 4  # tokens of a step with guesses
GUESSES_PAY: Final = 1.7  # times a plain step, up to which a step with guesses is worth trying
USUAL_SPIN: Final = 10_000
SPINS: Final = (0, 1_000, 300_000)  # libgomp itself takes about the last
RESIDENT: Final = (1024, 512, 256)  # tokens of a conversation in the trials of the KV cache; what time allows

Environment = Callable[[int], Mapping[str, str]]
Telling = Callable[[str, float], None]
Form = Mapping[str, object]  # fields of a `Trial`

SAMPLE: Final = (Shape("decode", 1), Shape("decode", 8), Shape("prompt", 64))
CACHED: Final = (Shape("decode", 1), Shape("decode", 8), Shape("prompt", 128))


def candidates(cores: int) -> tuple[int, ...]:
    """Numbers of threads worth trying, most first."""
    return tuple(sorted({cores, *(max(1, cores * part // 4) for part in (1, 2, 3))}, reverse=True))


def cost(timed: Timed, shapes: tuple[Shape, ...], threads: int) -> float:
    """The geometric mean of the shapes' seconds: each counts the same. Infinite if one is missing."""
    found = [timed.seconds(shape.kind, shape.size, threads) for shape in shapes]
    if any(seconds is None for seconds in found):
        return math.inf
    return math.exp(sum(math.log(max(seconds, 1e-9)) for seconds in found if seconds is not None) / len(found))


def best(costs: Mapping[int, float], usual: int) -> int:
    """The cheapest, if it is `WORTH` leaving the usual one."""
    cheapest = min(costs, key=lambda option: costs[option])
    return cheapest if costs[cheapest] < WORTH * costs[usual] else usual


def chunks(timed: Timed, threads: int, streams: float) -> tuple[int, int] | None:
    """Prompt tokens of a step without and with streams, which by themselves take `streams` seconds."""
    rates = {size: size / seconds for size in CHUNKS if (seconds := timed.seconds("prompt", size, threads))}
    if not rates:
        return None
    beside = {size: size / (size / rate + streams) for size, rate in rates.items()}
    return max(_least(rates, EFFICIENT), LEAST_CHUNK), _least(beside, BEARABLE)


def _least(rates: Mapping[int, float], share: float) -> int:
    """The smallest chunk that reaches this share of the best rate."""
    return min(size for size, rate in rates.items() if rate >= share * max(rates.values()))


def padding_pays(timed: Timed, threads: int) -> bool:
    """Is a full group of four rows faster than three?"""
    pairs = [(timed.seconds("decode", n, threads), timed.seconds("decode", n + 1, threads)) for n in ODD]
    ratios = [full / odd for odd, full in pairs if odd and full]
    return bool(ratios) and median(ratios) < WORTH


def guessing_pays(timed: Timed, threads: int) -> bool:
    """Is a step with guesses not much longer than one without?"""
    one, several = timed.seconds("decode", 1, threads), timed.seconds("verify", GUESSED, threads)
    return one is not None and several is not None and several <= GUESSES_PAY * one


@dataclass(slots=True)
class Tuning:
    """One model's. `exact` models keep the form of KV cache and the kernels that make them so."""

    card: ModelCard
    cores: int
    exact: bool
    environment: Environment
    tell: Telling
    budget: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    _found: dict[str, object] = field(default_factory=dict)
    _findings: list[str] = field(default_factory=list)
    _steps: dict[str, float] = field(default_factory=dict)
    _begun: float = 0.0
    _threads: int = 1

    async def run(self) -> Tuned:
        """Measure. Raises `ModelLoadFailed`."""
        self._begun = self.clock()
        async with laboratory(self.environment(USUAL_SPIN)) as lab:
            await lab.open(str(self.card.path))
            self.budget += self.clock() - self._begun  # loading is not measuring
            for question in (self._ask_threads, self._ask_steps, self._ask_chunks, self._ask_spin, self._ask_cache):
                if self._left > 0:
                    await question(lab)
        return Tuned(
            model=self.card.name,
            machine=machine(),
            measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
            seconds=round(self.clock() - self._begun, 1),
            steps=self._steps,
            findings=tuple(self._findings),
            **self._found,  # pyright: ignore[reportArgumentType]
        )

    @property
    def _left(self) -> float:
        return self._begun + self.budget - self.clock()

    async def _time(self, lab: Lab, what: str, trial: Trial) -> Timed:
        self.tell(what, min(1.0, 1 - self._left / self.budget))
        return await lab.run(trial)

    async def _ask_threads(self, lab: Lab) -> None:
        options = candidates(self.cores)
        timed = await self._time(lab, "threads", Trial(SAMPLE, options, 6, 0.15 * self.budget))
        costs = {threads: cost(timed, SAMPLE, threads) for threads in options}
        self._threads = best(costs, self.cores)
        self._found["threads"] = self._threads
        self._finding("threads", {str(threads): costs[threads] for threads in options}, str(self._threads))

    async def _ask_steps(self, lab: Lab) -> None:
        sizes = [*range(1, FULL + 1)]
        shapes = (*(Shape("decode", size) for size in sizes), Shape("verify", GUESSED))
        timed = await self._time(lab, "steps of 1 to 16 streams", Trial(shapes, (self._threads,), 5, 0.2 * self.budget))
        self._note(timed)
        if timed.timings:
            self._found["pad_rows"] = padding_pays(timed, self._threads)
            self._found["speculate"] = guessing_pays(timed, self._threads)

    async def _ask_chunks(self, lab: Lab) -> None:
        shapes = tuple(Shape("prompt", size) for size in CHUNKS)
        timed = await self._time(lab, "chunks of a prompt", Trial(shapes, (self._threads,), 3, 0.15 * self.budget))
        self._note(timed)
        if found := chunks(timed, self._threads, self._steps.get("decode 8", 0.0) / 1000):
            self._found["chunk"], self._found["chunk_busy"] = found

    async def _ask_cache(self, lab: Lab) -> None:
        """One question after the other, each with the answers so far."""
        if self.exact:
            return
        rate = max((size / taken for size in CHUNKS if (taken := self._steps.get(f"prompt {size}"))), default=0.0)
        resident = next((n for n in RESIDENT if 4 * n < 0.5 * self._left * 1000 * rate), None)
        if resident is None:  # filling the cache alone would take longer than there is
            return
        forms: dict[str, Form] = {"unified": {"unified": True}, "streams": {"unified": False}}
        layout = await self._form(lab, "kv_layout", resident, {}, forms)
        chosen = forms[layout]
        flash: dict[str, Form] = {"auto": {"flash": "auto"}, "off": {"flash": "off"}}
        chosen = {**chosen, **flash[await self._form(lab, "flash", resident, chosen, flash)]}
        if chosen["flash"] != "off" and self._left > 0:  # a quantized cache needs it
            types: dict[str, Form] = {"f16": {"kv_type": "f16"}, "q8_0": {"kv_type": "q8_0"}}
            await self._form(lab, "kv_type", resident, chosen, types)

    async def _form(self, lab: Lab, name: str, resident: int, base: Form, options: Mapping[str, Form]) -> str:
        """Compare two forms of KV cache; the first is the usual one."""
        costs: dict[str, float] = {}
        for option, form in options.items():
            trial = Trial(CACHED, (self._threads,), 4, 0.04 * self.budget, resident, **{**base, **form})  # pyright: ignore[reportArgumentType]
            costs[option] = cost(await self._time(lab, name.replace("_", " "), trial), CACHED, self._threads)
        usual, other = costs
        chosen = other if costs[other] < WORTH * costs[usual] else usual
        self._found[name] = chosen
        self._finding(name, costs, chosen)
        return chosen

    async def _ask_spin(self, lab: Lab) -> None:
        """Each against the usual number, right after it. One thread waits for nobody."""
        if self._threads == 1:
            return
        costs = {USUAL_SPIN: 1.0}
        for spin in SPINS:
            if self._left <= 0:
                break
            async with laboratory(self.environment(spin)) as other:
                await other.open(str(self.card.path))
                trial = Trial(SAMPLE, (self._threads,), 6, 0.03 * self.budget)
                usual = await self._time(lab, "waiting at barriers", trial)
                timed = await self._time(other, "waiting at barriers", trial)
                costs[spin] = cost(timed, SAMPLE, self._threads) / cost(usual, SAMPLE, self._threads)
        self._found["spin"] = best(costs, USUAL_SPIN)
        self._finding("spin", {str(spin): costs[spin] for spin in sorted(costs)}, str(self._found["spin"]))

    def _note(self, timed: Timed) -> None:
        for timing in timed.timings:
            self._steps[f"{timing.shape.kind} {timing.shape.size}"] = round(1000 * timing.seconds, 3)

    def _finding(self, name: str, costs: Mapping[str, float], chosen: str) -> None:
        """Everything as a multiple of what was chosen."""
        parts = [f"{option} {costs[option] / costs[chosen]:.2f}x" for option in costs]
        self._findings.append(f"{name}: {', '.join(parts)}; {chosen} is used")
