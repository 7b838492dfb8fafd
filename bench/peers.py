"""Frontdesk against the servers that run the same model with the same kernels: one command, one report.

    bench/build_peers.sh                                   # once
    python bench/peers.py --repeat 5                       # every workload; hours on two cores
    python bench/peers.py --only raw --streams 1,8         # some of them
    python bench/peers.py --quick --model shipped          # a few minutes: does everything work?

For every case all servers are started, warmed up and kept running; then they take turns, A B C A B C, each round with
other prompts, the same for all. What is told are medians with their range, and of the ratios of neighbouring rounds, so
that a slow minute of the machine hits all alike. llama-server has two rows: as users start it, and with those of its
flags that were better when tried in this very run, on this case (or that `--flags` names). The report
goes to bench/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from time import perf_counter

from make_model import KINDS, SHAPES, write_model
from peer_report import Result, markdown, picture
from peer_servers import (
    NoPeer,
    Peer,
    Running,
    Setup,
    burning,
    ceiling,
    classic_server,
    example_server,
    frontdesk,
    llama_server,
    peers_folder,
    running,
)
from peer_workloads import BEST, CEILING, CLASSIC, EXAMPLE, SLO_ITL, SLO_TTFT, USUAL, Case, cases, quick

from frontdesk.bench.client import Target, TargetUnusable
from frontdesk.bench.drive import Drive
from frontdesk.bench.machine import machine
from frontdesk.bench.processes import read
from frontdesk.bench.prompts import Sizes
from frontdesk.bench.report import Slo, Summary, summarise
from frontdesk.bench.workloads import DEFAULTS, plan

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "bench" / "models"
SHIPPED = ROOT / "weights" / "frontdesk-small-q8_0.gguf"
# Of llama-server, tried in this order.
FLAGS = (("-kvu",), ("-sps", "0.7"), ("-b", "128"), ("-cram", "0"), ("-fa", "off"))
REPLY_SECONDS = 900.0
SETTLE_SECONDS = 2.0  # between two servers' turns


@dataclass(slots=True)
class Comparison:
    """One run of this script."""

    home: Path
    threads: int
    repeat: int
    tries: int
    flags: tuple[str, ...] | None  # None: to be tried
    leave: frozenset[str]
    folder: Path
    results: list[Result] = field(default_factory=list)

    def run(self, model: Path, case: Case) -> Result:
        """All servers on one case. A server that cannot do it is told of in the result, and left out."""
        setup = Setup(model, case.slots, case.ctx, self.threads)
        result = Result(model.stem, case, load_before=os.getloadavg()[0])
        self.results.append(result)
        with ExitStack() as stack:
            ours = self._started(stack, frontdesk(), setup)
            sizes = asyncio.run(Target(ours.url, timeout=REPLY_SECONDS).sizes())
            servers = {"Frontdesk": ours}
            for peer in self._peers(case, setup, sizes, result):
                try:
                    servers[peer.name] = self._started(stack, peer, setup)
                    asyncio.run(measure(servers[peer.name], warm(case), sizes, 0))
                except (NoPeer, TargetUnusable) as error:
                    self._give_up(result, servers, peer.name, str(error))
            asyncio.run(measure(ours, warm(case), sizes, 0))
            for number in range(self.repeat):
                self._round(case, setup, sizes, servers, result, number + 1)
        result.load_after = os.getloadavg()[0]
        return result

    def _round(
        self, case: Case, setup: Setup, sizes: Sizes, servers: dict[str, Running], result: Result, number: int
    ) -> None:
        for name, server in list(servers.items()):
            with burning(case.busy):
                try:
                    summary = asyncio.run(measure(server, case, sizes, number))
                except TargetUnusable as error:
                    self._give_up(result, servers, name, error.message)
                    continue
            result.add(name, summary)
            say(f"  {name}: " + ", ".join(f"{metric.name} {metric.read(summary):.1f}" for metric in case.metrics))
            for message in summary.messages:
                say(f"  {name}: {summary.errors} replies failed: {message}")
        if case.workload == "raw" and not case.busy and CEILING not in self.leave:
            try:
                result.add_ceiling(ceiling(self.home, setup, case.shape.prompt, case.shape.new, case.shape.streams))
            except NoPeer as error:
                result.gave_up[CEILING] = str(error)

    def _peers(self, case: Case, setup: Setup, sizes: Sizes, result: Result) -> list[Peer]:
        found = {
            USUAL: lambda: llama_server(self.home, USUAL),
            BEST: lambda: llama_server(self.home, BEST, self._best_flags(case, setup, sizes, result)),
            CLASSIC: lambda: classic_server(self.home),
            EXAMPLE: lambda: example_server(self.home),
        }
        return [make() for name, make in found.items() if name not in self.leave]

    def _best_flags(self, case: Case, setup: Setup, sizes: Sizes, result: Result) -> tuple[str, ...]:
        """Each flag is added to those kept so far, and kept if the case's first metric gets better by it."""
        if self.flags is not None:
            result.flags = f"{' '.join(self.flags) or 'none'} (given, not tried here)"
            return self.flags
        metric = case.metrics[0]
        kept, best = (), self._try_flags((), case, setup, sizes, result)
        for flag in FLAGS if best is not None else ():
            value = self._try_flags((*kept, *flag), case, setup, sizes, result)
            if value is not None and best is not None and (value > best if metric.higher else value < best):
                kept, best = (*kept, *flag), value
        if best is not None:
            result.flags = " ".join(kept) or "none: its defaults were best"
        say(f"  llama-server's best flags here: {result.flags}")
        return kept

    def _try_flags(
        self, flags: tuple[str, ...], case: Case, setup: Setup, sizes: Sizes, result: Result
    ) -> float | None:
        """The median of the case's first metric with these flags, or None if the server does not take them."""
        peer = llama_server(self.home, "llama-server", flags)
        try:
            with ExitStack() as stack:
                server = self._started(stack, peer, setup)
                asyncio.run(measure(server, warm(case), sizes, 0))
                with burning(case.busy):
                    runs = [asyncio.run(measure(server, case, sizes, seed + 1)) for seed in range(self.tries)]
                value = statistics.median(map(case.metrics[0].read, runs))
        except (NoPeer, TargetUnusable) as error:
            say(f"  llama-server {' '.join(flags)}: {error}")
            return None
        name = " ".join(flags) or "(defaults)"
        say(f"  llama-server {name}: {case.metrics[0].name} {value:.1f}")
        result.trials[name] = value
        return value

    def _started(self, stack: ExitStack, peer: Peer, setup: Setup) -> Running:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return stack.enter_context(running(peer, setup, folder))

    def _give_up(self, result: Result, servers: dict[str, Running], name: str, why: str) -> None:
        """Without Frontdesk there is nothing to compare with."""
        say(f"  {name} is left out: {why}")
        if name == "Frontdesk":
            raise SystemExit(f"Frontdesk cannot do {result.case.name}: {why}")
        servers.pop(name, None)
        result.gave_up[name] = why.splitlines()[-1][:200]


def warm(case: Case) -> Case:
    """A little of the same: what is done once at the first request is not measured."""
    shape = replace(case.shape, streams=2, requests=2, new=4, prompt=32, turns=1, think=0.0, persona=32, rate=0.0)
    return replace(case, workload="raw", shape=shape, busy=0)


async def measure(server: Running, case: Case, sizes: Sizes, seed: int) -> Summary:
    """Raises `TargetUnusable`."""
    await asyncio.sleep(SETTLE_SECONDS * bool(seed))
    target = Target(server.url, timeout=REPLY_SECONDS)
    drive = Drive(target, plan(case.workload, replace(case.shape, seed=seed), sizes))
    before = read([server.pid])
    await drive.run()
    slo = Slo(SLO_TTFT, SLO_ITL)
    used = read([server.pid]).since(before)
    return summarise(drive.replies, drive.background, drive.windows, slo=slo, cpu=used)


def model_file(name: str, case: Case) -> Path:
    """`shipped`, a GGUF, or SHAPE-TYPE, which is written to bench/models/ first where it is not there: for quoted
    answers with weights that copy, else with random ones."""
    if name == "shipped":
        return SHIPPED
    if name.endswith(".gguf"):
        return Path(name).resolve()
    shape, _, kind = name.rpartition("-")
    if shape not in SHAPES or kind not in KINDS:
        known = ", ".join(f"{s}-{t}" for s in SHAPES for t in KINDS)
        raise SystemExit(f"--model {name!r}: should be `shipped`, a .gguf file or one of {known}")
    copies = case.workload == "quoted"
    path = MODELS / f"{name}{'-copies' * copies}.gguf"
    if not path.exists():
        say(f"writing {path}")
        MODELS.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        write_model(part, SHAPES[shape], kind, copies=copies)
        part.rename(path)
    return path


def versions(home: Path) -> dict[str, str]:
    """What was compared, as exactly as it can be told."""
    lock = (ROOT / "requirements" / "llama.txt").read_text().split()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "Frontdesk": (commit.stdout.strip() or "?") + (" with changes" if dirty else ""),
        "llama.cpp": f"the source inside {lock[lock.index('requirements/lock.sh') + 1]} "
        f"({next(word for word in lock if word.startswith('--hash'))[7:30]}…), for Frontdesk and all peers",
        "built in": home.name,
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare Frontdesk with the servers of the same kernels.")
    parser.add_argument("--model", default="qwen2.5-0.5b-q4_0", help="shipped, FILE.gguf or SHAPE-TYPE; commas between")
    parser.add_argument("--only", default="", help="workloads: raw mixed held widget long burst busy quoted")
    parser.add_argument("--without", default="", help=f"servers to leave out, commas between: {EXAMPLE} …")
    parser.add_argument("--streams", default="1,2,3,4,5,6,7,8,10,12,14,16", help="numbers of streams of raw")
    usual = f"{DEFAULTS['widget'].think:g}"
    parser.add_argument("--think", default=usual, help="seconds that the widget's visitors think, commas between")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of each case")
    parser.add_argument("--tries", type=int, default=3, help="rounds of each of llama-server's flags")
    parser.add_argument("--flags", help="llama-server's best, where they are known, as --flags='-kvu': none are tried")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="compute threads of each; 0: as each chooses"
    )
    parser.add_argument("--cores", help="pin servers and client to these, as 0,1; unset: all that this process may use")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: to see that everything works")
    parser.add_argument("--out", type=Path, help="report; unset: bench/results/DATE-peers.md, with --quick nowhere")
    return parser.parse_args()


def chosen(wanted: argparse.Namespace) -> list[Case]:
    streams = tuple(int(n) for n in wanted.streams.split(","))
    think = tuple(float(seconds) for seconds in wanted.think.split(","))
    names = set(filter(None, wanted.only.split(",")))
    found = [case for case in cases(streams, think) if not names or case.kind in names]
    if not found:
        raise SystemExit(f"--only {wanted.only!r} names no workload")
    return [quick(case) for case in found] if wanted.quick else found


def main() -> None:
    wanted = options()
    home = peers_folder()
    if home is None:
        raise SystemExit("nothing to compare with: run bench/build_peers.sh first")
    if wanted.cores:
        os.sched_setaffinity(0, {int(core) for core in wanted.cores.split(",")})
    began, before = perf_counter(), machine()
    planned = [(model_file(name, case), case) for name in wanted.model.split(",") for case in chosen(wanted)]
    with tempfile.TemporaryDirectory(prefix="frontdesk-peers-") as folder:
        leave = frozenset(filter(None, wanted.without.split(",")))
        rounds, tries = (1, 1) if wanted.quick else (wanted.repeat, wanted.tries)
        flags = None if wanted.flags is None else tuple(wanted.flags.split())
        run = Comparison(home, wanted.threads, rounds, tries, flags, leave, Path(folder))
        try:
            for number, (model, case) in enumerate(planned):
                minutes = (perf_counter() - began) / 60
                say(f"[{number + 1}/{len(planned)}] {model.stem}: {case.name}, {minutes:.0f} min so far")
                run.run(model, case)
        except KeyboardInterrupt:
            say("stopped: the report holds what was measured")
    results = [result for result in run.results if "Frontdesk" in result.runs]
    if not results:
        raise SystemExit("nothing was measured")
    command = "python bench/peers.py " + shlex.join(sys.argv[1:])
    facts = versions(home) | {
        "machine": before,
        "load average": f"{statistics.median(r.load_before for r in results):.1f} median before the cases; "
        f"now {os.getloadavg()[0]:.1f}",
        "threads": str(wanted.threads or "as each chooses"),
        "took": f"{(perf_counter() - began) / 60:.0f} minutes",
    }
    text = markdown(command, facts, results, quick=wanted.quick)
    print(text)
    out = wanted.out or (None if wanted.quick else ROOT / f"bench/results/{date.today()}-peers.md")
    if out:
        out.write_text(text)
        out.with_suffix(".json").write_text(json.dumps([result.to_json() for result in results], indent=1) + "\n")
        out.with_suffix(".svg").write_text(picture(results))


if __name__ == "__main__":
    main()
