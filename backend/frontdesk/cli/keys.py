"""`frontdesk keys create|list|change|rotate|revoke`: who may use the server, and at what cost.

A running server takes notice within about a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from frontdesk.access.keys import new_key, state_of
from frontdesk.access.moments import moment
from frontdesk.access.widgets import widget_id
from frontdesk.cli import options
from frontdesk.cli.database import Database, with_store
from frontdesk.cli.limits import (
    budgets,
    check_name,
    day,
    limit_option,
    new_limit_option,
    plain,
    read_changes,
    read_limits,
)
from frontdesk.principal import ALL_SCOPES, DEFAULT_SCOPES
from frontdesk.store.records import KeyRecord, WidgetRecord

if TYPE_CHECKING:
    from frontdesk.store.store import Store

app = typer.Typer(help="Make, list, change and revoke the keys that clients use the server with.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the key is for; any text, to recognise it by.")]
Scope = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="chat, visitors, usage or admin; may be given again. Default: the first three.",
    ),
]
Expires = Annotated[
    str | None, typer.Option("--expires", metavar="WHEN", help="30d, 12h, or a date as 2027-01-31. Default: never.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `frontdesk keys list` shows.")]


@app.command()
def create(
    name: Name,
    scope: Scope = None,
    expires: Expires = None,
    tokens_per_minute: Annotated[str | None, limit_option("Token budget for each minute.")] = None,
    tokens_per_day: Annotated[str | None, limit_option("Token budget for each day in UTC.")] = None,
    tokens_total: Annotated[str | None, limit_option("Token budget in total; never refills.")] = None,
    requests_per_minute: Annotated[str | None, limit_option("Requests in each minute.")] = None,
    database: Database = None,
    config: options.ConfigFile = None,
) -> None:
    """Make a key and print it. It is shown this once: the database keeps only a hash of it.

    The key alone goes to stdout, so KEY=$(frontdesk keys create shop) works. Budgets count prompt and answer together.
    """
    limits = read_limits(tokens_per_minute, tokens_per_day, tokens_total, requests_per_minute)
    scopes = _scopes(scope or DEFAULT_SCOPES)
    check_name(name, "key")
    now = int(time.time())
    key = new_key()
    record = KeyRecord(key.id, name, key.hash, scopes, limits, now, _expiry(expires, now))

    async def add(store: Store) -> None:
        await store.keys.add(record)

    with_store(config, database, add)
    options.notes.print(f"key {key.id}, shown only now:", markup=False)
    typer.echo(key.text)


@app.command("list")
def list_keys(database: Database = None, config: options.ConfigFile = None) -> None:
    """Show all keys, oldest first: what each may do and spend, when it was used last. Never the key itself."""

    async def read(store: Store) -> list[KeyRecord]:
        return await store.keys.list()

    records = with_store(config, database, read)
    if not records:
        options.notes.print("there are no keys; make one with `frontdesk keys create NAME`", markup=False)
        return
    now = time.time()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ID", "NAME", "STATE", "SCOPES", "BUDGETS", "CREATED", "EXPIRES", "LAST USED"):
        table.add_column(column, no_wrap=column in ("ID", "STATE"), overflow="fold")
    for record in records:
        table.add_row(
            record.id,
            plain(record.name),
            state_of(record, now),
            " ".join(sorted(record.scopes)),
            budgets(record.limits),
            day(record.created),
            day(record.expires),
            day(record.last_used),
        )
    Console(highlight=False, markup=False).print(table)


@app.command()
def change(
    id: Id,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What the key is for.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="Instead of all that it has; may be given again."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN|never", help="As for `create`; renews an expired key.")
    ] = None,
    tokens_per_minute: Annotated[str | None, new_limit_option("Token budget for each minute.")] = None,
    tokens_per_day: Annotated[str | None, new_limit_option("Token budget for each day in UTC.")] = None,
    tokens_total: Annotated[str | None, new_limit_option("Token budget in total, used tokens included.")] = None,
    requests_per_minute: Annotated[str | None, new_limit_option("Requests in each minute.")] = None,
    database: Database = None,
    config: options.ConfigFile = None,
) -> None:
    """Change what a key may do and spend. What is not given stays; a budget of `none` is lifted.

    A widget's key is changed with `frontdesk widgets change`.
    """
    limits = read_changes(tokens_per_minute, tokens_per_day, tokens_total, requests_per_minute)
    others: dict[str, Any] = {}
    if name is not None:
        check_name(name, "key")
        others["name"] = name
    if scope:
        others["scopes"] = _scopes(scope)
    if expires is not None:
        others["expires"] = _expiry(expires, int(time.time()))
    if not (others or limits):
        options.fail("say what to change, such as --tokens-per-day 200000; `frontdesk keys change --help` lists all")
    record = _changed(id, lambda key: replace(key, **others, limits=replace(key.limits, **limits)), database, config)
    options.notes.print(
        f"key {record.id} is now: {plain(record.name)}; {state_of(record, time.time())}; "
        f"scopes {' '.join(sorted(record.scopes))}; budgets {budgets(record.limits)}; expires {day(record.expires)}",
        markup=False,
    )


@app.command()
def rotate(id: Id, database: Database = None, config: options.ConfigFile = None) -> None:
    """Give a key a new secret and print the key; the old text is worth nothing after about a second.

    The key alone goes to stdout, as with `create`. Id, name, scopes, budgets and end stay, and so do conversations.
    Visitors' tokens that it issued stay good until they expire, in a day at most; only `revoke` ends them at once.
    """
    made = new_key(_only_id(id))
    record = _changed(id, lambda key: replace(key, hash=made.hash), database, config)
    options.notes.print("visitors' tokens that it issued stay good until they expire, in a day at most", markup=False)
    if state_of(record, time.time()) == "expired":
        renew = f"`frontdesk keys change {record.id} --expires WHEN`"
        options.notes.print(f"it is still expired; {renew} renews it", markup=False)
    options.notes.print(f"key {record.id}, shown only now:", markup=False)
    typer.echo(made.text)


@app.command()
def revoke(id: Id, database: Database = None, config: options.ConfigFile = None) -> None:
    """End a key, and every visitor's token that it issued. There is no way back; its usage stays in the ledger."""
    key_id = _only_id(id)

    async def end(store: Store) -> bool:
        return await store.keys.revoke(key_id, int(time.time()))

    if not with_store(config, database, end):
        _fail_without(key_id)
    options.notes.print(f"key {key_id} is revoked", markup=False)


def _changed(id: str, change: Callable[[KeyRecord], KeyRecord], database: str | None, config: str | None) -> KeyRecord:
    """What the key is now. Leaves the command where there is none to change, and where it is a widget's: whoever had
    its secret could spend the widget's budgets."""
    key_id = _only_id(id)

    async def work(store: Store) -> KeyRecord | WidgetRecord | None:
        return await store.widgets.by_id(widget_id(key_id)) or await store.keys.change(key_id, change)

    found = with_store(config, database, work)
    if found is None:
        _fail_without(key_id)
    if isinstance(found, WidgetRecord):
        options.fail(f"key {key_id} is the widget {found.id}'s; use `frontdesk widgets change {found.id}`")
    return found


def _only_id(text: str) -> str:
    """Whoever pastes the whole key means it."""
    return text.removeprefix("fd_").partition("_")[0]


def _fail_without(key_id: str) -> NoReturn:
    options.fail(f"there is no key {key_id[:40]!r} that is not revoked yet; `frontdesk keys list` shows all")


def _scopes(given: Collection[str]) -> frozenset[str]:
    if unknown := sorted(frozenset(given) - ALL_SCOPES):
        options.fail(f"{unknown[0][:40]!r} is no scope; choose from {', '.join(sorted(ALL_SCOPES))}")
    return frozenset(given)


def _expiry(text: str | None, now: int) -> int | None:
    if text in (None, "never"):
        return None
    try:
        expires = int(moment(text, now, ahead=True))
    except ValueError as error:
        options.fail(f"--expires: {error}")
    if expires <= now:
        options.fail(f"--expires: {text!r} is in the past")
    return expires
