"""What each of the engine's own means is worth: Frontdesk with it and without it, taking turns on the same prompts.

    python bench/levers.py                              # all, about half an hour on two cores
    python bench/levers.py --only parked,chunks --repeat 5

Nothing that was measured on this machine before is used (`tune` is off), so that a lever is the only difference. The
ratios are of neighbouring rounds. What cannot be switched off is not here: the exact choice of the largest logits,
dense sequence ids, the order in which requests are computed, generated ids that are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from peer_servers import Peer, Setup, frontdesk, running
from peer_workloads import Case, cases
from peers import REPLY_SECONDS, measure, model_file, say, warm
from report import table

from frontdesk.bench.client import Target
from frontdesk.bench.figures import paired_ratios, spread
from frontdesk.bench.machine import machine
from frontdesk.bench.report import Summary

ROOT = Path(__file__).resolve().parents[1]
Variables = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lever:
    """`case` is the beginning of a workload's name, or a number of raw streams; `metric` one of its figures."""

    name: str
    what: str
    case: str | int
    with_it: Variables
    without: Variables
    metric: int = 0


LEVERS = (
    Lever("spin", "threads that wait at barriers do not sleep", 8, {"SPIN": "10000"}, {"SPIN": "0"}),
    Lever("pad", "steps filled up to a multiple of 4 rows", 7, {"PAD_ROWS": "true"}, {"PAD_ROWS": "false"}),
    Lever("layout", "one KV cache for all instead of one each", 8, {"KV_LAYOUT": "unified"}, {"KV_LAYOUT": "streams"}),
    Lever("flash", "flash attention", 8, {"FLASH": "on"}, {"FLASH": "off"}),
    Lever("chunks", "short chunks beside streams", "4 a long", {"CHUNK_BUSY": "128"}, {"CHUNK_BUSY": "2048"}),
    Lever("parked", "conversations parked in memory", "3 widget", {}, {"PARKED_MIB": "0"}, 1),
    Lever(
        "no-flash", "no flash attention where guesses are checked", "6 quoted answers, 1",
        {"FLASH": "off", "SPECULATE": "true", "PAD_ROWS": "true"},
        {"FLASH": "on", "SPECULATE": "true", "PAD_ROWS": "true"},
    ),
    Lever("guesses", "guessed tokens", "6 quoted answers, 1", {"SPECULATE": "true"}, {"SPECULATE": "false"}),
)  # fmt: skip


def case_of(lever: Lever) -> Case:
    if isinstance(lever.case, int):
        return cases((lever.case,))[0]
    return next(case for case in cases((1,)) if case.name.startswith(lever.case))


def server(name: str, variables: Variables) -> Peer:
    peer = frontdesk()
    settings = {f"FRONTDESK_{key}": value for key, value in {"TUNE": "off", **variables}.items()}
    return replace(peer, name=f"{peer.name} {name} it", environment={**peer.environment, **settings})


def compare(lever: Lever, model: Path, case: Case, threads: int, repeat: int) -> dict[str, object]:
    metric, setup = case.metrics[lever.metric], Setup(model, case.slots, case.ctx, threads)
    found: dict[str, list[Summary]] = {"with": [], "without": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="frontdesk-levers-")))
        servers = {}
        for name, variables in (("with", lever.with_it), ("without", lever.without)):
            (folder / name).mkdir()
            servers[name] = stack.enter_context(running(server(name, variables), setup, folder / name))
        sizes = asyncio.run(Target(servers["with"].url, timeout=REPLY_SECONDS).sizes())
        for at in servers.values():
            asyncio.run(measure(at, warm(case), sizes, 0))
        for number in range(repeat):
            for name, at in servers.items():
                found[name].append(asyncio.run(measure(at, case, sizes, number + 1)))
                say(f"  {name}: {metric.name} {metric.read(found[name][-1]):.1f}")
    values = {name: [metric.read(run) for run in runs] for name, runs in found.items()}
    return {
        "lever": lever.what,
        "workload": case.name,
        "figure": metric.name,
        "with": spread(values["with"]),
        "without": spread(values["without"]),
        "with : without": spread(paired_ratios(values["with"], values["without"]), 2),
        "errors": sum(run.errors for runs in found.values() for run in runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Frontdesk with and without each of its means.")
    parser.add_argument("--model", default="qwen2.5-0.5b-q4_0", help="as in peers.py")
    parser.add_argument("--only", default="", help=f"of {', '.join(lever.name for lever in LEVERS)}; commas between")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="report; unset: bench/results/DATE-levers.md")
    options = parser.parse_args()
    wanted = set(filter(None, options.only.split(",")))
    chosen = [lever for lever in LEVERS if not wanted or lever.name in wanted]
    if not chosen:
        raise SystemExit(f"--only {options.only!r} names no lever")
    before, rows = machine(), []
    for lever in chosen:
        case = case_of(lever)
        say(f"{lever.what}: {case.name}")
        rows.append(compare(lever, model_file(options.model, case), case, options.threads, options.repeat))
    command = f"python bench/levers.py {shlex.join(sys.argv[1:])}".strip()
    text = f"# Each lever, with and without\n\n`{command}`\n\n{before}\n\n{table(rows)}\n"
    (options.out or ROOT / f"bench/results/{date.today()}-levers.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
