"""A real server for tests: `python -m frontdesk serve` on a free port, with the shipped model, as its own process.

`server` is shared by the whole run. `start_server` starts further ones with other flags and stops them at the test's
end; `launch` is the same as a context manager, for fixtures of a wider scope. Every server has a database of its own
beside its log, unless the caller names one; what is started by other means than these keeps its own in a folder of the
run, never in the user's.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from tests.processes import standing_still

# A machine that does other things too may take long over one example, or over drawing it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]
URL = re.compile(r"http://[\w.\[\]:]+:\d+")
START_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A running server. `url` has no path; `log` holds all that it printed; `database` is as `frontdesk` takes it."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    database: str

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def engine_pid(self) -> int:
        """Process id of the engine: the server's only child that runs Python."""
        found = self.engine_pids()
        assert len(found) == 1, f"expected one engine process, found {found}"
        return found[0]

    def engine_pids(self) -> list[int]:
        """None while a dead engine has not been replaced."""
        return [pid for pid in children(self.process.pid) if b"frontdesk.worker" in command_line(pid)]

    def ready(self) -> dict[str, Any]:
        """Body of /readyz, which counts open, running and waiting requests."""
        return httpx2.get(self.url + "/readyz", timeout=30, verify=False).json()

    def wait_for(self, count: str, least: int, seconds: float = 60.0) -> None:
        """Wait until a count of /readyz ("open", "running", "waiting") is at least `least`."""
        deadline = time.monotonic() + seconds
        while (body := self.ready()).get(count, 0) < least:
            assert time.monotonic() < deadline, f"{count} did not reach {least} in {seconds} s: {body}"
            time.sleep(0.002)

    def wait_idle(self, seconds: float = 30.0) -> None:
        """Wait until no request is open. Fails when one stays."""
        deadline = time.monotonic() + seconds
        while (body := self.ready())["open"]:
            assert time.monotonic() < deadline, f"requests are still open after {seconds} s: {body}"
            time.sleep(0.02)

    def held(self) -> AbstractContextManager[None]:
        """The engine stands still meanwhile: no reply goes on or ends by itself, however fast the machine is."""
        return standing_still(self.engine_pid)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


def children(pid: int) -> list[int]:
    """Processes that any thread of `pid` has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += map(int, task.read_text().split())
    return found


def command_line(pid: int) -> bytes:
    """Empty for a process that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@contextmanager
def running_server(
    log: Path, *flags: str, program: Sequence[str] = ("-m", "frontdesk"), **variables: str
) -> Iterator[Server]:
    """`flags` go to `frontdesk serve`; `variables` become FRONTDESK_* in its environment. `program` is what Python runs
    in the place of the package."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRONTDESK_")}
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "backend")]))
    variables.setdefault("database", str(log.parent / "frontdesk.db"))
    settings = {f"FRONTDESK_{name.upper()}": value for name, value in variables.items()}
    command = [sys.executable, *program, "serve", "--port", "0", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**inherited, "PYTHONPATH": path, **settings}, stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, cwd=log.parent, start_new_session=True,
        )  # fmt: skip
    try:
        server = Server(_printed_url(process, log), process, log, variables["database"])
        _wait_until_ready(server)
        yield server
    finally:
        process.kill()
        process.wait()


def _printed_url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found := URL.search(log.read_text(errors="replace")):
            return found[0]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the server printed no URL:\n{log.read_text(errors='replace')}")


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(server):
        assert server.process.poll() is None, f"the server ended:\n{server.log.read_text(errors='replace')}"
        assert time.monotonic() < deadline, "the model did not load in time"
        time.sleep(0.05)


def _is_ready(server: Server) -> bool:
    try:
        return server.ready()["status"] == "ready"
    except httpx2.TransportError:
        server.process.wait(10)  # it has just ended: its log says why
        return False


@pytest.fixture(scope="session", autouse=True)
def _state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where servers that name no database keep it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[Server]]:
    """`with launch(*flags, **settings) as server`: another server."""

    def start(*flags: str, **variables: str) -> AbstractContextManager[Server]:
        return running_server(tmp_path_factory.mktemp("server") / "log.txt", *flags, **variables)

    return start


@pytest.fixture(scope="session")
def server(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """The server that all tests share: default settings, the shipped model."""
    with launch() as running:
        yield running


@pytest.fixture
def start_server(launch: Callable[..., AbstractContextManager[Server]]) -> Iterator[Callable[..., Server]]:
    """`start_server(*flags, **settings)`: another server, stopped when the test ends."""
    with ExitStack() as stack:
        yield lambda *flags, **variables: stack.enter_context(launch(*flags, **variables))
