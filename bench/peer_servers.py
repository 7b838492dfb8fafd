"""How each server of the comparison is started and stopped: the same model, context, threads and cores for all.

What `bench/build_peers.sh` built is looked for where that script keeps it. Knows no workload and no figure.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 300
STOP_SECONDS = 20
LOG = "log.txt"


class NoPeer(Exception):
    """A server cannot be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What all servers are given. `ctx`: tokens that each of `slots` conversations may hold. `threads`: 0 lets each
    choose for itself."""

    model: Path
    slots: int
    ctx: int
    threads: int

    @property
    def cells(self) -> int:
        return self.slots * self.ctx

    def with_threads(self, *flags: str) -> list[str]:
        """Each of these flags with the number of threads; nothing where the server is to choose."""
        return [word for flag in flags for word in (flag, str(self.threads))] if self.threads else []


@dataclass(frozen=True, slots=True)
class Peer:
    """One server. `command` makes its command line from the setup, a free port and an empty folder; `wanted` are the
    files that it needs; `probe` is what it answers with 200 once its model is loaded."""

    name: str
    command: Callable[[Setup, int, Path], list[str]]
    wanted: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    probe: str = "/v1/models"

    @property
    def missing(self) -> Path | None:
        return next((path for path in self.wanted if not path.exists()), None)


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    pid: int


def peers_folder() -> Path | None:
    """What the newest run of build_peers.sh left."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frontdesk" / "peers"
    found = sorted(cache.glob("*/build/done"), key=lambda path: path.stat().st_mtime)
    return found[-1].parents[1] if found else None


def frontdesk(flags: tuple[str, ...] = (), program: tuple[str, ...] = ("-m", "frontdesk")) -> Peer:
    """`program` is what Python runs in the place of the package."""

    def command(setup: Setup, port: int, folder: Path) -> list[str]:
        return [
            *(sys.executable, *program, "serve", "--model", str(setup.model), "--port", str(port)),
            *("--slots", str(setup.slots), "--ctx", str(setup.ctx), "--kv-tokens", str(setup.cells)),
            *("--database", str(folder / "frontdesk.db"), "--log-level", "error", *setup.with_threads("--threads")),
            *flags,
        ]

    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "backend")]))
    return Peer("Frontdesk", command, environment={"PYTHONPATH": path}, probe="/readyz")


def llama_server(home: Path, name: str = "llama-server -np N", flags: tuple[str, ...] = ()) -> Peer:
    program = home / "build" / "bin" / "llama-server"

    def command(setup: Setup, port: int, folder: Path) -> list[str]:
        return [
            *(str(program), "-m", str(setup.model), "--port", str(port), "-np", str(setup.slots)),
            *("-c", str(setup.cells), "--no-webui", *setup.with_threads("-t", "-tb")),
            *flags,
        ]

    return Peer(name, command, (program,), probe="/health")


def classic_server(home: Path) -> Peer:
    """llama-cpp-python's own: one request at a time. Without the last flag a new one would cut the running one."""
    python = home / "venv" / "bin" / "python"

    def command(setup: Setup, port: int, folder: Path) -> list[str]:
        return [
            *(str(python), "-m", "llama_cpp.server", "--model", str(setup.model), "--port", str(port)),
            *("--n_ctx", str(setup.ctx), "--interrupt_requests", "false"),
            *setup.with_threads("--n_threads", "--n_threads_batch"),
        ]

    return Peer("llama_cpp.server", command, (python,))


def example_server(home: Path) -> Peer:
    """llama-cpp-python's newer one, which stands among its examples and reads a file."""
    python, program = home / "venv" / "bin" / "python", home / "src" / "examples" / "server" / "server.py"

    def command(setup: Setup, port: int, folder: Path) -> list[str]:
        model = {
            "path": str(setup.model),
            "alias": "model",
            "n_ctx": setup.cells,
            "n_seq_max": setup.slots,
            **({"threads": setup.threads, "threads_batch": setup.threads} if setup.threads else {}),
        }
        config = {"server": {"host": "127.0.0.1", "port": port}, "model": model}
        (folder / "server.json").write_text(json.dumps(config))
        return [str(python), str(program), "-C", str(folder / "server.json")]

    return Peer("examples/server", command, (python, program))


@contextmanager
def running(peer: Peer, setup: Setup, folder: Path) -> Iterator[Running]:
    """The server, once it answers. Its output goes to a file in `folder`. Raises `NoPeer`."""
    with spawned(peer, setup, folder) as (process, url):
        _wait(peer, process, url, folder / LOG)
        yield Running(url, process.pid)


@contextmanager
def spawned(peer: Peer, setup: Setup, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The server's process and its URL, which may not answer yet. Raises `NoPeer`."""
    if peer.missing:
        raise NoPeer(f"{peer.name}: {peer.missing} is missing; run bench/build_peers.sh")
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    log = folder / LOG
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRONTDESK_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            peer.command(setup, port, folder), env={**inherited, **peer.environment}, cwd=folder, stdout=output,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        _stop(process)


def _wait(peer: Peer, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise NoPeer(f"{peer.name} ended with code {process.returncode}:\n{last}")
        if _answers(url + peer.probe):
            return
        time.sleep(0.1)
    raise NoPeer(f"{peer.name} does not answer after {START_SECONDS} s; its output is in {log}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The whole group: a server may have started others."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def burning(count: int) -> Iterator[None]:
    """So many processes that want a whole core each. They end with this one, however it ends."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def ceiling(home: Path, setup: Setup, prompt: int, new: int, streams: int) -> dict[str, float]:
    """llama-batched-bench: the same kernels without a server. `all` and `steady` in tokens/s, as a run's. Raises
    `NoPeer`."""
    program = home / "build" / "bin" / "llama-batched-bench"
    if not program.exists():
        raise NoPeer(f"{program} is missing; run bench/build_peers.sh")
    command = [
        *(str(program), "-m", str(setup.model), "-c", str(setup.cells), "-npp", str(prompt), "-ntg", str(new)),
        *("-npl", str(streams), "--output-format", "jsonl", *setup.with_threads("-t", "-tb")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise NoPeer(f"llama-batched-bench ended with code {done.returncode}: {done.stderr[-300:]}")
    told = json.loads(lines[-1])
    return {"all": streams * new / told["t"], "steady": told["speed_tg"]}
