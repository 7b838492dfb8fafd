"""Kills, and clients that read on through them: what `test_durability` and `bench/durability.py` have in common.

A `Phoenix` is a server that comes back on the same port and database. A `Follower` reads one reply to its end however
often it is cut off, by every route that gives the rest of a reply, and notes what it saw for the history checker.
`storm` lets several of them read while engines and servers are killed at random.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import httpx2
import msgspec
from tests.acceptance.asking import conversation
from tests.acceptance.history import Fault, History, Told, check, final
from tests.conftest import Server, running_server
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

Victim = Literal["engine", "server"]
WAYS = ("retrieve", "events", "socket", "retry")
RECOVERY_SECONDS = 60.0
SILENT_SECONDS = 30.0  # without an event: nobody woke this reader; no engine takes so long to come back
IN_FLIGHT = 0.1  # seconds in which what a dead engine had said has arrived; the next one is still loading then
LOST = (httpx2.TransportError, WebSocketException, OSError, TimeoutError)  # the connection broke: come back


class Phoenix:
    """A server that can be killed and started again as it was. Leaving the block kills it for good.

    Its port lies below those that the system gives to outgoing connections: a client that knocks while nobody listens
    could otherwise be connected with itself.
    """

    def __init__(self, folder: Path, *flags: str, **variables: str) -> None:
        self.database = folder / "frontdesk.db"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._flags = ("--port", str(self.port), *flags)
        self._variables = {"database": str(self.database)} | variables
        self._lives = itertools.count()
        self._life = ExitStack()
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def __enter__(self) -> Phoenix:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()

    def start(self) -> None:
        """Begin the next life; returns when requests are answered."""
        log = self._folder / f"log-{next(self._lives)}.txt"
        self._server = self._life.enter_context(running_server(log, *self._flags, **self._variables))

    def kill(self, victim: Victim) -> None:
        """SIGKILL; returns when a server is up again, or when its next engine has been started by it."""
        if victim == "engine":
            pid = self.server.engine_pid
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + RECOVERY_SECONDS
            while self.server.engine_pids() in ([], [pid]):
                assert time.monotonic() < deadline, "no engine was started in the dead one's place"
                time.sleep(0.005)
        else:
            self._life.close()
            self.start()

    def restart(self) -> None:
        """SIGTERM, as a deployment does, and the next life."""
        self.stop()
        self._life.close()
        self.start()

    def stop(self) -> int:
        """Let running replies finish; the exit code."""
        return self.server.stop()


def _free_port() -> int:
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@dataclass(frozen=True, slots=True)
class Plan:
    """One reply to ask for. `name` is its Idempotency-Key; plans of the same `kind` differ in nothing else."""

    name: str
    kind: int
    tokens: int

    @property
    def body(self) -> dict[str, Any]:
        """Half of the kinds are greedy, half sampled with a seed; all go on to exactly `tokens`."""
        return {
            "input": conversation(self.kind, 4),
            "temperature": 0 if self.kind % 2 else 0.8,
            "seed": self.kind,
            "ignore_eos": True,
            "max_output_tokens": self.tokens,
            "stream": True,
        }


class Follower:
    """Reads replies to their ends. `leave` is how likely it leaves on its own in the middle of a visit."""

    def __init__(self, url: str, rng: random.Random, leave: float = 0.0) -> None:
        self._url = url
        self._rng = rng
        self._leave = leave
        self.moved = 0.0  # when something new last came

    async def follow(self, plan: Plan) -> History:
        """Ask for the reply and come back until its end was seen, or a server gave an answer that it never may, or
        none for `SILENT_SECONDS`: that is no cut connection, and coming back would hide it."""
        history = History(plan.name)
        async with httpx2.AsyncClient(base_url=self._url, timeout=RECOVERY_SECONDS, verify=False) as http:
            while not history.ended and not history.problems:
                silence = asyncio.timeout(SILENT_SECONDS)
                try:
                    async with silence:
                        await self._visit(http, plan, history, silence)
                except LOST:
                    if silence.expired():
                        history.problems.append(f"{history.visits[-1].way}: silent after event {history.last}")
                    await asyncio.sleep(self._rng.uniform(0.05, 0.15))
        return history

    async def _visit(self, http: httpx2.AsyncClient, plan: Plan, history: History, silence: asyncio.Timeout) -> None:
        """Every event begins the wait that `silence` bounds anew."""
        way = self._rng.choice(WAYS) if history.id else "retry"
        events = self._socket(history) if way == "socket" else self._stream(http, way, plan, history)
        stay = self._rng.randint(1, plan.tokens) if self._rng.random() < self._leave else None
        history.visit(way, everything=way == "retry")
        try:
            async for data in events:
                silence.reschedule(asyncio.get_running_loop().time() + SILENT_SECONDS)
                known, now = history.last, perf_counter()
                history.note(data, now)
                if history.last > known:
                    self.moved = now
                if stay is not None and len(history.visits[-1].seen) >= stay and not history.ended:
                    return
        finally:
            await events.aclose()

    async def _stream(self, http: httpx2.AsyncClient, way: str, plan: Plan, history: History) -> AsyncGenerator[bytes]:
        path, after = f"/v1/responses/{history.id}", history.last
        request: dict[str, Any]
        match way:
            case "retry":
                headers = {"idempotency-key": plan.name}
                request = {"method": "POST", "url": "/v1/responses", "json": plan.body, "headers": headers}
            case "events":
                request = {"method": "GET", "url": path + "/events", "headers": {"last-event-id": str(after)}}
            case _:
                request = {"method": "GET", "url": path, "params": {"stream": "true", "starting_after": after}}
        async with http.stream(**request) as answer:
            if answer.status_code in (502, 503):
                raise ConnectionError(f"not ready: {answer.status_code}")
            if answer.status_code != 200:
                history.problems.append(f"{way}: {answer.status_code} {(await answer.aread())[:300]!r}")
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    yield line[6:].encode()

    async def _socket(self, history: History) -> AsyncGenerator[bytes]:
        resume = {"type": "response.resume", "response_id": history.id, "starting_after": history.last}
        try:
            address = self._url.replace("http", "ws", 1) + "/v1/responses"
            async with connect(address, proxy=None, open_timeout=None) as socket:  # the wait is `silence`'s to bound
                await socket.send(msgspec.json.encode(resume), text=True)
                while not history.ended:
                    data = await socket.recv(decode=False)
                    if b'"sequence_number"' not in data:
                        if b'"status":503' in data:
                            raise ConnectionError("not ready")
                        history.problems.append(f"socket: {data[:300]!r}")
                        return
                    yield data
        except InvalidStatus as refused:
            if refused.response.status_code != 503:
                history.problems.append(f"socket: refused with {refused.response.status_code}")


@dataclass(frozen=True, slots=True)
class Kill:
    """What was killed and when, and when every stream had moved again; seconds of `perf_counter`."""

    victim: Victim
    at: float
    recovered: float


@dataclass(slots=True)
class Outcome:
    """What a storm left: `told` is what clients were told of every reply that ended."""

    kills: list[Kill] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    arrivals: list[list[float]] = field(default_factory=list)  # of every reply: when each new event came
    resumes: int = 0

    def add(self, history: History, expected: str | None, tokens: int) -> None:
        """Check one reply and keep what the books are compared with."""
        self.faults += check(history, expected=expected, tokens=tokens)
        self.resumes += len(history.visits) - 1
        if (end := final(history)) is not None:
            self.told.append(end)
        times, last = [], -1
        for seen in (each for visit in history.visits for each in visit.seen):
            if seen.number > last:
                last = seen.number
                times.append(seen.at)
        self.arrivals.append(times)

    def pauses(self, victim: Victim) -> list[float]:
        """For every kill of this kind, the longest gap that each reply which ran on through it had; seconds."""
        spans = [(kill.at, kill.recovered) for kill in self.kills if kill.victim == victim]
        found = []
        for at, recovered in spans:
            for times in self.arrivals:
                if times and times[0] < at < times[-1]:
                    found.append(max(b - a for a, b in pairwise(times) if a <= recovered and b > at))
        return found


def shuffled(engines: int, servers: int, seed: int) -> list[Victim]:
    """So many kills of each kind, in a random order."""
    victims: list[Victim] = [*itertools.repeat("engine", engines), *itertools.repeat("server", servers)]
    random.Random(seed).shuffle(victims)
    return victims


async def quiet(url: str, kinds: int, tokens: int, outcome: Outcome, tag: str = "quiet") -> dict[int, str]:
    """The text of each kind of reply when nothing is killed, one after the other."""
    texts: dict[int, str] = {}
    for kind in range(kinds):
        history = await Follower(url, random.Random(kind)).follow(Plan(f"{tag}-{kind}", kind, tokens))
        outcome.add(history, None, tokens)
        told = final(history)
        texts[kind] = told.text if told else ""
    return texts


async def storm(
    phoenix: Phoenix,
    victims: Sequence[Victim],
    expected: Mapping[int, str],
    outcome: Outcome,
    *,
    seed: int,
    streams: int = 8,
    tokens: int = 200,
    leave: float = 0.2,
    on_kill: Callable[[Victim], None] = lambda _: None,
) -> None:
    """Keep `streams` replies running while the victims are killed in this order; returns when the last has ended.

    A kill comes a random moment after every stream has moved since the one before: so each has all streams in its way.
    """
    rng = random.Random(seed)
    followers = [Follower(phoenix.url, random.Random(seed + i), leave) for i in range(1, streams + 1)]
    numbers: Iterator[int] = itertools.count()
    over = asyncio.Event()

    async def read(follower: Follower) -> None:
        while not over.is_set():
            number = next(numbers)
            plan = Plan(f"storm-{seed}-{number}", number % len(expected), tokens)
            outcome.add(await follower.follow(plan), expected[plan.kind], tokens)

    async def moved(since: float) -> None:
        async with asyncio.timeout(RECOVERY_SECONDS):
            while not all(follower.moved > since for follower in followers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for follower in followers:
            group.create_task(read(follower))
        await moved(0.0)
        for victim in victims:
            await asyncio.sleep(rng.uniform(0, 0.2))
            at = perf_counter()
            await asyncio.to_thread(phoenix.kill, victim)
            await moved(perf_counter() + IN_FLIGHT)
            outcome.kills.append(Kill(victim, at, perf_counter()))
            on_kill(victim)
        over.set()
