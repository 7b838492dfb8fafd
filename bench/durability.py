"""Random kills of engines and of whole servers under streaming clients, and what the history checker says of it.

    python bench/durability.py --engine-kills 300 --server-kills 100 --streams 8 --seed 1

It starts a server of its own (SQLite, the shipped model), keeps `--streams` replies running, half of them greedy and
half sampled, and kills the engine or the server with SIGKILL a random moment after every stream has moved. Readers
leave on their own too, and come back by all four ways: retrieve, events, socket, retried POST. Every reply is compared
event by event over all visits, with the text that it had when nothing was killed, and at the end with journal and
ledger. The checker and the clients are the tests': tests/acceptance/history.py and crashes.py.

The report goes to bench/results/; the exit code is 1 when anything was lost, repeated, changed or charged twice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path
from time import perf_counter

from report import table, upper_bound
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from frontdesk.bench.figures import percentile
from frontdesk.bench.machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.acceptance import books  # noqa: E402
from tests.acceptance.crashes import Outcome, Phoenix, Victim, quiet, shuffled, storm  # noqa: E402
from tests.acceptance.history import check_books  # noqa: E402

VICTIMS: tuple[Victim, ...] = ("engine", "server")
KINDS = 16  # different replies, half greedy, half sampled


async def run(options: argparse.Namespace, folder: Path) -> Outcome:
    """The whole storm, books compared."""
    outcome = Outcome()
    victims = shuffled(options.engine_kills, options.server_kills, options.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Phoenix(folder, drain_seconds="120", log_level="error") as phoenix,
        Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar,
    ):
        expected = await quiet(phoenix.url, KINDS, options.tokens, outcome)
        task = bar.add_task("kills", total=len(victims))

        def killed(victim: Victim) -> None:
            bar.update(task, advance=1, description=f"{len(outcome.told)} replies, {len(outcome.faults)} faults")

        await storm(
            phoenix,
            victims,
            expected,
            outcome,
            seed=options.seed,
            streams=options.streams,
            tokens=options.tokens,
            on_kill=killed,
        )
        await asyncio.to_thread(phoenix.stop)
        outcome.faults += check_books(outcome.told, books.kept(phoenix.database))
        if (state := books.integrity(phoenix.database)) != "ok":
            raise SystemExit(f"the database is damaged: {state}")
    return outcome


def report(options: argparse.Namespace, outcome: Outcome, seconds: float) -> str:
    """Markdown: the command, the table, and every fault."""
    command = (
        f"python bench/durability.py --engine-kills {options.engine_kills} --server-kills {options.server_kills} "
        f"--streams {options.streams} --tokens {options.tokens} --seed {options.seed}"
    )
    faulty = len({fault.reply for fault in outcome.faults})
    rows = [_row(victim, outcome, options.streams) for victim in VICTIMS]
    kinds = Counter(fault.kind for fault in outcome.faults)
    tokens = sum(told.completion for told in outcome.told)
    bound = upper_bound(min(faulty, len(outcome.told)), len(outcome.told))
    lines = [
        "# Kills under streams: what readers saw",
        f"`{command}`, {seconds / 60:.1f} minutes.\nMachine: {machine()}.",
        f"{len(outcome.told)} replies of {options.tokens} tokens ({tokens:,} tokens), {outcome.resumes} returns of "
        f"readers. **{kinds['lost']} tokens or events lost, {kinds['repeated']} repeated, {kinds['changed']} changed, "
        f"{kinds['no end'] + kinds['failed']} replies without their end, {kinds['journal']} disagreements with the "
        f"journal, {kinds['ledger']} wrong charges.** Replies with any fault: {faulty} of {len(outcome.told)}, so at "
        f"most {100 * bound:.2f} % with 95 % confidence.",
        table(rows),
        "A *pause* is the longest gap between two events that a reply had which ran on through the kill; it holds the "
        "restart, the model's load, the prefill of prompt and kept tokens, and the way back of the reader. *At most* "
        "is the one-sided 95 % bound (Clopper and Pearson) on the share of kills that do harm, were every fault of the "
        "run the work of this kind of kill.",
        *(f"- {fault.kind}: {fault.reply}: {fault.what}" for fault in outcome.faults[:50]),
    ]
    return "\n\n".join(lines) + "\n"


def _row(victim: Victim, outcome: Outcome, streams: int) -> dict[str, object]:
    kills = sum(kill.victim == victim for kill in outcome.kills)
    pauses = [1000 * pause for pause in outcome.pauses(victim)]
    faulty = min(kills, len({fault.reply for fault in outcome.faults}))
    return {
        "killed": victim,
        "kills (N)": kills,
        "streams each": streams,
        "kills with a fault": faulty,
        "at most, 95 %": f"{100 * upper_bound(faulty, kills):.2f} %",
        "pauses seen": len(pauses),
        "pause P50 ms": f"{percentile(pauses, 50):.0f}",
        "pause P99 ms": f"{percentile(pauses, 99):.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill engines and servers under streams and check what readers saw.")
    parser.add_argument("--engine-kills", type=int, default=300)
    parser.add_argument("--server-kills", type=int, default=100)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=300, help="length of each reply")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / f"bench/results/{date.today()}-durability.md")
    options = parser.parse_args()
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="frontdesk-durability-") as folder:
        outcome = asyncio.run(run(options, Path(folder)))
    text = report(options, outcome, perf_counter() - began)
    print(text)
    options.out.write_text(text)
    raise SystemExit(bool(outcome.faults))


if __name__ == "__main__":
    main()
