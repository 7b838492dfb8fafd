"""`frontdesk usage`: what was used, by whom, summed over the ledger. The operator's view: all owners."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from frontdesk.access.moments import moment
from frontdesk.access.report import GROUPINGS, groupings, usage_entry
from frontdesk.cli import options
from frontdesk.cli.database import Database, with_store

if TYPE_CHECKING:
    from frontdesk.store.store import Store

By = Annotated[
    str, typer.Option("--by", metavar="WHAT,WHAT", help=f"Sum by any of: {', '.join(GROUPINGS)}. Empty: one sum.")
]
Since = Annotated[str | None, typer.Option("--since", metavar="WHEN", help="7d, 12h, or a date as 2026-11-01, in UTC.")]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="The same; what began then is left out.")]


def usage(
    by: By = "key,model,day",
    since: Since = None,
    until: Until = None,
    as_json: options.AsJson = False,
    database: Database = None,
    config: options.ConfigFile = None,
) -> None:
    """Show requests and tokens of all keys. CACHED are those tokens of PROMPT that needed no computing."""
    try:
        names = groupings(by)
    except ValueError as error:
        options.fail(f"--by: {error}")
    begin, end = _moment("--since", since), _moment("--until", until)

    async def read(store: Store) -> tuple[list[dict[str, Any]], dict[str, str]]:
        rows = await store.ledger.sums(by=names, since=begin, until=end)
        return rows, {key.id: key.name for key in await store.keys.list()}

    rows, key_names = with_store(config, database, read)
    entries = [usage_entry(row) for row in rows]
    if as_json:
        typer.echo(json.dumps(entries, ensure_ascii=False))
    elif entries:
        Console(highlight=False, markup=False).print(_table(names, entries, key_names))
    else:
        options.notes.print("nothing was used", markup=False)


def _table(names: Sequence[str], entries: list[dict[str, Any]], key_names: Mapping[str, str]) -> Table:
    """`key_names`: id of a key to its name, which people know it by."""
    counts = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "total_tokens")
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=len(entries) > 1, footer_style="bold")
    for number, name in enumerate(names):
        table.add_column(name.upper(), "" if number else "SUM", overflow="fold")
    for name in counts:
        total = f"{sum(entry[name] for entry in entries):,}"
        table.add_column(name.removesuffix("_tokens").upper(), total, justify="right", no_wrap=True)
    for entry in entries:
        if entry.get("key") in key_names:
            entry = {**entry, "key": f"{entry['key']} {key_names[entry['key']]}"}
        table.add_row(*(entry[name] or "-" for name in names), *(f"{entry[name]:,}" for name in counts))
    return table


def _moment(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return moment(text, time.time(), ahead=False)
    except ValueError as error:
        options.fail(f"{flag}: {error}")
