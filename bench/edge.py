"""What the service adds to a token: 1,000 streams of an engine without a model, 20,000 tokens a second.

    python bench/edge.py --streams 1000 --tokens 400 --interval 0.05

Latency is from the engine's step to the bytes' arrival in the client, which runs on the same cores and reads bare
sockets; its own CPU is told beside the server's. Told for SSE (Chat Completions) and for the Responses WebSocket, over
the middle part of the run, when all streams write.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import struct
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop
from peer_servers import ROOT, Setup, frontdesk, running
from report import show

from frontdesk.bench.figures import percentile, spread
from frontdesk.bench.processes import Cpu, descendants, seconds

SHIPPED: Final = ROOT / "weights" / "frontdesk-small-q8_0.gguf"
TEXT: Final = {
    "sse": re.compile(rb'"content":"([^"\\]+)"'),
    "ws": re.compile(rb'output_text\.delta"[^{}]*"delta":"([^"\\]+)"'),
}
KEPT: Final = 4096  # bytes of an unfinished frame
MIDDLE: Final = (0.3, 0.8)  # of a reply's tokens


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. Latencies in milliseconds, CPU in microseconds for each token."""

    rate: float
    p50: float
    p95: float
    p99: float
    worst: float
    server: float
    client: float


@dataclass(slots=True)
class Reader(asyncio.Protocol):
    """One stream: asks as soon as it is connected, and notes when each token came."""

    seed: int
    request: bytes
    first: Callable[[], bytes] | None  # what is sent after a WebSocket's handshake
    pattern: re.Pattern[bytes]
    wanted: int
    done: asyncio.Future[None]
    times: list[float] = field(default_factory=list)
    rest: bytes = b""
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self.first and b"101 Switching" in data:
            assert self.transport
            self.transport.write(self.first())
            self.first = None
            return
        data = self.rest + data
        end = 0
        for found in self.pattern.finditer(data):
            self.times += [now] * len(found[1])
            end = found.end()
        self.rest = data[end:][-KEPT:]
        if len(self.times) >= self.wanted and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            told = f"closed after {len(self.times)} tokens: {self.rest[-300:]!r}"
            self.done.set_exception(exc or ConnectionError(told))


def sse_request(host: str, seed: int, tokens: int) -> bytes:
    body = json.dumps(
        {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": tokens, "seed": seed}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ws_request(host: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /v1/responses HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def ws_question(seed: int, tokens: int) -> bytes:
    """`response.create` as one masked text frame (RFC 6455, 5.2), with a mask of zeros."""
    body = json.dumps(
        {"type": "response.create", "input": "Hello", "store": False, "max_output_tokens": tokens, "seed": seed}
    ).encode()
    assert 125 < len(body) < 65_536 or len(body) <= 125
    size = bytes([0x80 | len(body)]) if len(body) <= 125 else bytes([0x80 | 126]) + struct.pack(">H", len(body))
    return b"\x81" + size + b"\0\0\0\0" + body


async def drive(url: str, pid: int, kind: str, streams: int, tokens: int) -> tuple[list[Reader], Cpu, float]:
    """All streams at once. The CPU is that of the middle part, when all write; so are the seconds."""
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    readers = []
    for seed in range(1, streams + 1):
        request = sse_request(parts.netloc, seed, tokens) if kind == "sse" else ws_request(parts.netloc)
        first = (lambda seed=seed: ws_question(seed, tokens)) if kind == "ws" else None
        reader = Reader(seed, request, first, TEXT[kind], tokens, loop.create_future())
        await loop.create_connection(lambda reader=reader: reader, parts.hostname or "", parts.port or 80)
        readers.append(reader)
    everyone = asyncio.gather(*(reader.done for reader in readers))
    marks = []
    for part in MIDDLE:
        while not everyone.done() and min(len(reader.times) for reader in readers) < part * tokens:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        used = Cpu(seconds(pid), sum(map(seconds, descendants(pid))), time.process_time())
        marks.append((used, time.monotonic(), sum(len(reader.times) for reader in readers)))
    await everyone
    (before, begun, had), (after, ended, have) = marks
    for reader in readers:
        assert reader.transport
        reader.transport.close()
    return readers, after.since(before), (have - had) / (ended - begun)


def latencies(readers: list[Reader], log: Path, tokens: int) -> list[float]:
    """Seconds from step to arrival, of the middle part of each reply."""
    steps: dict[int, list[float]] = defaultdict(list)
    began: dict[int, tuple[int, int]] = {}
    for line in log.read_text().splitlines():
        kind, *rest = line.split()
        if kind == "reply":
            began[int(rest[0])] = (int(rest[1]), int(rest[2]))
        elif len(rest) == 2:
            steps[int(rest[0])].append(float(rest[1]))
    low, high = (int(part * tokens) for part in MIDDLE)
    found = []
    for reader in readers:
        group, first = began[reader.seed]
        found += [reader.times[i] - steps[group][first + i] for i in range(low, high)]
    return found


def run(kind: str, streams: int, tokens: int, interval: float, folder: Path) -> Figures:
    log = folder / f"{kind}.log"

    peer = frontdesk(program=(str(ROOT / "bench" / "edge_engine.py"),))
    environment = {
        **peer.environment, "PYTHONPATH": os.pathsep.join([peer.environment["PYTHONPATH"], str(ROOT / "bench")]),
        "EDGE_LOG": str(log), "EDGE_INTERVAL": str(interval), "EDGE_STREAMS": str(streams),
        "FRONTDESK_MAX_WAITING": str(2 * streams), "FRONTDESK_MAX_CONNECTIONS": str(2 * streams),
        "FRONTDESK_PERSONA": "none",
    }  # fmt: skip
    peer, setup = replace(peer, environment=environment), Setup(SHIPPED, 256, 4096, 1)
    with running(peer, setup, folder / kind) as at:
        readers, cpu, rate = uvloop.run(drive(at.url, at.pid, kind, streams, tokens))
        time.sleep(1.0)  # the log
    found = [1000 * latency for latency in latencies(readers, log, tokens)]
    # What was used in the middle part, for each token of it.
    share = (MIDDLE[1] - MIDDLE[0]) * tokens * streams
    p50, p95, p99 = (percentile(found, p) for p in (50, 95, 99))
    return Figures(rate, p50, p95, p99, max(found), 1e6 * cpu.own / share, 1e6 * cpu.client / share)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the service adds to a token.")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=400, help="of each reply")
    parser.add_argument("--interval", type=float, default=0.05, help="seconds between two tokens of a reply")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    found: dict[str, list[Figures]] = {"sse": [], "ws": []}
    with tempfile.TemporaryDirectory(prefix="frontdesk-edge-") as folder:
        for turn in range(options.repeat):
            for kind, runs in found.items():
                home = Path(folder) / str(turn)
                home.mkdir(exist_ok=True)
                runs.append(run(kind, options.streams, options.tokens, options.interval, home))
                print(f"  {kind}: {runs[-1]}", file=sys.stderr, flush=True)
    rows = [
        {
            "transport": kind,
            "tokens/s": spread([r.rate for r in runs], 0),
            "added ms P50": spread([r.p50 for r in runs]),
            "P95": spread([r.p95 for r in runs]),
            "P99": spread([r.p99 for r in runs]),
            "worst": spread([r.worst for r in runs]),
            "server us/token": spread([r.server for r in runs]),
            "client us/token": spread([r.client for r in runs]),
        }
        for kind, runs in found.items()
    ]
    title = f"{options.streams} streams, {options.streams / options.interval:,.0f} tokens/s wanted"
    show(title, rows, {kind: [asdict(r) for r in runs] for kind, runs in found.items()}, options.json)


if __name__ == "__main__":
    main()
