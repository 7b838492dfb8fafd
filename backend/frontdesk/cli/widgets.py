"""`frontdesk widgets create|list|change|revoke|secret`: on which pages the chat window may stand, and at what cost.

A running server takes notice within about a second.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from frontdesk.access.keys import new_key, state_of
from frontdesk.access.widgets import check_origin, identity_secret, widget_id
from frontdesk.cli import options
from frontdesk.cli.database import Database, with_store
from frontdesk.cli.limits import budgets, check_name, limit_option, new_limit_option, plain, read_changes, read_limits
from frontdesk.config import prompts_folder
from frontdesk.errors import ConfigError
from frontdesk.store.records import KeyRecord, WidgetRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frontdesk.store.store import Store

app = typer.Typer(help="Make, list, change and revoke the chat windows that pages embed.", no_args_is_help=True)

MOST_ORIGINS = 20
MODELS_OWN = "none"  # instead of a persona's name

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
    origins, persona = _origins(origin), _persona(persona)
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
            _visitors(widget),
            f"each: {budgets(widget.visitor_limits)}\nall: {budgets(widget.key.limits)}",
        )
    Console(highlight=False, markup=False).print(table)


@app.command()
def change(
    id: Id,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Which shop it is for.")] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", metavar="URL", help="Instead of all that it has; may be given again."),
    ] = None,
    persona: Annotated[
        str | None,
        typer.Option("--persona", metavar=f"NAME|{MODELS_OWN}", help="Whom its visitors talk to; none: the model's."),
    ] = None,
    identified_only: Annotated[
        bool | None,
        typer.Option("--identified-only/--everybody", help="Whether visitors need an identity signed by your server."),
    ] = None,
    visitor_tokens_per_minute: Annotated[str | None, new_limit_option("Each visitor's tokens in a minute.")] = None,
    visitor_tokens_per_day: Annotated[str | None, new_limit_option("Each visitor's tokens in a day in UTC.")] = None,
    visitor_tokens_total: Annotated[str | None, new_limit_option("Each visitor's tokens in total.")] = None,
    visitor_requests_per_minute: Annotated[str | None, new_limit_option("Each visitor's requests in a minute.")] = None,
    tokens_per_minute: Annotated[str | None, new_limit_option("All visitors' tokens in a minute.")] = None,
    tokens_per_day: Annotated[str | None, new_limit_option("All visitors' tokens in a day in UTC.")] = None,
    tokens_total: Annotated[str | None, new_limit_option("All visitors' tokens in total, used ones included.")] = None,
    requests_per_minute: Annotated[str | None, new_limit_option("All visitors' requests in a minute.")] = None,
    database: Database = None,
    config: options.ConfigFile = None,
) -> None:
    """Change a widget. What is not given stays; a budget of `none` is lifted.

    For who is chatting, persona, budgets of each visitor and `--identified-only` hold from the next token on, in
    `visitor_minutes` at most. All else holds within about a second.
    """
    for_each = read_changes(
        visitor_tokens_per_minute, visitor_tokens_per_day, visitor_tokens_total, visitor_requests_per_minute,
        prefix="--visitor-",
    )  # fmt: skip
    for_all = read_changes(tokens_per_minute, tokens_per_day, tokens_total, requests_per_minute)
    named: dict[str, Any] = {}
    others: dict[str, Any] = {}
    if name is not None:
        check_name(name, "widget")
        named["name"] = name
    if origin:
        others["origins"] = _origins(origin)
    if persona is not None:
        others["persona"] = _persona(persona)
    if identified_only is not None:
        others["identified_only"] = identified_only
    if not (named or others or for_each or for_all):
        options.fail("say what to change, such as --tokens-per-day 200000; `frontdesk widgets change --help` lists all")

    def changed(widget: WidgetRecord) -> WidgetRecord:
        key = replace(widget.key, **named, limits=replace(widget.key.limits, **for_all))
        return replace(widget, **others, key=key, visitor_limits=replace(widget.visitor_limits, **for_each))

    async def write(store: Store) -> WidgetRecord | None:
        return await store.widgets.change(id, changed)

    if (widget := with_store(config, database, write)) is None:
        _fail_without(id)
    options.notes.print(
        f"widget {widget.id} is now: {plain(widget.key.name)}; {state_of(widget.key, time.time())}; "
        f"origins {' '.join(widget.origins)}; persona {plain(widget.persona or '-')}; visitors {_visitors(widget)}; "
        f"budgets of each {budgets(widget.visitor_limits)}; of all {budgets(widget.key.limits)}",
        markup=False,
    )


@app.command()
def revoke(id: Id, database: Database = None, config: options.ConfigFile = None) -> None:
    """End a widget, and every token of its visitors. There is no way back; its usage stays in the ledger."""

    async def end(store: Store) -> bool:
        return await store.widgets.revoke(id, int(time.time()))

    if not with_store(config, database, end):
        _fail_without(id)
    options.notes.print(f"widget {id} is revoked", markup=False)


@app.command()
def secret(id: Id, database: Database = None, config: options.ConfigFile = None) -> None:
    """Print the identity secret of a widget: your server signs visitors' identities with it (HS256)."""

    async def read(store: Store) -> str | None:
        return None if await store.widgets.by_id(id) is None else await _identity_secret(store, id)

    if (found := with_store(config, database, read)) is None:
        options.fail(f"there is no widget {id[:40]!r}; `frontdesk widgets list` shows all")
    typer.echo(found)


def _fail_without(id: str) -> NoReturn:
    options.fail(f"there is no widget {id[:40]!r} that is not revoked yet; `frontdesk widgets list` shows all")


def _visitors(widget: WidgetRecord) -> str:
    return "identified" if widget.identified_only else "all"


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


def _persona(name: str | None) -> str | None:
    if name in (None, MODELS_OWN):
        return None
    # Imported late: `--help` and a wrong flag are answered in a fraction of the time.
    from frontdesk.chat.prompts import load_personas

    try:
        return load_personas(prompts_folder())[name].name
    except ConfigError as error:
        options.fail(f"--persona: {error.message}")
