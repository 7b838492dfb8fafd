"""The `frontdesk` command: names its subcommands and says what a newcomer needs first. Does nothing itself."""

from __future__ import annotations

from typing import Annotated

import typer

from frontdesk import __version__
from frontdesk.cli.backup import backup, restore
from frontdesk.cli.bench import bench
from frontdesk.cli.chat import chat
from frontdesk.cli.keys import app as keys
from frontdesk.cli.quantize import quantize
from frontdesk.cli.serve import serve
from frontdesk.cli.tune import tune
from frontdesk.cli.usage import usage
from frontdesk.cli.widgets import app as widgets

HELP = """Serve a language model on this machine, and talk to it.

\b
    frontdesk serve                      the shipped model on http://127.0.0.1:8000
    frontdesk serve --model my.gguf      any other model in GGUF format
    frontdesk chat                       talk to the model in this terminal
    frontdesk chat -m "When are you open?"
    frontdesk keys create shop           a key, for a server that other machines can reach
    frontdesk widgets create shop --origin https://shop.example
    frontdesk usage                      who used how many tokens
    frontdesk backup copy.db             the database in one file, while the server runs
    frontdesk bench                      how soon and how fast a running server answers
    frontdesk tune --model my.gguf       the best settings for a model on this machine
    frontdesk quantize my-f16.gguf       smaller files of a model, and which is fastest here

Any OpenAI client works with base_url http://127.0.0.1:8000/v1; http://127.0.0.1:8000/docs describes every route.

Every setting can be a variable (FRONTDESK_CTX=4096) or a line in frontdesk.toml (ctx = 4096), many also a flag (--ctx
4096). A flag wins over a variable, a variable over the file. `frontdesk serve --help` lists the flags."""

app = typer.Typer(
    name="frontdesk",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(chat)
app.add_typer(keys, name="keys")
app.add_typer(widgets, name="widgets")
app.command()(usage)
app.command()(backup)
app.command()(restore)
app.command()(bench)
app.command()(tune)
app.command()(quantize)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"frontdesk {__version__}")
        raise typer.Exit


def main() -> None:
    app()
