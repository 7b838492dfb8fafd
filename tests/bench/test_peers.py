"""The comparison's report and its cases: what is told of rounds, and what is asked of every server."""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import httpx2
import pytest
from peer_report import Result, markdown, picture
from peer_servers import NoPeer, Peer, Setup, burning, frontdesk, running
from peer_workloads import BEST, CEILING, CLASSIC, cases, quick
from tests.bench.replies import reply
from tests.conftest import ROOT

from frontdesk.bench.processes import descendants
from frontdesk.bench.prompts import Sizes
from frontdesk.bench.report import Summary, summarise
from frontdesk.bench.workloads import plan

RAW = cases((4,))[0]


def ran(speed: float, error: str = "") -> Summary:
    """A round of one reply, 100 tokens at so many a second from the first moment."""
    answers = [reply(*(i / speed for i in range(1, 101)))]
    return summarise(answers + ([reply(error=error)] if error else []), windows=[(0.0, 100 / speed)])


def result(ours: list[Summary], theirs: list[Summary]) -> Result:
    made = Result("m", RAW)
    for name, runs in (("Frontdesk", ours), (CLASSIC, theirs)):
        for run in runs:
            made.add(name, run)
    return made


def test_ratios_are_of_neighbouring_rounds() -> None:
    """A machine that slows down in the middle would decide who wins."""
    made = result([ran(20), ran(2)], [ran(10), ran(1)])
    rate = RAW.metrics[0]
    assert made.ratios(CLASSIC, rate) == pytest.approx([2.0, 2.0])
    assert made.values(CLASSIC, rate) == pytest.approx([10, 1])


def test_rounds_with_failed_replies_are_not_compared() -> None:
    """A server that fails would win, or we would."""
    made = result([ran(20), ran(20)], [ran(10, "it died"), ran(5)])
    assert made.ratios(CLASSIC, RAW.metrics[0]) == pytest.approx([4.0])


def test_bars_are_told_as_reached_or_missed() -> None:
    """A missed aim would be published as a success. The bar here: 2.3 times llama_cpp.server at 4 streams."""
    reached = markdown("c", {}, [result([ran(24)], [ran(10)])])
    missed = markdown("c", {}, [result([ran(20)], [ran(10)])])
    assert "2.40, bar ≥ 2.3 reached" in reached
    assert "2.00, bar ≥ 2.3 **missed**" in missed


def test_raw_is_told_as_a_mean_over_all_numbers_of_streams() -> None:
    """A draw at 1, 4 and 8 streams would hide what becomes of those between, or the other way round."""
    made = [Result("m", case) for case in cases((1, 3))[:2]]
    for one, ours in zip(made, (20, 26), strict=True):
        one.add("Frontdesk", ran(ours))
        one.add(BEST, ran(20))
    one_only, both = markdown("c", {}, made[:1]), markdown("c", {}, made)
    assert "mean over 1, 3 streams" in both
    assert f"ours : theirs, {BEST}, tokens/s: 1.15, bar ≥ 1.1 reached" in both
    assert "mean over" not in one_only


def test_flags_that_were_given_are_told() -> None:
    """A reader could not know what llama-server was started with, or would believe that others had been tried."""
    made = result([ran(20)], [ran(10)])
    made.flags = "-kvu (given, not tried here)"
    assert "llama-server's flags: -kvu (given, not tried here)." in markdown("c", {}, [made])


def test_lower_is_better_where_it_is() -> None:
    """A slower first token would reach its bar."""
    widget = next(case for case in cases((1,)) if case.workload == "widget")
    first = widget.metrics[0]
    assert first.reached(BEST, 0.3) is True
    assert first.reached(BEST, 0.5) is False
    assert first.reached(CLASSIC, 0.5) is None


def test_the_ceiling_and_what_was_left_out_are_told() -> None:
    """The report would hide that a server did not start, or which flags the best row has."""
    made = result([ran(20)], [ran(10)])
    made.add_ceiling({"all": 40.0, "steady": 50.0})
    made.trials, made.flags = {"(defaults)": 9.0, "-kvu": 10.0}, "-kvu"
    made.gave_up["examples/server"] = "it ended with code 1"
    text = markdown("python bench/peers.py", {"machine": "a box"}, [made], quick=True)
    for words in (CEILING, "0.50, bar ≥ 0.97 **missed**", "`-kvu` 10", "Kept: `-kvu`", "it ended with code 1", "a box"):
        assert words in text
    assert "no figure here means anything" in text
    json.dumps(made.to_json())
    assert ElementTree.fromstring(picture([made])) is not None


def test_every_case_can_be_asked_of_every_server() -> None:
    """A run of hours would end at a prompt that does not fit, or a server would get fewer slots than streams."""
    found = cases((1, 16))
    assert [case.name[0] for case in found] == sorted(case.name[0] for case in found)
    for case in (*found, *map(quick, found)):
        shape = case.shape
        assert plan(case.workload, shape, Sizes(20, 1.5)).replies
        turns = shape.turns * (shape.prompt + shape.new + 20) if case.workload == "widget" else shape.prompt + shape.new
        assert shape.persona + turns + 64 <= case.ctx, case.name
        assert case.workload == "widget" or case.slots >= shape.streams + (case.workload == "long"), case.name


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The comparison would wait for minutes, or stop at the first server that is not built."""
    setup = Setup(ROOT / "weights" / "frontdesk-small-q8_0.gguf", 1, 512, 1)
    broken = Peer("broken", lambda setup, port, folder: ["sh", "-c", "echo out of luck; exit 3"])
    with pytest.raises(NoPeer, match="code 3:\nout of luck"), running(broken, setup, tmp_path / "a"):
        pass
    absent = Peer("absent", broken.command, (tmp_path / "nothing",))
    with pytest.raises(NoPeer, match=r"build_peers\.sh"), running(absent, setup, tmp_path / "b"):
        pass


def test_frontdesk_is_started_like_its_peers(tmp_path: Path) -> None:
    """Frontdesk would have another context, or its server would outlive the comparison."""
    setup = Setup(ROOT / "weights" / "frontdesk-small-q8_0.gguf", 2, 512, 1)
    with running(frontdesk(), setup, tmp_path) as server:
        assert httpx2.get(server.url + "/readyz").json()["status"] == "ready"
        (model,) = [m for m in httpx2.get(server.url + "/v1/models").json()["data"] if "meta" in m]
        assert model["meta"]["n_ctx"] == setup.ctx
    assert not Path(f"/proc/{server.pid}").exists()


def test_busy_processes_end() -> None:
    """The cases after the busy one would be measured on a busy machine."""
    before = descendants(os.getpid())
    with burning(2):
        assert len(descendants(os.getpid()) - before) == 2
    assert not descendants(os.getpid()) - before
