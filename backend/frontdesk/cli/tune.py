"""`frontdesk tune`: measures the best settings for a model on this machine, shows and remembers them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from frontdesk.cli import options
from frontdesk.cli.serve import load_settings
from frontdesk.errors import FrontdeskError

CHOSEN = ("threads", "spin", "chunk", "chunk_busy", "kv_layout", "kv_type", "flash", "pad_rows", "speculate")

Seconds = Annotated[
    float, typer.Option("--seconds", metavar="N", min=1, max=3600, help="How long to measure. Large models need more.")
]
Show = Annotated[bool, typer.Option("--show", help="Show what is remembered; measure nothing.")]
Forget = Annotated[bool, typer.Option("--forget", help="Forget what is remembered; measure nothing.")]


def tune(
    model: options.Model = None,
    seconds: Seconds = 20.0,
    show: Show = False,
    forget: Forget = False,
    as_json: options.AsJson = False,
    config: options.ConfigFile = None,
) -> None:
    """Measure which settings are best for a model on this machine, and remember them for `serve`.

    Threads, the form of the KV cache, the chunks of a prompt and more. A setting that is given to `serve` wins over
    what was measured. Let the machine be as busy as it will be when it serves.
    """
    settings = load_settings(config, {"model": model})
    # Imported late: `--help` and a wrong flag are answered in a fraction of the time.
    from frontdesk.chat.prompts import load_personas
    from frontdesk.config import prompts_folder
    from frontdesk.server.app import model_card
    from frontdesk.server.opening import remembered, tuning

    try:
        card = model_card(settings, load_personas(prompts_folder()))
    except FrontdeskError as error:
        options.fail(error.message)
    folder = remembered(settings, card)
    if forget:
        known = folder.forget(card)
        options.notes.print(f"{card.name}: {'forgotten' if known else 'nothing is remembered'}", markup=False)
        return
    if show:
        tuned = folder.recall(card)
        if tuned is None:
            options.fail(f"nothing is remembered of {card.name} on this machine; measure with `frontdesk tune`", code=1)
    else:
        with options.bar() as bar:
            task = bar.add_task(f"opening {card.name}", total=1.0)

            def tell(what: str, done: float) -> None:
                bar.update(task, description=what, completed=done)

            async def measure() -> Any:
                async with folder.alone(card, tell):
                    found = await tuning(settings, card, tell, seconds).run()
                    if not folder.keep(card, found):
                        unwritable = f"frontdesk: {folder.path} cannot be written; nothing is remembered"
                        options.notes.print(unwritable, style="yellow")
                return found

            try:
                tuned = asyncio.run(measure())
            except (FrontdeskError, TimeoutError) as error:
                options.fail(f"{card.name} could not be measured: {error}", code=1)
    if as_json:
        typer.echo(msgspec.json.encode(tuned).decode())
    else:
        _print(tuned)


def _print(tuned: Any) -> None:
    console = Console(highlight=False, markup=False)
    console.print(f"{tuned.model} on {tuned.machine}: {tuned.seconds:.0f} s of measuring, {tuned.measured}")
    chosen = Table("setting", "best", title_justify="left")
    for name in CHOSEN:
        value = getattr(tuned, name)
        chosen.add_row(name, "not measured" if value is None else str(value).lower())
    console.print(chosen)
    for finding in tuned.findings:
        console.print(finding)
    if tuned.given_up:
        console.print(f"given up: {tuned.given_up}")
    if tuned.steps:
        steps = Table("step", "ms", "tokens/s")
        for name, milliseconds in tuned.steps.items():
            size = int(name.rpartition(" ")[2])
            steps.add_row(name, f"{milliseconds:.2f}", f"{1000 * size / milliseconds:,.0f}")
        console.print(steps)
