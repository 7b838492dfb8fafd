"""`frontdesk keys` over a real database, and what a running server makes of it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from typer.testing import CliRunner, Result

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


@dataclass(frozen=True)
class Operator:
    """Commands on one database, without a process for each."""

    database: Path

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--database", str(self.database)], env={"COLUMNS": "160"})

    def done(self, *arguments: str) -> Result:
        """One of `frontdesk keys`, which must go well."""
        result = self("keys", *arguments)
        assert result.exit_code == 0, result.output
        return result


def heard(ask: Callable[[], httpx2.Response | None], status: int) -> httpx2.Response:
    """The first answer with this status: a running server takes notice within about a second."""
    deadline = time.monotonic() + 20
    while (answer := ask()) is None or answer.status_code != status:
        assert time.monotonic() < deadline, answer and answer.text
        time.sleep(0.05)
    return answer


@pytest.fixture(scope="module")
def house(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """A server that asks for keys."""
    with launch(auth="on") as server:
        yield server


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
        (["rotate", "0123456789ab"], ["'0123456789ab'", "keys list"]),
        (["change", "0123456789ab", "--name", "x"], ["'0123456789ab'", "keys list"]),
        (["change", "0123456789ab"], ["what to change", "keys change --help"]),
        (["change", "0123456789ab", "--name", "a\nb"], ["name"]),
        (["change", "0123456789ab", "--scope", "root"], ["'root'", "admin, chat, usage, visitors"]),
        (["change", "0123456789ab", "--expires", "2020-01-01"], ["--expires", "past"]),
        (["change", "0123456789ab", "--tokens-total", "0"], ["--tokens-total", "'0'", "1 to"]),
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


def test_a_key_is_changed_in_what_is_named_alone(tmp_path: Path) -> None:
    """Raising a budget would take a new key, which has none of the old one's conversations; or it would take scopes or
    the end away on the side."""
    operator = Operator(tmp_path / "f.db")
    key = operator.done(
        "create", "Shop", "--scope", "chat", "--expires", "1s", "--tokens-per-minute", "10,000", "--tokens-per-day", "9"
    ).stdout.strip()
    id = key.split("_")[1]
    changed = operator.done("change", key, "--tokens-per-day", "2_000", "--tokens-per-minute", "none")
    assert changed.stdout == ""
    assert re.fullmatch(
        rf"key {id} is now: Shop; \w+; scopes chat; budgets tokens/day 2,000; expires 20\d\d-\d\d-\d\d \d\d:\d\d\n",
        changed.stderr,
    ), changed.stderr
    time.sleep(1.1)
    rotated = operator.done("rotate", id)
    assert f"still expired; `frontdesk keys change {id} --expires WHEN`" in rotated.stderr
    assert KEY.fullmatch(rotated.stdout.strip()), "anything else on stdout breaks KEY=$(frontdesk keys rotate ID)"
    assert rotated.stdout.split("_")[1] == id
    assert rotated.stdout.strip() != key
    options = ("--name", "Shop [bold]x", "--scope", "usage", "--scope", "admin", "--expires", "never")
    changed = operator.done("change", id, *options, "--requests-per-minute", "7")
    now = "Shop [bold]x; active; scopes admin usage; budgets tokens/day 2,000, requests/minute 7; expires -"
    assert changed.stderr == f"key {id} is now: {now}\n"
    operator.done("revoke", id)
    for arguments in (["change", id, *options], ["rotate", id]):
        refused = operator("keys", *arguments)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "not revoked" in refused.stderr


def test_a_widgets_key_is_the_widgets(tmp_path: Path) -> None:
    """Whoever rotates what `keys list` shows would hold a key that spends a widget's budgets and asks what it likes."""
    operator = Operator(tmp_path / "f.db")
    widget = operator("widgets", "create", "x", "--origin", "https://shop.example").stdout.strip()
    id = widget.removeprefix("wgt_")
    before = operator.done("list").stdout
    for arguments in (["rotate", id], ["change", id, "--scope", "admin"]):
        refused = operator("keys", *arguments)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"frontdesk widgets change {widget}" in refused.stderr
    assert operator.done("list").stdout == before


def test_a_running_server_hears_of_keys(house: Server, tmp_path: Path) -> None:
    """A server would have to be restarted for every new key, and would go on to serve one that was revoked."""
    url = house.url + "/v1/models"
    assert httpx2.get(url).status_code == 401
    key = frontdesk("keys", "create", "x", database=house.database, folder=tmp_path).stdout.strip()
    headers = {"authorization": f"Bearer {key}"}
    assert httpx2.get(url, headers=headers).status_code == 200
    assert frontdesk("keys", "revoke", key, database=house.database, folder=tmp_path).returncode == 0
    answer = heard(lambda: httpx2.get(url, headers=headers), 401)
    assert answer.json()["error"]["code"] == "revoked_api_key"


def test_a_rotated_key_keeps_what_was_said(house: Server, tmp_path: Path) -> None:
    """After a leak the old text would go on to work, or all conversations be out of reach for good, also to delete."""

    def call(credential: str, method: str, path: str, body: object = None) -> httpx2.Response:
        with httpx2.Client(base_url=house.url, headers={"authorization": f"Bearer {credential}"}, timeout=60) as client:
            return client.request(method, path, json=body)

    old = frontdesk("keys", "create", "x", database=house.database, folder=tmp_path).stdout.strip()
    conversation = call(old, "POST", "/v1/conversations", {}).json()["id"]
    said = {"input": "Hi", "conversation": conversation, "max_output_tokens": 4}
    assert call(old, "POST", "/v1/responses", said).status_code == 200
    items = f"/v1/conversations/{conversation}/items"
    before = call(old, "GET", items).json()
    assert len(before["data"]) == 2
    visitor = call(old, "POST", "/v1/visitors", {}).json()["value"]

    rotated = frontdesk("keys", "rotate", old, database=house.database, folder=tmp_path)
    assert "visitors' tokens" in rotated.stderr
    new = rotated.stdout.strip()
    answer = heard(lambda: call(old, "GET", items), 401)
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert call(new, "GET", items).json() == before
    assert call(new, "POST", "/v1/responses", said).status_code == 200
    assert call(visitor, "GET", "/v1/conversations").status_code == 200
    assert call(new, "DELETE", f"/v1/conversations/{conversation}").status_code == 200


def test_a_running_server_follows_a_change(house: Server) -> None:
    """A budget that was raised would go on to refuse and one that was lowered to let through, for as long as the server
    has the account in memory."""
    operator = Operator(Path(house.database))
    key = operator.done("create", "x").stdout.strip()

    def ask() -> httpx2.Response:
        body = {"input": "Hi", "store": False, "max_output_tokens": 4}
        return httpx2.post(
            house.url + "/v1/responses", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60
        )

    def change(*arguments: str) -> None:
        operator.done("change", key, *arguments)

    change("--tokens-total", "100000")
    heard(lambda: answer if (answer := ask()).headers.get("x-ratelimit-limit-tokens") == "100000" else None, 200)
    change("--tokens-total", "10")
    refused = heard(ask, 429).json()["error"]
    assert (refused["code"], refused["limit"], refused["remaining"]) == ("insufficient_quota", 10, 0)
    change("--tokens-total", "100000")
    assert int(heard(ask, 200).headers["x-ratelimit-remaining-tokens"]) < 100_000 - 10, "what was used counts"
    change("--tokens-total", "none", "--scope", "usage")
    assert "scope 'chat'" in heard(ask, 403).json()["error"]["message"]
    change("--scope", "chat", "--expires", "1s")
    assert heard(ask, 401).json()["error"]["code"] == "expired_api_key"
    change("--expires", "never")
    assert "x-ratelimit-limit-tokens" not in heard(ask, 200).headers


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
