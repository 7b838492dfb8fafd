"""`frontdesk bench` against a real server: every workload, both transports, what it prints, and how it refuses."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from frontdesk.bench.workloads import DEFAULTS
from frontdesk.cli.main import app

if TYPE_CHECKING:
    from tests.conftest import Server

SMALL = ("--requests", "4", "--prompt-tokens", "40", "--new-tokens", "6")
DURATIONS = {"count", "mean", "p50", "p95", "p99", "max"}


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "80"})


def measured(url: str, *arguments: str) -> dict[str, Any]:
    result = bench("--url", url, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("transport", ["sse", "ws"])
@pytest.mark.parametrize("workload", DEFAULTS)
def test_every_workload_runs_over_both_transports(server: Server, workload: str, transport: str) -> None:
    """A workload would be named in the help and fail, or lose tokens on its way."""
    more = ("--turns", "2", "--think", "0.05", "--persona-tokens", "60") if workload == "widget" else ()
    found = measured(server.url, "--workload", workload, "--transport", transport, "--streams", "2", *SMALL, *more)
    replies = 8 if workload == "widget" else 4
    assert (found["workload"], found["transport"], found["errors"]) == (workload, transport, 0)
    assert found["replies"] == found["groups"][-1]["replies"] == replies
    if workload == "mixed":
        assert found["tokens"] == replies * 6  # long ones are as short as short ones here
    elif workload == "long":
        assert {group["kind"] for group in found["groups"]} == {"beside it", "long prompt", "all"}
        assert found["groups"][-1]["tokens"] == replies * 6 < found["tokens"]
    else:
        assert found["tokens"] == replies * 6
    if workload == "widget":
        assert found["groups"][-1]["cached_tokens"] > 0


@pytest.mark.parametrize("transport", ["sse", "ws"])
def test_what_conversations_held_before_counts_nowhere(server: Server, transport: str) -> None:
    """Openings would be counted as replies, or the conversations would begin anew and be read all over again."""
    load = ("--workload", "mixed", "--context-tokens", "200", "--transport", transport, "--streams", "2")
    found = measured(server.url, *load, *SMALL)
    everything = found["groups"][-1]
    assert (found["errors"], found["replies"], found["tokens"]) == (0, 4, 4 * 6)
    assert everything["cached_tokens"] > 4 * 150
    assert everything["prompt_tokens"] > 4 * 200


def test_the_json_is_complete(server: Server) -> None:
    """A program that reads it would break, or a figure could not be traced to what was measured."""
    more = ("--new-tokens", "64", "--slo-ttft", "60000", "--slo-itl", "60000", "--seed", "3")
    found = measured(server.url, "--streams", "2", *SMALL, *more)
    assert found["object"] == "bench"
    assert found["shape"] == {
        "streams": 2, "requests": 4, "prompt": 40, "new": 64, "turns": 1, "think": 0.0, "persona": 0, "context": 0,
        "rate": 0.0, "seed": 3,
    }  # fmt: skip
    assert found["slo"]["good"] == 4
    assert found["slo"]["share"] == 1.0
    assert found["peak_streams"] in (1, 2)
    told = found["tokens"] / found["tokens_per_second"]
    assert found["seconds"] == pytest.approx(told, rel=0.01, abs=0.001)  # both are rounded
    (group,) = found["groups"]
    assert set(group["ttft_ms"]) == set(group["itl_ms"]) == DURATIONS
    assert 0 < group["ttft_ms"]["p50"] <= group["ttft_ms"]["p95"] <= group["ttft_ms"]["max"]
    assert group["ttft_ms"]["count"] == 4
    assert 120 < group["prompt_tokens"] < 200  # 4 prompts of about 40 tokens
    assert found["cpu"]["server_seconds"] + found["cpu"]["children_seconds"] > 0
    assert {"machine", "began", "version", "url", "timeline", "error_messages"} <= set(found)


def test_an_open_loop_does_not_wait_for_answers(server: Server) -> None:
    """Load would ease off exactly when the server gets slow."""
    found = measured(server.url, "--rate", "20", "--requests", "10", "--prompt-tokens", "40", "--new-tokens", "4")
    assert (found["replies"], found["errors"], found["shape"]["rate"]) == (10, 0, 20.0)


def test_a_table_and_a_chart_for_people(server: Server, tmp_path: Path) -> None:
    """A person would get numbers without names, or a chart that does not open."""
    chart = tmp_path / "chart.svg"
    result = bench("--url", server.url, "--streams", "2", *SMALL, "--chart", str(chart), "--slo-ttft", "1")
    assert result.exit_code == 0, result.output
    for words in ("raw over sse: 2 streams, 4 requests", "cores", "P50", "P99", "all: first token, ms", "tokens/s"):
        assert words in result.stdout
    assert "goodput" in result.stdout
    assert "CPU: server" in result.stdout
    root = ElementTree.parse(chart).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Time to first token", "Between tokens", "Tokens a second"} <= texts


def test_a_key_is_sent(start_server: Callable[..., Server]) -> None:
    """A server that other machines can reach could not be measured."""
    server = start_server(auth="on")
    key = CliRunner().invoke(app, ["keys", "create", "bench", "--database", server.database]).stdout.strip()
    refused = bench("--url", server.url, *SMALL)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "401" in refused.stderr
    for transport in ("sse", "ws"):
        found = measured(server.url, "--key", key, "--transport", transport, "--streams", "2", *SMALL)
        assert found["errors"] == 0


def test_failed_replies_are_counted_and_told(server: Server) -> None:
    """A server that refuses everything would look infinitely fast."""
    result = bench("--url", server.url, "--json", "--requests", "2", "--streams", "2", "--prompt-tokens", "90000")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["errors"], found["tokens"], found["tokens_per_second"]) == (2, 0, 0.0)
    assert "exceeds the available context size" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "http://127.0.0.1:9"], ["no server answers at http://127.0.0.1:9", "frontdesk serve"]),
        (["--url", "ftp://x"], ["--url", "'ftp://x'"]),
        (["--workload", "nap"], ["--workload", "'nap'", "raw, mixed"]),
        (["--transport", "tcp"], ["--transport", "'tcp'", "sse, ws"]),
        (["--think", "3"], ["--think", "widget"]),
        (["--context-tokens", "30"], ["--context-tokens", "mixed"]),
        (["--streams", "3", "--rate", "2"], ["--streams", "--rate"]),
        (["--workload", "burst", "--rate", "2"], ["--rate", "burst"]),
        (["--pid", "4194304"], ["--pid 4194304"]),
        (["--chart", "/no/such/folder/x.svg"], ["--chart", "/no/such/folder/x.svg"]),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(arguments: list[str], words: list[str]) -> None:
    """A mistake would cost the time of a whole run, or end in a stack trace."""
    result = bench(*arguments)
    lines = result.stderr.strip().splitlines()
    assert (result.exit_code, result.stdout, len(lines)) == (2, "", 1), result.output
    assert not [word for word in words if word not in lines[0]], lines[0]


def test_an_unknown_model_is_told_before_the_load(server: Server) -> None:
    """Hundreds of requests would fail one after the other."""
    result = bench("--url", server.url, "--model", "gpt-9", *SMALL)
    assert result.exit_code == 2
    assert "gpt-9" in result.stderr
    assert "frontdesk-small" in result.stderr
