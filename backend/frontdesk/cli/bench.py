"""`frontdesk bench`: its flags, and what is wrong with them. The load itself is run and told by `cli/bench_run`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from frontdesk.bench.workloads import DEFAULTS, Shape
from frontdesk.cli import options
from frontdesk.errors import FrontdeskError

TRANSPORTS = ("sse", "ws")

Url = Annotated[str, typer.Option("--url", metavar="URL", help="Any OpenAI-compatible server that runs.")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="API key of the server.")]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Model to ask for. Unset: the server's own choice.")
]
Workload = Annotated[str, typer.Option("--workload", metavar="NAME", help=f"One of {', '.join(DEFAULTS)}.")]
Transport = Annotated[
    str,
    typer.Option("--transport", metavar="sse|ws", help="Chat Completions over SSE, or the Responses WebSocket."),
]
Streams = Annotated[int | None, typer.Option("--streams", metavar="N", min=1, max=4096, help="Streams at once.")]
Rate = Annotated[
    float | None,
    typer.Option("--rate", metavar="X", min=0.001, max=10_000, help="Open loop: arrivals a second, at random moments."),
]
Requests = Annotated[
    int | None,
    typer.Option("--requests", metavar="N", min=1, max=1_000_000, help="Requests in all; in widget: visitors."),
]
Prompt = Annotated[
    int | None, typer.Option("--prompt-tokens", metavar="N", min=1, max=1_000_000, help="Length of each prompt.")
]
New = Annotated[int | None, typer.Option("--new-tokens", metavar="N", min=1, max=1_000_000, help="Length of replies.")]
Turns = Annotated[int | None, typer.Option("--turns", metavar="N", min=1, max=1000, help="widget: turns of a visitor.")]
Think = Annotated[
    float | None,
    typer.Option("--think", metavar="SECONDS", min=0, max=3600, help="widget: mean pause before a question."),
]
Persona = Annotated[
    int | None,
    typer.Option("--persona-tokens", metavar="N", min=1, max=1_000_000, help="widget: length of the shared persona."),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context-tokens", metavar="N", min=1, max=1_000_000,
        help="mixed: what each conversation holds before the clock begins.",
    ),
]  # fmt: skip
SloTtft = Annotated[
    float | None,
    typer.Option("--slo-ttft", metavar="MS", min=0, help="A reply is good if its first token came within this."),
]
SloItl = Annotated[
    float | None,
    typer.Option("--slo-itl", metavar="MS", min=0, help="A reply is good if its tokens came this close on average."),
]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="X", min=0, max=2, help="0 = always the likeliest token.")
]
IgnoreEos = Annotated[
    bool,
    typer.Option("--ignore-eos/--no-ignore-eos", help="Replies of full length. OpenAI itself knows no such field."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=1, max=86_400, help="Longest wait for one reply.")
]
Pid = Annotated[
    list[int] | None,
    typer.Option("--pid", metavar="PID", min=1, help="Process to tell the CPU time of; unset: found by the port."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="The same seed gives the same load.")]
ChartFile = Annotated[str | None, typer.Option("--chart", metavar="FILE", help="Write a chart (SVG) here.")]


def bench(
    url: Url = "http://127.0.0.1:8000",
    key: Key = None,
    model: Model = None,
    workload: Workload = "raw",
    transport: Transport = "sse",
    streams: Streams = None,
    rate: Rate = None,
    requests: Requests = None,
    prompt_tokens: Prompt = None,
    new_tokens: New = None,
    turns: Turns = None,
    think: Think = None,
    persona_tokens: Persona = None,
    context_tokens: Context = None,
    slo_ttft: SloTtft = None,
    slo_itl: SloItl = None,
    temperature: Temperature = 0.0,
    ignore_eos: IgnoreEos = True,
    timeout: Timeout = 600.0,
    pid: Pid = None,
    seed: Seed = 1,
    as_json: options.AsJson = False,
    chart: ChartFile = None,
) -> None:
    """Put load on a server and tell how soon and how fast it answers.

    A closed loop of --streams, each of which asks again when it is answered, or with --rate an open one. Prompts are
    made of random words and share nothing, but for the persona in widget. Numbers that are not given are the workload's
    own. Exit code 1: some reply failed.
    """
    more: dict[str, Any] = {"temperature": temperature, **({"ignore_eos": True} if ignore_eos else {})}
    given = {
        "streams": streams, "requests": requests, "prompt": prompt_tokens, "new": new_tokens, "turns": turns,
        "think": think, "persona": persona_tokens, "context": context_tokens, "rate": rate,
    }  # fmt: skip
    shape = _shape(workload, {name: value for name, value in given.items() if value is not None}, seed)
    if transport not in TRANSPORTS:
        options.fail(f"--transport {transport!r} should be one of {', '.join(TRANSPORTS)}")
    # Imported late: `--help` and a wrong flag are answered in a tenth of the time.
    from frontdesk.bench.client import Target
    from frontdesk.bench.report import Slo
    from frontdesk.cli.bench_run import Wanted, run

    slo = None if slo_ttft is None and slo_itl is None else Slo(_seconds(slo_ttft), _seconds(slo_itl))
    try:
        target = Target(url, model, key, transport, timeout, more)
        wanted = Wanted(target, workload, shape, slo, _processes(url, pid), _writable(chart), as_json)
        failed = run(wanted)
    except FrontdeskError as error:
        options.fail(error.message)
    except KeyboardInterrupt:
        options.fail("stopped; nothing was measured", 130)
    raise typer.Exit(1 if failed else 0)


def _shape(workload: str, given: dict[str, Any], seed: int) -> Shape:
    """The workload's own numbers, but for those given. A number that it does not know is a mistake."""
    if (own := DEFAULTS.get(workload)) is None:
        options.fail(f"--workload {workload!r} should be one of {', '.join(DEFAULTS)}")
    if workload != "widget":
        flags = {"turns": "--turns", "think": "--think", "persona": "--persona-tokens"}
        for name in flags.keys() & given:
            options.fail(f"{flags[name]} is only for --workload widget")
    if "context" in given and (workload != "mixed" or "rate" in given):
        options.fail("--context-tokens is only for --workload mixed, without --rate")
    if "rate" in given and workload in ("long", "burst"):
        options.fail(f"--rate is not for --workload {workload}, which is about what comes at one moment")
    if "streams" in given and "rate" in given:
        options.fail("--streams and --rate exclude each other: a closed loop or an open one")
    if "streams" in given and "requests" not in given and workload != "long":
        each = own.requests / own.streams
        given = {**given, "requests": round(given["streams"] * each)}
    return replace(own, **given, seed=seed)


def _processes(url: str, pids: list[int] | None) -> list[int]:
    """Those that were named, or the one that listens on this machine at the URL's port."""
    from frontdesk.bench.processes import is_local, listener

    for pid in pids or ():
        if not Path(f"/proc/{pid}").exists():
            options.fail(f"--pid {pid}: there is no such process")
    if pids or not is_local(url):
        return pids or []
    parts = urlsplit(url)
    with suppress(ValueError, OSError):
        found = listener(parts.port or (443 if parts.scheme == "https" else 80))
        return [found] if found else []
    return []


def _writable(chart: str | None) -> Path | None:
    """Found out before the load, not after it."""
    if chart is None:
        return None
    path = Path(chart)
    try:
        path.touch()
    except OSError as error:
        options.fail(f"--chart {chart}: {error.strerror}")
    return path


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
