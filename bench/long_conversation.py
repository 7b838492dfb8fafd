"""A long conversation in a small window: what is reused of every prompt, against a client that drops one turn a time.

    python bench/long_conversation.py --turns 200 --ctx 4096

It starts servers of its own with the shipped model. Three customers say the same: two in stored conversations
with their first lines pinned, one of which drops old turns in coarse steps and one of which sums them up, and one whose
client keeps the conversation itself, sends all of it with `store` false and takes away the oldest turn when it does not
fit. Prompts are counted again with
llama.cpp. The report goes to bench/results/; the driver is the tests': tests/acceptance/long_talk.py.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path

from report import table
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frontdesk.bench.figures import percentile
from frontdesk.bench.machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.acceptance.asking import loose_client  # noqa: E402
from tests.acceptance.long_talk import NAME, OPENING, Spoken, naive, recounted, share_cached, talk  # noqa: E402
from tests.conftest import running_server  # noqa: E402

WAYS = ("coarse steps", "summed up", "one turn at a time")
NEAR = 2400  # tokens: shortly after a drop


async def run(turns: int, window: int, folder: Path) -> list[dict[str, object]]:
    """One row for each way of talking, each on a fresh server: none finds another's KV."""
    rows: list[dict[str, object]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        for way in WAYS:
            task = bar.add_task(way, total=turns)

            def advance(task=task) -> None:
                bar.advance(task)

            with running_server(folder / f"{way}.txt", "--ctx", str(window), database="memory") as server:
                async with loose_client(server) as client:
                    if way == "one turn at a time":
                        rows.append(_row(way, await naive(client, turns, window, advance)))
                        continue
                    options = {"policy": "summarise"} if way == "summed up" else {}
                    long = await talk(client, turns, advance, ask_every=10, **options)
                    counts = None if options else await recounted(client, long)
                    rows.append(_row(way, long.turns, counts, long.recalled))
    return rows


def _row(
    way: str, turns: Sequence[Spoken], counts: list[int] | None = None, recalled: Sequence[Spoken] = ()
) -> dict[str, object]:
    wrong = "-" if counts is None else sum(a != turn.prompt for a, turn in zip(counts, turns, strict=True))
    right = [NAME in turn.text for turn in recalled]
    near = [NAME in turn.text for turn in recalled if turn.prompt < NEAR]
    full = [turn for turn in turns if turn.prompt > turn.window / 2]
    seconds = [1000 * turn.seconds for turn in full]
    return {
        "what leaves": way,
        "turns": len(turns),
        "over the limit": sum(turn.prompt > turn.limit for turn in turns),
        "counts unlike llama.cpp's": wrong,
        "turns when some left": sum(b.left > a.left for a, b in pairwise(turns)) if recalled else "-",
        "prompt P50": f"{percentile([turn.prompt for turn in turns], 50):.0f}",
        "prompt max": max(turn.prompt for turn in turns),
        "cached, mean of turns": f"{100 * share_cached(turns):.1f} %",
        "computed a turn": f"{statistics.mean(turn.prompt - turn.cached for turn in turns):.0f}",
        "turn P50 ms": f"{percentile(seconds, 50):.0f}",
        "P95": f"{percentile(seconds, 95):.0f}",
        "name right": f"{sum(right)} of {len(right)}" if right else "-",
        "name at the end": ("right" if right[-1] else "wrong") if right else "-",
        f"prompts under {NEAR:,}": f"{sum(near)} of {len(near)}" if right else "-",
        "hours at the end": "right" if OPENING in turns[-1].text else "wrong",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Talk for long in a small window, in three ways.")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--ctx", type=int, default=4096, help="the window, in tokens")
    parser.add_argument("--out", type=Path, default=ROOT / f"bench/results/{date.today()}-long-conversation.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="frontdesk-long-") as folder:
        rows = asyncio.run(run(options.turns, options.ctx, Path(folder)))
    text = "\n\n".join(
        [
            f"# {options.turns} turns in a window of {options.ctx:,} tokens",
            f"`python bench/long_conversation.py --turns {options.turns} --ctx {options.ctx}`\nMachine: {machine()}.",
            table(rows),
            "*Cached* is the share of the prompt's tokens whose KV was still there. *Turn* is a whole turn (prompt, a "
            "short answer, and what the client itself does), of the turns with more than half a window of prompt. The "
            "*name* was said in the first line, which is pinned, and is asked for every ten turns; whether the model "
            "reads a line thousands of tokens back is its own affair, that the line is in the prompt is the server's.",
        ]
    )
    print(text)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
