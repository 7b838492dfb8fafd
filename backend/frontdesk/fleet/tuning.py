"""Finds the engine's best settings for a model on this machine, by timing steps for about as long as it is given.

Each question is one `Trial` or a few that differ in one thing; a change has to save `WORTH` to be made, since every
measurement here is of a few seconds on a machine that others may use. What is asked first matters most; when the time
is over, or the process that measures dies or hangs, the rest stays as it would be without. Nothing is opened that would
take more memory than a server does. Knows no settings of a server and writes nothing.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, TypeVar

from frontdesk.errors import ModelLoadFailed
from frontdesk.fleet.registry import ModelCard
from frontdesk.fleet.tuned import Tuned, machine
from frontdesk.worker.lab_client import Lab, laboratory
from frontdesk.worker.machine import usable_memory
from frontdesk.worker.protocol import Shape, Timed, Trial

SECONDS: Final = 20.0
LOADING: Final = 600.0  # seconds after which a model that is not open yet is given up
HANGS: Final = 10  # times the seconds that were asked for, and those of loading: what takes longer never ends
CACHE_SHARE: Final = 1 / 3  # of the memory that the weights leave, at most, for a KV cache
TWICE: Final = 2.5  # times the weights: memory to open them in two processes
WORTH: Final = 0.94  # of the time that something takes otherwise: more is no reason for a change
EFFICIENT, BEARABLE = 0.97, 0.8  # of the best prompt tokens a second: alone, and beside streams that want short steps
CHUNKS: Final = (64, 128, 256, 512)
LEAST_CHUNK: Final = 128  # without streams
FULL: Final = 16  # streams
ODD: Final = (3, 7, 11, 15)  # streams that leave one row of a group of four free
GUESSED: Final = (4, 8, 16)  # tokens of a step with guesses
GUESSES_PAY: Final = 2.0  # times the tokens for the same time, if all guesses are right: less is not worth trying
USUAL_SPIN: Final = 10_000
SPINS: Final = (0, 1_000, 300_000)  # libgomp itself takes about the last
RESIDENT: Final = (1024, 512, 256)  # tokens of a conversation in the trials of the KV cache; what time allows

Environment = Callable[[int], Mapping[str, str]]
Telling = Callable[[str, float], None]
Form = Mapping[str, Any]  # fields of a `Trial`
Option = TypeVar("Option", int, str)

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


def best(costs: Mapping[Option, float], usual: Option) -> Option:
    """The cheapest, if it is `WORTH` leaving the usual one."""
    cheapest = min(costs, key=lambda option: costs[option])
    return cheapest if costs[cheapest] < WORTH * costs[usual] else usual


def chunks(timed: Timed, threads: int, streams: float) -> tuple[int, int] | None:
    """Prompt tokens of a step without and with streams, which by themselves take `streams` seconds. `None` unless all
    sizes were measured: on a slow machine those that were would be the smallest."""
    rates = {size: size / seconds for size in CHUNKS if (seconds := timed.seconds("prompt", size, threads))}
    if len(rates) < len(CHUNKS):
        return None
    beside = {size: size / (size / rate + streams) for size, rate in rates.items()}
    return max(_least(rates, EFFICIENT), LEAST_CHUNK), _least(beside, BEARABLE)


def _least(rates: Mapping[int, float], share: float) -> int:
    """The smallest chunk that reaches this share of the best rate."""
    return min(size for size, rate in rates.items() if rate >= share * max(rates.values()))


def padding_pays(timed: Timed, threads: int) -> bool | None:
    """Is a full group of four rows faster than three? `None` if that was not measured."""
    pairs = [(timed.seconds("decode", n, threads), timed.seconds("decode", n + 1, threads)) for n in ODD]
    ratios = [full / odd for odd, full in pairs if odd and full]
    return median(ratios) < WORTH if ratios else None


def guessing_pays(timed: Timed, threads: int) -> bool | None:
    """Can a step with guesses bring a token in much less time than one without? `None` if what was measured does not
    tell."""
    one = timed.seconds("decode", 1, threads)
    steps = {size: seconds for size in GUESSED if (seconds := timed.seconds("verify", size, threads))}
    if one and any(size * one >= GUESSES_PAY * seconds for size, seconds in steps.items()):
        return True
    return False if one and len(steps) == len(GUESSED) else None


@dataclass(slots=True)
class Tuning:
    """One model's, for one use. `exact` models keep the form of KV cache and the kernels that make them so.

    `threads` are the numbers to try, the usual one first; `weights` is the bytes of the model's files, `cell` those of
    a token in the KV cache, `cell_without` with what attention needs for it where there is no flash attention, `memory`
    what is free: what is not known limits nothing. A spin that the environment fixes is not asked for.
    """

    card: ModelCard
    threads: tuple[int, ...]
    exact: bool
    environment: Environment
    tell: Telling
    budget: float = SECONDS
    weights: int = 0
    cell: float = 0.0
    cell_without: float = 0.0
    memory: int | None = field(default_factory=usable_memory)
    clock: Callable[[], float] = time.monotonic
    _found: dict[str, Any] = field(default_factory=dict)
    _findings: list[str] = field(default_factory=list)
    _steps: dict[str, float] = field(default_factory=dict)
    _caches: dict[Trial, float] = field(default_factory=dict)  # what forms of KV cache cost
    _asked: str = ""
    _ends: float = math.inf

    async def run(self) -> Tuned:
        """Measure. Raises `ModelLoadFailed` or `TimeoutError` if nothing could be found out."""
        begun, given_up = self.clock(), ""
        try:
            await self._measure()
        except (ModelLoadFailed, TimeoutError) as error:
            if not self._found:
                raise
            given_up = f"{self._asked}: {error}"
        return Tuned(
            model=self.card.name,
            machine=machine(),
            measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
            seconds=round(self.clock() - begun, 1),
            steps=self._steps,
            findings=tuple(self._findings),
            given_up=given_up,
            **self._found,
        )

    async def _measure(self) -> None:
        begun, now = self.clock(), asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(LOADING) as limit, laboratory(self.environment(USUAL_SPIN)) as lab:
                self.tell("opening the model", 0.0)
                await lab.open(str(self.card.path))
                self._ends = self.clock() + self.budget  # loading is not measuring
                limit.reschedule(now() + HANGS * (self._ends - begun))
                for question in (self._ask_threads, self._ask_steps, self._ask_chunks, self._ask_cache, self._ask_spin):
                    if self._left > 0:
                        await question(lab)
        except TimeoutError:
            raise TimeoutError("the measuring process does not answer") from None

    @property
    def _left(self) -> float:
        return self._ends - self.clock()

    @property
    def _threads(self) -> int:
        """The best, as far as that is known."""
        return self._found.get("threads", self.threads[0])

    def _trial(self, shapes: tuple[Shape, ...], repeats: int, share: float, **form: Any) -> Trial:
        """With the best number of threads; for a share of the time that there is."""
        return Trial(shapes, (self._threads,), repeats, share * self.budget, exact=self.exact, **form)

    def _fits(self, trial: Trial) -> bool:
        cell = self.cell_without if trial.flash == "off" else self.cell
        return self.memory is None or trial.cells * cell <= CACHE_SHARE * max(0, self.memory - self.weights)

    async def _time(self, lab: Lab, what: str, trial: Trial) -> Timed:
        """No timings where it takes too much memory, or llama.cpp refuses."""
        self._asked = what
        self.tell(what, min(1.0, 1 - self._left / self.budget))
        if self._fits(trial):
            timed = await lab.run(trial)
        else:
            timed = Timed((), f"too little memory for {trial.cells} tokens in the KV cache")
        if timed.reason:
            self._findings.append(f"{what}: {timed.reason}")
        return timed

    async def _ask_threads(self, lab: Lab) -> None:
        if len(self.threads) > 1:
            trial = Trial(SAMPLE, self.threads, 6, 0.15 * self.budget, exact=self.exact)
            timed = await self._time(lab, "threads", trial)
            self._choose("threads", {count: cost(timed, SAMPLE, count) for count in self.threads}, self.threads[0])

    async def _ask_steps(self, lab: Lab) -> None:
        one, *several = (Shape("decode", size) for size in range(1, FULL + 1))
        shapes = (one, *(Shape("verify", size) for size in GUESSED), *several)  # in this order, as far as the time goes
        timed = await self._time(lab, "steps of 1 to 16 streams", self._trial(shapes, 5, 0.2))
        self._note(timed)
        found = {"pad_rows": padding_pays(timed, self._threads), "speculate": guessing_pays(timed, self._threads)}
        self._found |= {name: value for name, value in found.items() if value is not None}

    async def _ask_chunks(self, lab: Lab) -> None:
        shapes = tuple(Shape("prompt", size) for size in CHUNKS)
        timed = await self._time(lab, "chunks of a prompt", self._trial(shapes, 3, 0.15))
        self._note(timed)
        streams = self._steps.get("decode 8")
        if found := chunks(timed, self._threads, (streams or 0.0) / 1000):
            self._found["chunk"] = found[0]
            if streams:
                self._found["chunk_busy"] = found[1]

    async def _ask_spin(self, lab: Lab) -> None:
        """Each against the usual number, right after it. One thread waits for nobody."""
        if self._threads == 1 or self.environment(SPINS[0]) == self.environment(USUAL_SPIN):
            return
        if self.memory is not None and self.memory < TWICE * self.weights:
            self._findings.append("spin: too little memory to open the model twice")
            return
        costs = {USUAL_SPIN: 1.0}
        for spin in SPINS:
            if self._left <= 0:
                break
            self._asked = "waiting at barriers"
            async with laboratory(self.environment(spin)) as other:
                await other.open(str(self.card.path))
                trial = self._trial(SAMPLE, 6, 0.03)
                usual = cost(await self._time(lab, "waiting at barriers", trial), SAMPLE, self._threads)
                changed = cost(await self._time(other, "waiting at barriers", trial), SAMPLE, self._threads)
                costs[spin] = changed / usual if math.isfinite(usual) else math.inf
        self._choose("spin", dict(sorted(costs.items())), USUAL_SPIN)

    async def _ask_cache(self, lab: Lab) -> None:
        """One question after the other, each with the answers so far."""
        if self.exact:
            return
        rate = max((size / taken for size in CHUNKS if (taken := self._steps.get(f"prompt {size}"))), default=0.0)
        in_time = [n for n in RESIDENT if 4 * n < 0.5 * self._left * 1000 * rate]  # filling it must not take it all
        resident = next((n for n in in_time if self._fits(self._trial(CACHED, 4, 0.04, resident=n))), None)
        if resident is None:
            return
        form: dict[str, Any] = {"resident": resident}
        layout = await self._form(lab, "kv_layout", form, {"unified": {"unified": True}, "streams": {"unified": False}})
        form["unified"] = layout == "unified"
        form["flash"] = await self._form(lab, "flash", form, {"auto": {"flash": "auto"}, "off": {"flash": "off"}})
        if form["flash"] != "off" and self._left > 0:  # a quantized cache needs it
            await self._form(lab, "kv_type", form, {"f16": {"kv_type": "f16"}, "q8_0": {"kv_type": "q8_0"}})

    async def _form(self, lab: Lab, name: str, base: Form, options: Mapping[str, Form]) -> str:
        """Compare forms of KV cache; the first is the usual one. To fill a cache takes much longer than to time it, so
        none is filled twice."""
        costs: dict[str, float] = {}
        usual = next(iter(options))
        for option, form in options.items():
            trial = self._trial(CACHED, 4, 0.04, **{**base, **form})
            if trial not in self._caches:
                timed = await self._time(lab, name.replace("_", " "), trial)
                self._caches[trial] = cost(timed, CACHED, self._threads)
            costs[option] = self._caches[trial]
            if math.isinf(costs[usual]):
                break  # nothing could be compared with it
        return self._choose(name, costs, usual)

    def _choose(self, name: str, costs: Mapping[Option, float], usual: Option) -> Option:
        """The best of what was measured. Recorded if that and the usual could be compared."""
        known = {option: taken for option, taken in costs.items() if math.isfinite(taken)}
        if usual not in known or len(known) == 1:
            return usual
        chosen = best(known, usual)
        parts = [f"{option} {taken / known[chosen]:.2f}x" for option, taken in known.items()]
        self._findings.append(f"{name}: {', '.join(parts)}; {chosen} is used")
        self._found[name] = chosen
        return chosen

    def _note(self, timed: Timed) -> None:
        for timing in timed.timings:
            self._steps[f"{timing.shape.kind} {timing.shape.size}"] = round(1000 * timing.seconds, 3)
