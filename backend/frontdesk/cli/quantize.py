"""`frontdesk quantize`: writes a model in smaller number formats, and says which of them is fastest on this machine."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from frontdesk.cli import options
from frontdesk.errors import ConfigError, FrontdeskError

if TYPE_CHECKING:
    from frontdesk.fleet.quantizing import Speed

Source = Annotated[Path, typer.Argument(metavar="FILE", help="A .gguf file, best in f16, bf16 or f32.")]
To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FORMAT,FORMAT",
        help="q8_0 loses next to nothing, q4_k_m is the usual small one, q4_0 the quickest on many processors.",
    ),
]
Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Where the files go. Unset: beside the source.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Requantize = Annotated[bool, typer.Option("--requantize", help="Take a source that is quantized already.")]
Measure = Annotated[bool, typer.Option("--measure/--no-measure", help="Time the files afterwards.")]


def quantize(
    source: Source,
    to: To = "q8_0,q4_k_m,q4_0",
    folder: Folder = None,
    overwrite: Overwrite = False,
    requantize: Requantize = False,
    measure: Measure = True,
    as_json: options.AsJson = False,
) -> None:
    """Write a model in smaller number formats, and say which is fastest on this machine.

    How good the answers still are is not measured: fewer bits are worse, and the smaller the model, the more so.
    """
    # Imported late: `--help` and a wrong flag are answered in a fraction of the time.
    from frontdesk.config import engine_environment
    from frontdesk.fleet import quantizing
    from frontdesk.worker.machine import usable_cores

    formats = list(dict.fromkeys(name.strip().lower() for name in to.split(",") if name.strip()))
    unknown = [name for name in formats if name not in quantizing.FORMATS]
    if unknown or not formats:
        known = ", ".join(quantizing.FORMATS)
        options.fail(f"--to: {', '.join(unknown) or 'nothing'} is no format; known: {known}")
    targets = {name: quantizing.target(source, name, folder) for name in formats}
    try:
        quantizing.check(source, requantize=requantize)
        _check_targets(source, list(targets.values()), overwrite)
    except FrontdeskError as error:
        options.fail(error.message)

    cores = usable_cores()

    async def work(bar: Progress) -> dict[str, Speed]:
        for name, target in targets.items():
            task = bar.add_task(name, total=1.0)
            await quantizing.quantize(
                source, target, name, cores, requantize=requantize,
                tell=lambda done, task=task: bar.update(task, completed=done),
            )  # fmt: skip
        if not measure:
            return {}
        task = bar.add_task("timing", total=1.0)
        environment = engine_environment()
        return await quantizing.compare(targets, cores, environment, lambda done: bar.update(task, completed=done))

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no half file stays behind
    try:
        with options.bar() as bar:
            speeds = asyncio.run(work(bar))
    except FrontdeskError as error:
        options.fail(error.message, code=1)
    except OSError as error:
        options.fail(f"{error.filename or source}: {error.strerror}", code=1)
    if as_json:
        told: dict[str, dict[str, object]] = {}
        for name, target in targets.items():
            told[name] = {"file": str(target), "bytes": target.stat().st_size}
            if name in speeds:
                told[name]["tokens_per_second"] = asdict(speeds[name])
        typer.echo(json.dumps(told))
    else:
        _print(targets, speeds)


def _check_targets(source: Path, targets: list[Path], overwrite: bool) -> None:
    for target in targets:
        if target.exists() and (not overwrite or target.samefile(source)):
            raise ConfigError(f"{target} is there already; --overwrite replaces it, unless it is the source itself")
        if not target.parent.is_dir():
            raise ConfigError(f"--folder: {target.parent} is no folder")


def _print(targets: dict[str, Path], speeds: dict[str, Speed]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table("format", "MB", *(("1 stream", "8 streams", "prompt") if speeds else ()), "file")
    for name, target in targets.items():
        speed = speeds.get(name)
        rates = (f"{speed.one:,.0f}", f"{speed.eight:,.0f}", f"{speed.prompt:,.0f}") if speed else ()
        table.add_row(name, f"{target.stat().st_size / 1e6:,.1f}", *rates, target.name)
    console.print(table)
    if speeds:
        fastest = {
            what: max(speeds, key=lambda name: getattr(speeds[name], what)) for what in ("one", "eight", "prompt")
        }
        console.print(
            f"tokens a second on this machine; fastest: {fastest['one']} for one stream, {fastest['eight']} for eight, "
            f"{fastest['prompt']} for prompts"
        )
