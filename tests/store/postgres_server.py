"""A private PostgreSQL server in a temporary folder, from the server binaries of the machine; reached by a UNIX socket.

It refuses to run as root, so as root it runs as the user `postgres`.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

USER = "frontdesk"


def binaries() -> Path | None:
    """The folder of the newest server, if there is one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found and (elsewhere := shutil.which("initdb")):
        found = [Path(elsewhere).resolve().parent]
    return max(found, key=_version, default=None)


@dataclass(frozen=True)
class PostgresServer:
    """`folder` holds its data, its socket and its log."""

    programs: Path
    folder: Path

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """URL of a database of its own, empty."""
        name = f"test_{uuid4().hex}"
        self.execute(self.url("postgres"), f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, url: str, statement: str) -> None:
        async def execute() -> None:
            connection = await asyncpg.connect(url)
            await connection.execute(statement)
            await connection.close()

        in_a_thread(execute)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c full_page_writes=off"
        self._control("-l", str(self.folder / "log"), "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate` is as if the power had failed."""
        self._control("-m", mode, "-w", "stop")

    def make(self) -> None:
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "--locale=C", "-E", "UTF8")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr.decode(errors='replace')}"


def reason_against() -> str | None:
    """Why no server can be started here."""
    if binaries() is None:
        return "no PostgreSQL server binaries (Debian: apt install postgresql)"
    if os.geteuid() == 0 and (shutil.which("runuser") is None or not _exists("postgres")):
        return "PostgreSQL does not run as root, and there is no user `postgres` to run it as"
    return None


def in_a_thread(call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on a loop of its own, also while another loop runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(call())).result()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A new, empty server. Call it only if `reason_against` knows none."""
    programs = binaries()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        shutil.chown(folder, "postgres" if os.geteuid() == 0 else getpass.getuser())
        server = PostgresServer(programs, Path(folder))
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _version(path: Path) -> list[int]:
    return [int(part) for part in path.parent.name.split(".") if part.isdigit()]


def _exists(user: str) -> bool:
    return subprocess.run(["id", user], capture_output=True, check=False).returncode == 0
