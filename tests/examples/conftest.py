"""The examples as their readers run them: packages from `npm ci`, scripts as programs, pages in a real Chromium.

Packages are installed once, beside the example, and again when its lock file has changed. Without Node or a registry
the tests that need them are skipped, and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.conftest import ROOT
from tests.web.conftest import browser

if TYPE_CHECKING:
    from tests.conftest import Server

__all__ = ["browser"]

EXAMPLES = ROOT / "examples"
INSTALLED = ".frontdesk-lock"  # the lock file that node_modules was made from
NOTICE_SECONDS = 30.0  # a server takes notice within about one
NPM = ("npm", "ci", "--no-audit", "--no-fund", "--silent")

MakeWidget = Callable[..., str]
Serve = Callable[..., str]


@pytest.fixture(scope="session")
def installed() -> Callable[[str], Path]:
    """`installed("ai-sdk")`: the example's folder, with its packages."""

    def install(name: str) -> Path:
        folder = EXAMPLES / name
        lock, copy = folder / "package-lock.json", folder / "node_modules" / INSTALLED
        if copy.exists() and copy.read_bytes() == lock.read_bytes():
            return folder
        if shutil.which("npm") is None:
            pytest.skip(f"!! NOT TESTED: examples/{name} needs Node and npm")
        done = subprocess.run(NPM, cwd=folder, capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"!! NOT TESTED: the packages of examples/{name} could not be installed: {done.stderr[-300:]}")
        shutil.copy(lock, copy)
        return folder

    return install


def _frontdesk(server: Server, *words: str) -> str:
    """What `frontdesk` prints, as an operator runs it beside a server."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "backend")]))
    command = [sys.executable, "-m", "frontdesk", *words, "--database", server.database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture
def make_widget() -> MakeWidget:
    """`make_widget(server, origin, *flags)`: id of a new widget that the server has taken notice of."""

    def make(server: Server, origin: str, *flags: str) -> str:
        made = _frontdesk(server, "widgets", "create", "example", "--origin", origin, *flags)
        preflight = {"origin": origin, "access-control-request-method": "POST"}
        deadline = time.monotonic() + NOTICE_SECONDS
        while httpx2.options(f"{server.url}/v1/widget/sessions", headers=preflight, timeout=30).status_code != 200:
            assert time.monotonic() < deadline, f"the server did not take notice of {made}"
            time.sleep(0.05)
        return made

    return make


@pytest.fixture
def widget_secret() -> Callable[..., str]:
    """`widget_secret(server, widget)`: the secret that signs identities for a widget."""
    return lambda server, widget: _frontdesk(server, "widgets", "secret", widget)


class _Example(SimpleHTTPRequestHandler):
    """The files of an example. `edits` are made to its page, as its README tells the reader to make them."""

    def __init__(self, *args: object, edits: dict[str, str], directory: str) -> None:
        self._edits = edits
        super().__init__(*args, directory=directory)  # pyright: ignore[reportArgumentType]

    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        page = Path(self.directory, "index.html").read_text("utf-8")
        for old, new in self._edits.items():
            assert old in page, f"the page has no {old}"
            page = page.replace(old, new)
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output to the test."""


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(folder, edits)`: origin under which the folder's files are served. `edits` may be filled in afterwards."""
    running: list[ThreadingHTTPServer] = []

    def start(folder: Path, edits: dict[str, str]) -> str:
        files = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Example, edits=edits, directory=str(folder)))
        running.append(files)
        threading.Thread(target=files.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{files.server_port}"

    yield start
    for files in running:
        files.shutdown()
        files.server_close()
