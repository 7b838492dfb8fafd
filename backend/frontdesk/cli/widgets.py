"""`frontdesk widgets create|list|revoke|secret`: on which pages the chat window may stand, and at what cost.

A running server takes notice within about a second.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from frontdesk.access.keys import new_key, state_of
from frontdesk.access.widgets import check_origin, identity_secret, widget_id
from frontdesk.cli import options
from frontdesk.cli.database import Database, with_store
from frontdesk.cli.limits import budgets, check_name, limit_option, plain, read_limits
from frontdesk.config import prompts_folder
from frontdesk.errors import ConfigError
from frontdesk.store.records import KeyRecord, WidgetRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frontdesk.store.store import Store

app = typer.Typer(help="Make, list and revoke the chat windows that pages embed.", no_args_is_help=True)

MOST_ORIGINS = 20

Name = Annotated[str, typer.Argument(metavar="NAME", help="Which shop it is for; any text. Visitors' pages see it.")]
Origin = Annotated[
    list[str],
    typer.Option("--origin", metavar="URL", help="Origin of pages that may embed it; may be given again."),
]
Persona = Annotated[
    str | None,
    typer.Option("--persona", metavar="NAME", help="Whom its visitors talk to, of prompts/. Default: the model's own."),
]
IdentifiedOnly = Annotated[
    bool, typer.Option("--identified-only", help="Only visitors whose identity your server has signed may come.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `frontdesk widgets list` shows.")]


@app.command()
def create(
    name: Name,
    origin: Origin,
    persona: Persona = None,
    identified_only: IdentifiedOnly = False,
    visitor_tokens_per_minute: Annotated[str | None, limit_option("Each visitor's tokens in a minute.")] = None,
    visitor_tokens_per_day: Annotated[str | None, limit_option("Each visitor's tokens in a day in UTC.")] = None,
    visitor_tokens_total: Annotated[str | None, limit_option("Each visitor's tokens in total.")] = None,
    visitor_requests_per_minute: Annotated[str | None, limit_option("Each visitor's requests in a minute.")] = None,
    tokens_per_minute: Annotated[str | None, limit_option("All visitors' tokens in a minute.")] = None,
    tokens_per_day: Annotated[str | None, limit_option("All visitors' tokens in a day in UTC.")] = None,
    tokens_total: Annotated[str | None, limit_option("All visitors' tokens in total; never refills.")] = None,
    requests_per_minute: Annotated[str | None, limit_option("All visitors' requests in a minute.")] = None,
    database: Database = None,
    config: options.ConfigFile = None,
) -> None:
    """Make a widget and print its id, which goes into the page; it is no secret.

    The id alone goes to stdout, the identity secret to stderr: with the latter your server can say who a visitor is.
    """
    check_name(name, "widget")
    origins = _origins(origin)
    if persona is not None:
        _check_persona(persona)
    for_each = read_limits(
        visitor_tokens_per_minute, visitor_tokens_per_day, visitor_tokens_total, visitor_requests_per_minute,
        prefix="--visitor-",
    )  # fmt: skip
    for_all = read_limits(tokens_per_minute, tokens_per_day, tokens_total, requests_per_minute)
    key = new_key()  # its text is thrown away: nobody but the widget's visitors ever draws on it
    record = KeyRecord(key.id, name, key.hash, frozenset(["chat"]), for_all, int(time.time()))
    widget = WidgetRecord(widget_id(key.id), record, origins, persona, identified_only, for_each)

    async def add(store: Store) -> str:
        await store.widgets.add(widget)
        return await _identity_secret(store, widget.id)

    secret = with_store(config, database, add)
    options.notes.print(f"identity secret, for your server only: {secret}", markup=False)
    typer.echo(widget.id)


@app.command("list")
def list_widgets(database: Database = None, config: options.ConfigFile = None) -> None:
    """Show all widgets, oldest first: on which pages each may stand, whom one talks to there, what may be spent."""

    async def read(store: Store) -> Sequence[WidgetRecord]:
        return await store.widgets.list()

    found = with_store(config, database, read)
    if not found:
        options.notes.print("there are no widgets; make one with `frontdesk widgets create NAME`", markup=False)
        return
    now = time.time()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ID", "NAME", "STATE", "ORIGINS", "PERSONA", "VISITORS", "BUDGETS"):
        table.add_column(column, no_wrap=column not in ("NAME", "ORIGINS", "BUDGETS"), overflow="fold")
    for widget in found:
        table.add_row(
            widget.id,
            plain(widget.key.name),
            state_of(widget.key, now),
            "\n".join(widget.origins),
            plain(widget.persona or "-"),
            "identified" if widget.identified_only else "all",
            f"each: {budgets(widget.visitor_limits)}\nall: {budgets(widget.key.limits)}",
        )
    Console(highlight=False, markup=False).print(table)


@app.command()
def revoke(id: Id, database: Database = None, config: options.ConfigFile = None) -> None:
    """End a widget, and every token of its visitors. There is no way back; its usage stays in the ledger."""

    async def end(store: Store) -> bool:
        return await store.widgets.revoke(id, int(time.time()))

    if not with_store(config, database, end):
        options.fail(f"there is no widget {id[:40]!r} that is not revoked yet; `frontdesk widgets list` shows all")
    options.notes.print(f"widget {id} is revoked", markup=False)


@app.command()
def secret(id: Id, database: Database = None, config: options.ConfigFile = None) -> None:
    """Print the identity secret of a widget: your server signs visitors' identities with it (HS256)."""

    async def read(store: Store) -> str | None:
        return None if await store.widgets.by_id(id) is None else await _identity_secret(store, id)

    if (found := with_store(config, database, read)) is None:
        options.fail(f"there is no widget {id[:40]!r}; `frontdesk widgets list` shows all")
    typer.echo(found)


async def _identity_secret(store: Store, widget: str) -> str:
    return identity_secret(await store.secrets.get_or_create("visitors", lambda: secrets.token_bytes(32)), widget)


def _origins(given: Sequence[str]) -> tuple[str, ...]:
    origins = tuple(dict.fromkeys(given))
    if len(origins) > MOST_ORIGINS:
        options.fail(f"--origin: a widget has at most {MOST_ORIGINS} of them")
    for text in origins:
        try:
            check_origin(text)
        except ValueError as error:
            options.fail(f"--origin: {error}")
    return origins


def _check_persona(name: str) -> None:
    # Imported late: `--help` and a wrong flag are answered in a fraction of the time.
    from frontdesk.chat.prompts import load_personas

    try:
        load_personas(prompts_folder())[name]
    except ConfigError as error:
        options.fail(f"--persona: {error.message}")
