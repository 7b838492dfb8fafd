"""Writes docs/settings.md and docs/cli.md from the code: `python docs/generate.py`. A test fails if they are stale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main
from pydantic.fields import FieldInfo

from frontdesk.cli.main import app
from frontdesk.config import PREFIX, Settings

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/generate.py; change the code and run it again. -->"
WIDTH = 100

SETTINGS = f"""{NOTE}
# Settings

Every setting can be given in three ways; the first that is there wins:

1. a flag of `frontdesk serve` (`--ctx 4096`), for the settings marked so,
2. a variable in the environment (`FRONTDESK_CTX=4096`),
3. a line in a TOML file (`ctx = 4096`): the file named by `--config`, else by `FRONTDESK_CONFIG`, else
   `frontdesk.toml` in the working directory if it is there.

A value that is out of bounds, or a key that is no setting, stops the start with one line and exit code 2. An empty
variable counts as unset. A `FRONTDESK_*` variable that is no setting is ignored with a warning. (Kubernetes gives pods
a `FRONTDESK_PORT` of its own making when a service is called `frontdesk`: set `enableServiceLinks: false`.)

"""

CLI = f"""{NOTE}
# The command line

Exit codes: 0 all went well, 1 something failed while running, 2 nothing was started (a wrong flag, setting or model, a
port that is taken), 130 an answer was stopped with Ctrl-C.

"""


def settings_page() -> str:
    flags = {name for parameter in _commands()["serve"].params for name in parameter.opts}
    return SETTINGS + "\n".join(_setting(name, field, flags) for name, field in Settings.model_fields.items())


def cli_page() -> str:
    parts = [_help("frontdesk", typer.main.get_command(app))]
    parts += [_help(f"frontdesk {name}", command) for name, command in _commands().items()]
    return CLI + "\n".join(parts)


def _setting(name: str, field: FieldInfo, flags: set[str]) -> str:
    flag = f"`--{name.replace('_', '-')}` · " if f"--{name.replace('_', '-')}" in flags else ""
    default = "unset" if field.default is None else "empty" if field.default == () else f"`{field.default}`"
    facts = f"{flag}`{PREFIX}{name.upper()}` · default {default}{_limits(field)}"
    return f"## {name}\n\n{field.description}\n\n{facts}\n"


def _limits(field: FieldInfo) -> str:
    bounds = {type(part).__name__: part for part in field.metadata}
    if "Ge" in bounds and "Le" in bounds:
        return f" · {bounds['Ge'].ge:,} to {bounds['Le'].le:,}"
    if "Gt" in bounds and "Le" in bounds:
        return f" · over {bounds['Gt'].gt:,}, to {bounds['Le'].le:,}"
    if "bool" in str(field.annotation):
        return " · `true`, `false`"
    if choices := re.search(r"Literal\[(.*?)\]", str(field.annotation)):
        return " · " + ", ".join(f"`{choice}`" for choice in choices[1].replace("'", "").split(", "))
    return ""


def _commands(group: Any = None, prefix: str = "") -> dict[str, Any]:
    """Every command by its words (`serve`, `keys`, `keys create`), a group before what is in it."""
    found: dict[str, Any] = {}
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        found[prefix + name] = command
        if hasattr(command, "commands"):
            found |= _commands(command, f"{prefix}{name} ")
    return found


def _help(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name, terminal_width=WIDTH, help_option_names=["-h", "--help"])
    return f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


PAGES = {"settings.md": settings_page, "cli.md": cli_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
