"""`frontdesk backup` and `restore` beside a real server, and after a process that was killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest
from typer.testing import CliRunner, Result

from frontdesk.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Server

RENAMED_AND_KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("UPDATE keys SET name = 'late'")
connection.commit()
os.kill(os.getpid(), 9)
"""


def frontdesk(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def done(*arguments: str | Path) -> str:
    result = frontdesk(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")


def test_a_copy_is_taken_while_the_server_runs(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """What was committed last lies in the WAL: a copy without it would lack the newest answers. And whoever restored
    beside a running server would have it write into a file that is no longer there."""
    database, copy = tmp_path / "live.db", tmp_path / "copies" / "copy.db"
    copy.parent.mkdir()
    server = start_server(database=str(database))
    first = client(server).responses.create(model="frontdesk-small", input="When are you open?")
    done("backup", copy, "--database", database)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert os.listdir(copy.parent) == ["copy.db"]
    second = client(server).responses.create(model="frontdesk-small", input="Do you sell gift cards?")
    refused = frontdesk("restore", copy, "--database", database)
    assert refused.exit_code == 1
    assert "stop it first" in refused.stderr
    assert client(server).responses.retrieve(second.id).output_text == second.output_text
    server.stop(signal.SIGKILL)
    done("restore", copy, "--database", database)
    server = start_server(database=str(database))
    assert client(server).responses.retrieve(first.id).output_text == first.output_text
    with pytest.raises(openai.NotFoundError):
        client(server).responses.retrieve(second.id)


def test_what_was_there_stays_beside_it(tmp_path: Path) -> None:
    """A WAL that a killed process left would be taken for the continuation of the copy, and undo the restoring; and
    whoever restored the wrong copy would have lost everything."""
    database, copy = tmp_path / "f.db", tmp_path / "copy.db"
    done("keys", "create", "early", "--database", database)
    done("backup", copy, "--database", database)
    subprocess.run([sys.executable, "-c", RENAMED_AND_KILLED, str(database)], check=False)
    assert (tmp_path / "f.db-wal").stat().st_size
    done("restore", copy, "--database", database)
    assert "early" in done("keys", "list", "--database", database)
    (former,) = tmp_path.glob("f.db.replaced-*[0-9]")
    wrong = copy.with_name("undone.db")
    done("restore", former, "--database", wrong)
    assert "late" in done("keys", "list", "--database", wrong), "what its WAL holds belongs to it"
    assert "late" in done("keys", "list", "--database", former)


def test_what_cannot_be_copied_or_put_back(tmp_path: Path) -> None:
    """A database would be replaced by something that is none, or by half of itself."""
    database = tmp_path / "f.db"
    assert frontdesk("backup", tmp_path / "copy.db", "--database", database).exit_code == 2
    done("keys", "create", "early", "--database", database)
    copy = tmp_path / "copy.db"
    done("backup", copy, "--database", database)
    half = tmp_path / "half.db"
    half.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE things (x)")
    text = tmp_path / "text.db"
    text.write_text("no database")
    for wrong in (half, other, text):
        assert frontdesk("restore", wrong, "--database", database).exit_code == 1
    assert frontdesk("restore", tmp_path / "none.db", "--database", database).exit_code == 2
    assert frontdesk("backup", database, "--database", database).exit_code == 1
    assert frontdesk("backup", tmp_path, "--database", database).exit_code == 2
    assert frontdesk("backup", tmp_path / "nowhere" / "copy.db", "--database", database).exit_code == 1
    assert frontdesk("backup", copy, "--database", "postgresql://localhost/x").exit_code == 2
    assert frontdesk("backup", copy, "--database", "memory").exit_code == 2
    assert "early" in done("keys", "list", "--database", database)
    assert {path.name for path in tmp_path.iterdir()} >= {"f.db", "copy.db"}
    assert not list(tmp_path.glob(".*"))
