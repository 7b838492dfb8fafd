"""How soon the visitors of a widget get their first token: each is somebody of their own, all talk to one persona.

    python bench/visitors.py --model bench/models/qwen2.5-0.5b-q4_0.gguf
    python bench/visitors.py --model MODEL --before ../frontdesk-before    beside another checkout, taking turns

A server with `--auth on`, a widget, and one visitor after the other, with a session each and two questions. What is
told apart: the first question of the first visitor, which computes the persona; that of the others; and second ones.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from peer_servers import ROOT, Peer, Setup, frontdesk, running
from report import show

from frontdesk.bench.client import Target
from frontdesk.bench.figures import spread
from frontdesk.bench.reply import Reply, read_responses

SHOP: Final = "https://shop.example"
QUESTIONS: Final = ("When are you open?", "And how much is express shipping?")
REPLY: Final = 8  # tokens
KINDS: Final = ("first visitor", "other visitors", "second questions")


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: what kind, milliseconds to the first token, prompt tokens that had been computed before."""

    kind: str
    first: float
    cached: int


def peer_of(checkout: Path) -> Peer:
    peer = frontdesk(("--auth", "on"))
    return Peer(checkout.name, peer.command, environment={"PYTHONPATH": str(checkout / "backend")}, probe=peer.probe)


def new_widget(peer: Peer, folder: Path) -> str:
    command = [sys.executable, "-m", "frontdesk", "widgets", "create", "shop", "--origin", SHOP]
    command += ["--persona", "demo_shop", "--database", str(folder / "frontdesk.db")]
    done = subprocess.run(command, env={**os.environ, **peer.environment}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def ask(url: str, session: dict[str, Any], question: str) -> Reply:
    target = Target(url, key=session["token"])
    body = {"input": question, "conversation": session["conversation"], "stream": True, "max_output_tokens": REPLY}
    reply = asyncio.run(target.stream("/responses", body | target.more, read_responses, Reply(asked=REPLY)))
    if reply.error:
        raise SystemExit(reply.error)
    return reply


def measure(peer: Peer, setup: Setup, visitors: int) -> list[Asked]:
    asked: list[Asked] = []
    with tempfile.TemporaryDirectory() as folder, running(peer, setup, Path(folder)) as server:
        widget = new_widget(peer, Path(folder))
        with httpx2.Client(base_url=server.url, timeout=300, headers={"origin": SHOP}) as client:
            while (begun := client.post("/v1/widget/sessions", json={"widget": widget})).status_code != 200:
                time.sleep(0.1)  # a running server takes notice within about a second
            for number in range(visitors):
                session = begun.json()
                kinds = (KINDS[number > 0], KINDS[2])
                for kind, question in zip(kinds, QUESTIONS, strict=True):
                    reply = ask(server.url, session, question)
                    asked.append(Asked(kind, reply.ttft * 1000, reply.cached_tokens))
                begun = client.post("/v1/widget/sessions", json={"widget": widget})
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--visitors", type=int, default=8)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    setup = Setup(options.model.resolve(), options.slots, 2048, 0)
    peers = [peer_of(checkout.resolve()) for checkout in (options.before, ROOT) if checkout]
    found: dict[str, list[Asked]] = {peer.name: [] for peer in peers}
    for number in range(options.rounds):
        for peer in peers:
            print(f"round {number + 1} of {options.rounds}: {peer.name}", file=sys.stderr, flush=True)
            found[peer.name] += measure(peer, setup, options.visitors)
    rows = [
        {
            "checkout": name,
            "question": kind,
            "first token ms": spread([each.first for each in asked if each.kind == kind], 0),
            "cached tokens": spread([each.cached for each in asked if each.kind == kind], 0),
        }
        for name, asked in found.items()
        for kind in KINDS
    ]
    title = f"Visitors of a widget, {options.visitors} one after the other, {options.rounds} rounds"
    show(title, rows, rows, options.json)


if __name__ == "__main__":
    main()
