"""`frontdesk usage`: sums over a ledger that a server wrote, or that stands here in full."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from typer.testing import CliRunner, Result

from frontdesk.access.keys import new_key
from frontdesk.cli.main import app
from frontdesk.principal import ALL_SCOPES, Limits
from frontdesk.store.records import KeyRecord, LedgerEntry
from frontdesk.store.store import open_store

if TYPE_CHECKING:
    from tests.conftest import Server

KEY = "ab" * 6
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def usage(*arguments: str, database: Path | str) -> Result:
    return CliRunner().invoke(app, ["usage", "--database", str(database), *arguments], env={"COLUMNS": "120"})


def sums(*arguments: str, database: Path | str) -> list[dict[str, Any]]:
    result = usage("--json", *arguments, database=database)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """Two replies of a key on two days, one of its visitor, one of nobody's key. The key is called Shop."""
    place = tmp_path / "f.db"
    store = await open_store(str(place))
    await store.keys.add(KeyRecord(KEY, "Shop", new_key().hash, ALL_SCOPES, Limits(), 0))
    rows = [(0, KEY, None, 1000, 10), (1, KEY, None, 2000, 20), (1, KEY, "vis_x", 300, 3), (1, None, None, 40, 4)]
    for number, (day, key, visitor, prompt, completion) in enumerate(rows):
        at, cached = (NOW + timedelta(days=day)).timestamp(), 100 * number
        await store.journal.pay(
            LedgerEntry(str(number), at, "o", key, visitor, None, "m", prompt, cached, completion, "finished")
        )
    await store.close()
    return place


def test_sums_by_anything(ledger: Path) -> None:
    """An operator would bill a customer for somebody else's tokens."""
    (everything,) = sums("--by", "", database=ledger)
    assert everything == {
        "requests": 4, "prompt_tokens": 3340, "cached_tokens": 600, "completion_tokens": 37, "total_tokens": 3377
    }  # fmt: skip
    by_key = {row["key"]: row["total_tokens"] for row in sums("--by", "key", database=ledger)}
    assert by_key == {KEY: 3333, None: 44}
    by_day = {row["day"]: row["requests"] for row in sums("--by", "day", database=ledger)}
    assert by_day == {"2026-11-20": 1, "2026-11-21": 3}
    by_both = sums("--by", "visitor,model", database=ledger)
    assert {(row["visitor"], row["model"]): row["prompt_tokens"] for row in by_both} == {
        (None, "m"): 3040,
        ("vis_x", "m"): 300,
    }


def test_from_and_until(ledger: Path) -> None:
    """A month would be billed with a day of the next, or twice."""
    assert sums("--by", "", "--until", "2026-11-21", database=ledger)[0]["requests"] == 1
    assert sums("--by", "", "--since", "2026-11-21", database=ledger)[0]["requests"] == 3
    (first,) = sums("--by", "", "--since", "2026-11-20T12:00Z", "--until", "2026-11-21T12:00Z", database=ledger)
    assert first["requests"] == 1
    assert sums("--since", "2027-01-01", database=ledger) == []


def test_a_table_for_people(ledger: Path) -> None:
    """A person could not tell which key is whose, or would have to add up."""
    lines = usage(database=ledger).stdout.splitlines()
    assert lines[0].split() == ["KEY", "MODEL", "DAY", "REQUESTS", "PROMPT", "CACHED", "COMPLETION", "TOTAL"]
    assert any("Shop" in line and "2026-11-21" in line and "2,300" in line for line in lines)
    assert lines[-1].split() == ["SUM", "4", "3,340", "600", "37", "3,377"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--by", "owner"], ["--by", "'owner'", "key, visitor"]), (["--since", "gone"], ["--since", "'gone'", "30d"])],
)
def test_what_is_wrong_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """A mistyped period would sum over everything."""
    result = usage(*arguments, database=tmp_path / "f.db")
    lines = result.stderr.strip().splitlines()
    assert (result.exit_code, result.stdout, len(lines)) == (2, "", 1), result.output
    assert not [word for word in words if word not in lines[0]], lines[0]


def test_an_empty_ledger_says_so(tmp_path: Path) -> None:
    """A person would see nothing at all and wonder what is broken."""
    result = usage(database=tmp_path / "f.db")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing was used" in result.stderr
    assert sums(database=tmp_path / "f.db") == []


def test_what_a_server_used_is_seen_beside_it(start_server: Callable[..., Server]) -> None:
    """The sums would differ from what clients were told, or could be read only after a shutdown."""
    server = start_server()
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    answers = [
        client.responses.create(model="frontdesk-small", input="Hi", max_output_tokens=5, store=store)
        for store in (True, False)
    ]
    client.close()
    told = [answer.usage for answer in answers if answer.usage]
    deadline = time.monotonic() + 30
    while (row := sums("--by", "model", database=server.database)[0])["requests"] < len(told):
        assert time.monotonic() < deadline, "a reply that is not stored is missing"
        time.sleep(0.05)
    assert row["model"] == "frontdesk-small"
    assert row["requests"] == len(told) == 2
    assert row["total_tokens"] == sum(usage.total_tokens for usage in told)
