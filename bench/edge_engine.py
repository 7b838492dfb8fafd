"""An engine without a model, for `edge.py`: so many steps a second, each with a token for every reply of its group.

    python bench/edge_engine.py serve …        a Frontdesk server whose engine is this one

It speaks the worker's protocol like the real engine. What it did and when goes to the file EDGE_LOG: a line for each
reply (`reply SEED GROUP STEP`: which step of its group has its first token) and for each step (`step GROUP TIME`, of
the clock that all processes of a machine share), in the order in which they happened.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Final

from frontdesk.worker.link import Link
from frontdesk.worker.protocol import Abort, Load, Ready, SequenceOutput, Stepped, StepStats, Submit

GROUPS: Final = 4  # a step of a real engine has at most 256 replies
TOKEN: Final = 87  # of the shipped model: a letter


class Script:
    """The replies in their groups, and the loop that gives each a token a step."""

    def __init__(self, link: Link, load: Load, log: Path, interval: float, streams: int) -> None:
        self._link = link
        self._log = log.open("w", buffering=1 << 16)
        self._interval = interval / GROUPS
        self._groups: list[dict[int, int]] = [{} for _ in range(GROUPS)]  # id to tokens that are left
        self._steps = [0] * GROUPS
        self._lock = threading.Lock()
        self._awaited = streams
        self._complete = threading.Event()
        self._cells = load.kv_cells
        link.send(
            Ready(load.window, load.kv_cells, load.slots, load.threads, 4096, load.window, 0.0, "no model: a script")
        )

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        self._complete.wait()
        due = time.monotonic()
        while True:
            for number in range(GROUPS):
                due += self._interval
                time.sleep(max(0.0, due - time.monotonic()))
                self._step(number)

    def _step(self, number: int) -> None:
        with self._lock:
            group = self._groups[number]
            if not group:
                return
            outputs = []
            for id, left in list(group.items()):
                outputs.append(SequenceOutput(id, (TOKEN,), "" if left > 1 else "length", -1, ()))
                group[id] = left - 1
                if left == 1:
                    del group[id]
            self._steps[number] += 1
            running = sum(map(len, self._groups))
            stats = StepStats(running, 0, running, self._cells, 0, len(outputs), 0, 0.0, 0.0)
            self._log.write(f"step {number} {time.monotonic()}\n")
            if not any(self._groups):
                self._log.flush()
        self._link.send(Stepped(tuple(outputs), stats))

    def _read(self) -> None:
        while True:
            message = self._link.receive()
            with self._lock:
                if isinstance(message, Submit):
                    self._awaited -= 1
                    if self._awaited == 0:
                        self._complete.set()
                    number = min(range(GROUPS), key=lambda n: len(self._groups[n]))
                    self._groups[number][message.id] = message.max_tokens
                    self._log.write(f"reply {message.sampling.seed} {number} {self._steps[number]}\n")
                elif isinstance(message, Abort):
                    for group in self._groups:
                        group.pop(message.id, None)
                if not any(self._groups):
                    self._log.flush()


def engine() -> None:
    link = Link(socket.socket(fileno=int(sys.argv[1])))
    load = link.receive()
    assert isinstance(load, Load)
    given = os.environ
    Script(link, load, Path(given["EDGE_LOG"]), float(given["EDGE_INTERVAL"]), int(given["EDGE_STREAMS"])).run()


def server() -> None:
    """The `frontdesk` command with this engine in the place of the real one."""
    from frontdesk.cli.main import main
    from frontdesk.worker import client

    client.PROCESS = "edge_engine"  # pyright: ignore[reportAttributeAccessIssue]
    main()


if __name__ == "__main__":
    engine() if sys.argv[1].isdigit() else server()
