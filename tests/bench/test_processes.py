"""CPU time of processes, and the one that listens on a port. Real ones of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from frontdesk.bench.machine import machine
from frontdesk.bench.processes import Cpu, descendants, is_local, listener, read, seconds

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"


def test_time_of_a_process_and_of_what_it_started_is_told_apart() -> None:
    """The engine's work would be counted as the service's, or not at all."""
    child = subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE)
    assert child.stdout
    try:
        before = read([os.getpid()])
        child.stdout.readline()
        assert child.pid in descendants(os.getpid())
        used = read([os.getpid()])
        assert seconds(child.pid) >= 0.25
        assert used.children >= 0.25
        assert read([child.pid]).own >= 0.25
        assert used.since(before).own < 0.25
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert seconds(child.pid) == 0.0


def test_the_listener_of_a_port_is_found() -> None:
    """`frontdesk bench` would tell no CPU time of a server that it can see."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert listener(port) is None
        server.listen()
        assert listener(port) == os.getpid()


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000", True), ("http://localhost/v1", True), ("http://[::1]:1", True),
        ("http://10.0.0.1:8000", False), ("https://api.example", False), ("nothing", False),
    ],
)  # fmt: skip
def test_only_a_server_of_this_machine_is_looked_for(url: str, here: bool) -> None:
    """The CPU time of a stranger on the same port number would be told."""
    assert is_local(url) is here


def test_the_machine_is_one_line() -> None:
    """Figures would stand without the machine that they were measured on."""
    found = machine()
    assert "cores" in found
    assert "load" in found
    assert "\n" not in found


def test_differences_are_of_each_part() -> None:
    """CPU of the run before would be counted again."""
    assert Cpu(3.0, 5.0, 7.0).since(Cpu(1.0, 2.0, 3.0)) == Cpu(2.0, 3.0, 4.0)
    began = time.process_time()
    assert read([]).client >= began
