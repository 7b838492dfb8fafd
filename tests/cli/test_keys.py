"""`frontdesk keys` over a real database, and what a running server makes of it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from typer.testing import CliRunner

from frontdesk.cli.main import app

if TYPE_CHECKING:
    from tests.conftest import Server

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FRONTDESK_")}
KEY = re.compile(r"fd_[0-9a-f]{12}_[0-9A-Za-z]{43}")


def frontdesk(*arguments: str, database: Path | str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "frontdesk", *arguments]
    environment = {**ENVIRONMENT, "COLUMNS": "160", "FRONTDESK_DATABASE": str(database)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=60
    )


def test_a_key_is_made_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    """An operator could not make a key, find it again or end it; or its secret would lie about in the database."""
    place = tmp_path / "new" / "f.db"
    made = frontdesk(
        "keys", "create", "Shop [bold]x", "--scope", "chat", "--scope", "usage", "--expires", "30d",
        "--tokens-per-minute", "10,000", "--requests-per-minute", "60", database=place, folder=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert KEY.fullmatch(key), "anything else on stdout breaks KEY=$(frontdesk keys create shop)"
    key_id, secret = key.split("_")[1:]
    assert key_id in made.stderr
    assert secret not in made.stderr

    listed = frontdesk("keys", "list", database=place, folder=tmp_path)
    row = next(line for line in listed.stdout.splitlines() if key_id in line)
    for word in ("Shop [bold]x", "active", "chat usage", "tokens/minute 10,000, requests/minute 60"):
        assert word in row
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d +20\d\d-\d\d-\d\d \d\d:\d\d +-$", row.strip())
    assert secret not in listed.stdout
    with sqlite3.connect(place) as database:
        dump = "\n".join(map(str, database.execute("SELECT * FROM keys").fetchall()))
    database.close()
    assert key_id in dump
    assert secret not in dump

    assert frontdesk("keys", "revoke", key, database=place, folder=tmp_path).returncode == 0
    assert "revoked" in frontdesk("keys", "list", database=place, folder=tmp_path).stdout
    again = frontdesk("keys", "revoke", key_id, database=place, folder=tmp_path)
    assert again.returncode == 2
    assert key_id in again.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "x", "--scope", "root"], ["'root'", "admin, chat, usage, visitors"]),
        (["create", "x", "--expires", "soon"], ["--expires", "'soon'", "30d"]),
        (["create", "x", "--expires", "2020-01-01"], ["--expires", "past"]),
        (["create", "x", "--tokens-total", "0"], ["--tokens-total", "'0'", "1 to"]),
        (["create", "x", "--tokens-per-day", "9" * 17], ["--tokens-per-day", "9,007,199,254,740,992"]),
        (["create", "x", "--requests-per-minute", "many"], ["--requests-per-minute", "'many'"]),
        (["create", " "], ["name"]),
        (["create", "a\nb"], ["name"]),
        (["revoke", "0123456789ab"], ["'0123456789ab'", "keys list"]),
        (["list", "--database", "memory"], ["memory", "--database"]),
        (["list", "--database", "mysql://h/d"], ["mysql"]),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """A mistake would give a stack trace, or a key that may do something else than was asked for."""
    result = CliRunner().invoke(app, ["keys", *arguments], env={"FRONTDESK_DATABASE": str(tmp_path / "f.db")})
    lines = result.stderr.strip().splitlines()
    assert (result.exit_code, result.stdout, len(lines)) == (2, "", 1), result.output
    assert not [word for word in words if word not in lines[0]], lines[0]


def test_a_running_server_hears_of_keys(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """A server would have to be restarted for every new key, and would go on to serve one that was revoked."""
    server = start_server(auth="on")
    url = server.url + "/v1/models"
    assert httpx2.get(url).status_code == 401
    key = frontdesk("keys", "create", "x", database=server.database, folder=tmp_path).stdout.strip()
    headers = {"authorization": f"Bearer {key}"}
    assert httpx2.get(url, headers=headers).status_code == 200
    assert frontdesk("keys", "revoke", key, database=server.database, folder=tmp_path).returncode == 0
    began = time.monotonic()
    while (answer := httpx2.get(url, headers=headers)).status_code == 200:
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert answer.json()["error"]["code"] == "revoked_api_key"


def test_a_server_for_other_machines_needs_a_key(tmp_path: Path) -> None:
    """Whoever serves on a public address would give the model, and everybody's conversations, to the whole network."""
    arguments = ("serve", "--host", "0.0.0.0", "--port", "0")
    refused = frontdesk(*arguments, database=tmp_path / "f.db", folder=tmp_path)
    lines = refused.stderr.strip().splitlines()
    assert (refused.returncode, len(lines)) == (2, 1), refused.stderr
    for word in ("0.0.0.0", "frontdesk keys create", "--auth off"):
        assert word in lines[0]
    made = frontdesk("keys", "create", "x", "--expires", "1s", database=tmp_path / "f.db", folder=tmp_path)
    assert made.returncode == 0
    time.sleep(1.1)
    assert frontdesk(*arguments, database=tmp_path / "f.db", folder=tmp_path).returncode == 2, "an expired key is none"


def test_a_server_for_other_machines_starts_with_a_key_or_on_demand(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The refusal could not be lifted, by a key or by an operator who wants an open server."""
    frontdesk("keys", "create", "x", database=tmp_path / "f.db", folder=tmp_path)
    closed = start_server("--host", "0.0.0.0", database=str(tmp_path / "f.db"))
    assert httpx2.get(closed.url + "/v1/models").status_code == 401
    assert httpx2.get(closed.url + "/livez").status_code == 200
    assert "asks for no key" not in closed.log.read_text()
    opened = start_server("--host", "0.0.0.0", auth="off")
    assert httpx2.get(opened.url + "/v1/models").status_code == 200
    assert "asks for no key" in opened.log.read_text()


def test_a_chat_of_ones_own_needs_no_key(tmp_path: Path) -> None:
    """Settings made for a public server would keep `frontdesk chat` from starting, or put its server on the network."""
    environment = {**ENVIRONMENT, "FRONTDESK_AUTH": "on", "FRONTDESK_HOST": "0.0.0.0"}
    result = subprocess.run(
        [sys.executable, "-m", "frontdesk", "chat", "-m", "Hi", "--max-tokens", "3"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
