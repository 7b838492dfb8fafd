"""One run of `frontdesk bench`: puts the load on, shows how far it is, and prints what came of it.

Figures go to stdout, everything else to stderr. Knows the terminal; load and arithmetic are the package `bench`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from frontdesk import __version__
from frontdesk.bench.chart import run_chart
from frontdesk.bench.client import Target, TargetUnusable
from frontdesk.bench.drive import Drive
from frontdesk.bench.figures import Quantiles
from frontdesk.bench.machine import machine
from frontdesk.bench.processes import Cpu, read
from frontdesk.bench.report import Slo, Summary, summarise, to_json
from frontdesk.bench.workloads import Shape, plan
from frontdesk.cli import options

LOOK = 0.2  # seconds between two looks at a running load


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the flags ask for."""

    target: Target
    workload: str
    shape: Shape
    slo: Slo | None
    pids: list[int]
    chart: Path | None
    as_json: bool


def run(wanted: Wanted) -> bool:
    """Whether any reply failed. Raises `TargetUnusable`, KeyboardInterrupt."""
    try:
        drive, summary, about = asyncio.run(_measure(wanted))
    except TargetUnusable as error:
        hint = "; --url names the server, `frontdesk serve` starts one" * (error.code == "unreachable")
        raise TargetUnusable(error.message + hint) from None
    if wanted.as_json:
        typer.echo(json.dumps(to_json(summary, about, wanted.slo)))
    else:
        _print(summary, about, wanted)
    if wanted.chart:
        title = f"{wanted.workload}: {_sentence(wanted)}"
        wanted.chart.write_text(run_chart(title, summary, drive.replies, drive.background), "utf-8")
        options.notes.print(f"chart: {wanted.chart}", style="dim", markup=False)
    for message in summary.messages:
        options.notes.print(f"frontdesk: a reply failed: {message}", style="red", markup=False)
    return bool(summary.errors)


async def _measure(wanted: Wanted) -> tuple[Drive, Summary, dict[str, Any]]:
    """Raises `TargetUnusable`."""
    sizes = await wanted.target.sizes()
    drive = Drive(wanted.target, plan(wanted.workload, wanted.shape, sizes))
    about = _about(wanted)
    before = read(wanted.pids)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"),
        TimeElapsedColumn(), console=options.notes, transient=True, disable=not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        task = bar.add_task(wanted.workload, total=drive.plan.replies, now="")

        async def show() -> None:
            seen = 0
            while True:
                await asyncio.sleep(LOOK)
                frames = drive.frames
                bar.update(task, completed=drive.done, now=f"{(frames - seen) / LOOK:.0f} events/s")
                seen = frames

        showing = asyncio.create_task(show())
        try:
            await drive.run()
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing
    used = read(wanted.pids).since(before) if wanted.pids else None
    summary = summarise(drive.replies, drive.background, drive.windows, slo=wanted.slo, cpu=used)
    return drive, summary, about


def _about(wanted: Wanted) -> dict[str, Any]:
    target = wanted.target
    return {
        "version": __version__,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "url": target.url,
        "model": target.model,
        "transport": target.transport,
        "workload": wanted.workload,
        "shape": asdict(wanted.shape),
    }


def _sentence(wanted: Wanted) -> str:
    shape, workload = wanted.shape, wanted.workload
    loop = f"{shape.rate:g} arrivals a second" if shape.rate else f"{shape.streams} streams"
    visitors = f", {shape.turns} turns, persona of {shape.persona} tokens" if workload == "widget" else ""
    held = f", in conversations of {shape.context} tokens" if shape.context else ""
    return f"{loop}, {shape.requests} requests, {shape.prompt} tokens in and {shape.new} out{visitors}{held}"


def _print(summary: Summary, about: dict[str, Any], wanted: Wanted) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{wanted.workload} over {wanted.target.transport}: {_sentence(wanted)}", style="bold")
    console.print(about["machine"], style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "N", "P50", "P95", "P99", "MAX"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for group in summary.groups:
        name = group.kind or "all"
        table.add_row(f"{name}: first token, ms", *_row(group.ttft, 0))
        table.add_row(f"{name}: between tokens, ms", *_row(group.itl, 1))
    console.print(table)
    whole = summary.whole
    console.print(
        f"{whole.replies} replies, {summary.errors} errors; tokens: {whole.prompt_tokens:,} of prompts, "
        f"{whole.cached_tokens:,} of them cached, and {whole.tokens:,} of replies"
    )
    console.print(
        f"{summary.rate:.1f} tokens/s over {summary.seconds:.1f} s; {summary.steady:.1f} tokens/s while "
        f"{summary.peak} wrote at once ({summary.steady_seconds:.1f} s)"
    )
    if summary.good is not None:
        share = summary.good / max(1, summary.replies)
        console.print(f"goodput {summary.good / max(summary.seconds, 1e-9):.2f} replies/s, {share:.0%} kept the SLO")
    if summary.cpu:
        console.print(_cpu(summary.cpu, summary.tokens))


def _row(found: Quantiles, digits: int) -> list[str]:
    if not found.count:
        return ["0", *["-"] * 4]
    values = (found.p50, found.p95, found.p99, found.max)
    return [f"{found.count:,}", *(f"{1000 * value:,.{digits}f}" for value in values)]


def _cpu(cpu: Cpu, tokens: int) -> str:
    each = 1e6 / max(1, tokens)
    return (
        f"CPU: server {cpu.own:.2f} s ({cpu.own * each:,.0f} us/token), its children {cpu.children:.2f} s "
        f"({cpu.children * each:,.0f} us/token), this client {cpu.client:.2f} s"
    )
