"""From the start of a server's process to the first token of an answer.

    python bench/start.py                                            # the shipped model
    python bench/start.py --model bench/models/qwen2.5-0.5b-q4_0.gguf  # beside llama-server

The files are in the system's cache after the first round, which is not counted; a model that would be tuned at its
first start is tuned in that round. Told are its parts: until the port answers, until the model is ready, until the
first token; and apart from that what importing the package takes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from peer_servers import ROOT, Peer, Setup, frontdesk, llama_server, peers_folder, spawned
from report import show

from frontdesk.bench.figures import paired_ratios, spread

SHIPPED: Final = ROOT / "weights" / "frontdesk-small-q8_0.gguf"
PATIENCE: Final = 120.0  # seconds
PAUSE: Final = 0.005  # between two looks at a server


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds since the process was started."""

    port: float
    ready: float
    token: float


def measure(peer: Peer, setup: Setup, folder: Path) -> Start:
    begun = time.perf_counter()
    with spawned(peer, setup, folder) as (_, url):
        port = None
        while True:
            status = _status(url + peer.probe)
            now = time.perf_counter() - begun
            if status is not None and port is None:
                port = now
            if status == 200:
                break
            if now > PATIENCE:
                raise SystemExit(f"{peer.name} is not ready after {PATIENCE:.0f} s")
            time.sleep(PAUSE)
        _first_token(url)
        return Start(port or now, now, time.perf_counter() - begun)


def _status(url: str) -> int | None:
    """None while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, OSError):
        return None


def _first_token(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "When are you open?"}], "stream": True, "max_tokens": 8}
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        for line in answer:
            if line.startswith(b"data: {") and any(c["delta"].get("content") for c in json.loads(line[6:])["choices"]):
                return
    raise SystemExit(f"{url} answered without a token")


def import_seconds() -> float:
    """What the service's own process imports before it listens."""
    code = "import time; t = time.perf_counter(); import frontdesk.server.serve; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="From a server's start to its first token.")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--alone", action="store_true", help="without llama-server beside it")
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    setup = Setup(options.model.resolve(), 4, 2048, len(os.sched_getaffinity(0)))
    home = None if options.alone else peers_folder()
    peers = [frontdesk(), *([llama_server(home)] if home else [])]
    found: dict[str, list[Start]] = {peer.name: [] for peer in peers}
    with tempfile.TemporaryDirectory(prefix="frontdesk-start-") as folder:
        for turn in range(options.repeat + 1):
            for number, peer in enumerate(peers):
                start = measure(peer, setup, Path(folder) / f"{turn}-{number}")
                if turn:
                    found[peer.name].append(start)
    imports = [import_seconds() for _ in range(options.repeat)]
    rows = [
        {
            "server": name,
            "port answers s": spread([s.port for s in starts], 2),
            "ready s": spread([s.ready for s in starts], 2),
            "first token s": spread([s.token for s in starts], 2),
        }
        for name, starts in found.items()
    ]
    show(f"{options.model.stem}: from the start to the first token", rows, _details(found), options.json)
    print(f"importing frontdesk.server: {spread(imports, 2)} s")
    if len(found) == 2:
        ours, theirs = ([start.token for start in starts] for starts in found.values())
        print(f"Frontdesk : llama-server, first token: {spread(paired_ratios(ours, theirs), 2)}")
        print(f"Frontdesk - llama-server: {spread([a - b for a, b in zip(ours, theirs, strict=True)], 2)} s")


def _details(found: dict[str, list[Start]]) -> dict[str, list[dict[str, float]]]:
    return {name: [asdict(start) for start in starts] for name, starts in found.items()}


if __name__ == "__main__":
    main()
