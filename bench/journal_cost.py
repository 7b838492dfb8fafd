"""What the journal adds to a token's way from the engine to the socket.

    python bench/journal_cost.py --streams 16 --new-tokens 256 --repeat 5

It starts a server of its own (SQLite on disk, the shipped model) and lets so many clients stream at once, stored in one
round and not stored in the next. Inside the server the time is taken from the engine's message to the moment in which a
token is in its reply's log, where readers take it: for a stored reply the commit lies between. What comes after is the
same for both. Gaps, speed and CPU are as the clients and the kernel see them. `store_journal.py` measures the store
alone. A commit changes threads twice, so on a machine that does other things it mostly waits for a core: `--ahead` lets
the service have one first.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

from report import table

from frontdesk.bench.client import Target
from frontdesk.bench.figures import percentile, spread
from frontdesk.bench.machine import machine
from frontdesk.bench.processes import seconds
from frontdesk.bench.prompts import words
from frontdesk.bench.reply import Reply, read_responses

ROOT = Path(__file__).resolve().parents[1]
Sample = tuple[float, float]  # when a token reached its log, in seconds of the machine's clock; how long it took


@dataclass(frozen=True, slots=True)
class Round:
    """One round. Gaps are milliseconds of all frames while every stream wrote, between `first` and `last`; CPU is
    microseconds a token."""

    stored: bool
    first: float
    last: float
    gaps: list[float]
    speed: float  # tokens/s of all streams
    cpu: float

    def delays(self, samples: Sequence[Sample]) -> list[float]:
        """Milliseconds from the engine's message to the log."""
        return [1000 * took for at, took in samples if self.first < at <= self.last]


async def measure(client: Target, pid: int, streams: int, new: int, stored: bool, rng: random.Random) -> Round:
    """All at once, greedy and of the same length."""
    before = seconds(pid)
    answers = await asyncio.gather(*(_ask(client, rng, new, stored) for _ in range(streams)))
    used = seconds(pid) - before
    arrivals = [answer.arrivals for answer in answers]
    first, last = max(each[0] for each in arrivals), min(each[-1] for each in arrivals)
    inside = [[t for t in each if first < t <= last] for each in arrivals]
    gaps = [1000 * (b - a) for each in inside for a, b in pairwise(each)]
    speed = sum(map(len, inside)) / (last - first)
    return Round(stored, first, last, gaps, speed, 1e6 * used / sum(map(len, arrivals)))


async def _ask(client: Target, rng: random.Random, new: int, store: bool) -> Reply:
    body: dict[str, object] = {
        "input": words(rng, 20),
        "instructions": "Talk.",
        "store": store,
        "stream": True,
        "max_output_tokens": new,
        **client.more,
    }
    reply = await client.stream("/responses", body, read_responses, Reply(asked=new))
    if reply.error or reply.tokens != new:
        raise SystemExit(f"a reply failed: {reply.error or f'{reply.tokens} of {new} tokens came'}")
    return reply


def serve(out: Path, *, ahead: bool) -> None:
    """`frontdesk serve`, which notes when each token came and was logged, and writes the samples when it ends."""
    if ahead:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    from frontdesk.chat.reply import Reply as Served
    from frontdesk.cli.main import main as frontdesk

    arrived: dict[tuple[str, int], float] = {}
    samples: list[Sample] = []
    on_output, apply = Served._on_output, Served._apply

    def timed_output(self: Served, output) -> None:
        arrived[self.id, self._position] = perf_counter()
        on_output(self, output)

    def timed_apply(self: Served, entry, logprobs) -> None:
        apply(self, entry, logprobs)
        if (began := arrived.pop((self.id, entry.position), None)) is not None:
            now = perf_counter()
            samples.append((now, now - began))

    Served._on_output, Served._apply = timed_output, timed_apply
    atexit.register(lambda: out.write_text(json.dumps(samples)))
    frontdesk()


def step_back(pid: int) -> None:
    """Give a process that was started ahead of the others its usual place again, thread by thread."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


async def run(options: argparse.Namespace, folder: Path) -> tuple[list[Round], list[Sample]]:
    from tests.conftest import running_server

    rounds: list[Round] = []
    rng = random.Random(1)
    out = folder / "samples.json"
    program = (__file__, "--serve-ahead" if options.ahead else "--serve", str(out))
    with running_server(folder / "log.txt", program=program, log_level="error") as server:
        client, pid = Target(server.url), server.process.pid
        if options.ahead:
            step_back(server.engine_pid)
        await measure(client, pid, options.streams, 64, True, rng)  # warm up
        for number in range(2 * options.repeat):
            rounds.append(await measure(client, pid, options.streams, options.new_tokens, number % 2 == 0, rng))
            print(f"  stored {rounds[-1].stored}: {rounds[-1].speed:.0f} tokens/s", flush=True)
        await asyncio.to_thread(server.stop)
    return rounds, [(at, took) for at, took in json.loads(out.read_text())]


def rows(rounds: Sequence[Round], samples: Sequence[Sample]) -> list[dict[str, object]]:
    found = []
    for stored in (True, False):
        own = [done for done in rounds if done.stored is stored]
        delays = [done.delays(samples) for done in own]
        found.append(
            {
                "streams": "stored" if stored else "not stored",
                "engine to log P50 ms": spread([median(each) for each in delays], 2),
                "P95 ms": spread([percentile(each, 95) for each in delays], 2),
                "P99 ms": spread([percentile(each, 99) for each in delays], 2),
                "gap P50 ms": spread([percentile(done.gaps, 50) for done in own], 2),
                "gap P99 ms": spread([percentile(done.gaps, 99) for done in own], 1),
                "tokens/s": spread([done.speed for done in own], 0),
                "service CPU us/token": spread([done.cpu for done in own], 0),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the journal adds to a token's way to the socket.")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--ahead",
        action="store_true",
        help="schedule the service, not the engine, ahead of other work on the machine; needs the right to do so",
    )
    parser.add_argument("--out", type=Path, default=ROOT / f"bench/results/{date.today()}-journal-cost.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="frontdesk-journal-") as folder:
        rounds, samples = asyncio.run(run(options, Path(folder)))
    added = [median(a.delays(samples)) - median(b.delays(samples)) for a, b in pairwise(rounds) if a.stored]
    command = f"--streams {options.streams} --new-tokens {options.new_tokens} --repeat {options.repeat}"
    command += " --ahead" if options.ahead else ""
    text = "\n\n".join(
        [
            f"# The journal on a token's way, {options.streams} streams, SQLite",
            f"`python bench/journal_cost.py {command}`\nMachine: {machine()}.",
            f"**Added by the journal to the median token: {spread(added, 2)} ms** (neighbouring rounds compared).",
            table(rows(rounds, samples)),
        ]
    )
    print(text)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] in (["--serve"], ["--serve-ahead"]):
        mode, file = sys.argv[1:3]
        del sys.argv[1:3]
        serve(Path(file), ahead=mode == "--serve-ahead")
    else:
        sys.path.insert(0, str(ROOT))
        main()
