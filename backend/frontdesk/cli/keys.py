"""`frontdesk keys create|list|revoke`: who may use the server. A running one takes notice within about a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from frontdesk.access.keys import new_key, state_of
from frontdesk.access.moments import moment
from frontdesk.cli import options
from frontdesk.cli.database import Database, with_store
from frontdesk.cli.limits import budgets, check_name, day, limit_option, plain, read_limits
from frontdesk.principal import ALL_SCOPES, DEFAULT_SCOPES
from frontdesk.store.records import KeyRecord

if TYPE_CHECKING:
    from frontdesk.store.store import Store

app = typer.Typer(help="Make, list and revoke the keys that clients use the server with.", no_args_is_help=True)

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
    scopes = frozenset(scope or DEFAULT_SCOPES)
    if unknown := sorted(scopes - ALL_SCOPES):
        options.fail(f"{unknown[0][:40]!r} is no scope; choose from {', '.join(sorted(ALL_SCOPES))}")
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
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id that `frontdesk keys list` shows.")],
    database: Database = None,
    config: options.ConfigFile = None,
) -> None:
    """End a key, and every visitor's token that it issued. There is no way back; its usage stays in the ledger."""
    key_id = id.removeprefix("fd_").partition("_")[0]  # whoever pastes the whole key means it

    async def end(store: Store) -> bool:
        return await store.keys.revoke(key_id, int(time.time()))

    if not with_store(config, database, end):
        options.fail(f"there is no key {key_id[:40]!r} that is not revoked yet; `frontdesk keys list` shows all")
    options.notes.print(f"key {key_id} is revoked", markup=False)


def _expiry(text: str | None, now: int) -> int | None:
    if text is None:
        return None
    try:
        expires = int(moment(text, now, ahead=True))
    except ValueError as error:
        options.fail(f"--expires: {error}")
    if expires <= now:
        options.fail(f"--expires: {text!r} is in the past")
    return expires
