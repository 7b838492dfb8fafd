"""Flags that `serve` and `chat` share, one per setting. Help and limits come from `config.Settings`, nowhere else.

Values are taken as text: `Settings` reads them, so that a wrong flag, variable and file line give the same message.
"""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from frontdesk.config import Settings

notes = Console(stderr=True, highlight=False, soft_wrap=True)  # everything that is not an answer goes to stderr


def _flag(name: str, metavar: str) -> Any:
    field = Settings.model_fields[name]
    default = "" if field.default in (None, ()) else f" Default: {field.default}."
    return typer.Option("--" + name.replace("_", "-"), metavar=metavar, help=f"{field.description}{default}")


Model = Annotated[str | None, _flag("model", "NAME|FILE")]
Host = Annotated[str | None, _flag("host", "ADDRESS")]
Port = Annotated[str | None, _flag("port", "N")]
Ctx = Annotated[str | None, _flag("ctx", "TOKENS")]
KvTokens = Annotated[str | None, _flag("kv_tokens", "TOKENS")]
KvType = Annotated[str | None, _flag("kv_type", "f16|f32|q8_0")]
Tune = Annotated[str | None, _flag("tune", "auto|off")]
Slots = Annotated[str | None, _flag("slots", "N")]
Threads = Annotated[str | None, _flag("threads", "N")]
Chunk = Annotated[str | None, _flag("chunk", "TOKENS")]
ChunkBusy = Annotated[str | None, _flag("chunk_busy", "TOKENS")]
ParkedMib = Annotated[str | None, _flag("parked_mib", "MIB")]
Persona = Annotated[str | None, _flag("persona", "NAME")]
Origins = Annotated[str | None, _flag("origins", "URL,URL")]
Database = Annotated[str | None, _flag("database", "PATH|URL|memory")]
Auth = Annotated[str | None, _flag("auth", "auto|on|off")]
LogLevel = Annotated[str | None, _flag("log_level", "LEVEL")]
LogFormat = Annotated[str | None, _flag("log_format", "auto|console|json")]
ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="TOML file with settings. Default: ./frontdesk.toml if it is there."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def bar() -> Progress:
    """For work of some seconds or minutes: what is done, how far, for how long. Gone when it is over."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=notes, transient=True)


def fail(message: str, code: int = 2) -> NoReturn:
    """Leave with one clear line; 2 means that nothing was started."""
    notes.print(f"frontdesk: {message}", style="red", markup=False)
    raise typer.Exit(code)
