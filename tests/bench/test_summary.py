"""From replies to the figures that are told, and their JSON and pictures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.replies import reply

from frontdesk.bench.chart import Bars, Panel, bars, panels, run_chart
from frontdesk.bench.processes import Cpu
from frontdesk.bench.reply import Reply
from frontdesk.bench.report import Slo, summarise, to_json

SVG = "{http://www.w3.org/2000/svg}"
times = st.lists(st.floats(0, 60, allow_nan=False), min_size=1, max_size=12).map(sorted)
some = st.lists(times.map(lambda found: reply(*found, kind="k")), max_size=6)


def test_rates_are_tokens_by_time() -> None:
    """Throughput would be told as something that no user sees."""
    one, two = reply(1, 2, 3, 4), reply(2, 3, 4, 5, tokens=8)  # two tokens in each frame of the second
    found = summarise([one, two], windows=[(0, 6)])
    assert (found.tokens, found.rate) == (12, 2.0)
    assert (found.peak, found.steady_seconds) == (2, 2.0)  # both wrote from 2 to 4
    assert found.steady == (2 + 4) / 2
    assert (found.whole.ttft.p50, found.whole.itl.max) == (1.0, 1.0)


def test_failed_replies_count_nothing_but_errors() -> None:
    """A server that refuses half of its requests would look twice as fast."""
    found = summarise([reply(1, 2), reply(error="no"), reply(error="no"), reply(error="why")], windows=[(0, 4)])
    assert (found.replies, found.errors, found.messages, found.tokens) == (4, 3, ("no", "why"), 2)
    assert found.whole.errors == 3


@pytest.mark.parametrize(
    ("slo", "good"), [(Slo(), 3), (Slo(ttft=1.0), 2), (Slo(itl=1.0), 2), (Slo(1.0, 1.0), 1), (Slo(0.0, 0.0), 0)]
)
def test_goodput_counts_who_kept_the_slo(slo: Slo, good: int) -> None:
    """Late replies would count as good ones."""
    replies = [reply(1, 2, 3), reply(1, 4, 7), reply(5, 6, 7), reply(error="no")]
    found = summarise(replies, windows=[(0, 10)], slo=slo)
    assert found.good == good
    told = to_json(found, {}, slo)["slo"]
    assert (told["good"], told["share"], told["goodput_per_second"]) == (good, good / 4, good / 10)


def test_of_streams_beside_only_the_round_counts() -> None:
    """The worst stall would come from before the long prompt, or be cut where it begins."""
    stream = Reply("beside", arrivals=[0.0, 1.0, 5.0, 6.0, 20.0], tokens=5, stopped=True)
    found = summarise([reply(5.5, sent=2, kind="long")], [stream], [(2.0, 7.0)])
    beside = next(group for group in found.groups if group.kind == "beside")
    assert (beside.itl.count, beside.itl.max, beside.ttft.count) == (2, 4.0, 0)
    assert found.replies == 1
    assert [group.kind for group in found.groups] == ["beside", "long", ""]


@given(some, some)
def test_any_run_becomes_json_and_a_chart(replies: list[Reply], background: list[Reply]) -> None:
    """A run of hours would end in a stack trace."""
    found = summarise(replies, background, [(0.0, 60.0)], slo=Slo(1.0), cpu=Cpu(1, 2, 3))
    told = json.loads(json.dumps(to_json(found, {"workload": "raw"}, Slo(1.0))))
    assert told["tokens"] == sum(each.tokens for each in replies) + sum(
        each.tokens for each in background if each.arrivals
    )
    assert sum(s.tokens for s in found.timeline) == pytest.approx(told["tokens"])
    assert sum(s.seconds for s in found.timeline) == pytest.approx(60.0 if told["tokens"] else 0.0)
    assert ElementTree.fromstring(run_chart("a run", found, replies, background)).tag == SVG + "svg"


def test_no_round_at_all_is_told_too() -> None:
    """A run that was refused at once would break the report."""
    found = summarise([])
    assert (found.seconds, found.rate, found.steady, found.timeline) == (0.0, 0.0, 0.0, ())


@given(st.text(max_size=20), st.lists(st.tuples(st.floats(-1e6, 1e9), st.floats(0, 1e9)), max_size=300))
def test_any_curve_is_valid_svg_inside_its_picture(name: str, points: list[tuple[float, float]]) -> None:
    """A chart would not open, or its lines would leave the paper."""
    for log in (True, False):
        drawn = panels(name, [Panel(name, name, {name: sorted(points)}, log=log)])
        root = ElementTree.fromstring(drawn)
        width, height = (float(root.attrib[side]) for side in ("width", "height"))
        for line in root.iter(SVG + "polyline"):
            for point in line.attrib["points"].split():
                x, y = map(float, point.split(","))
                assert -1 <= x <= width + 1
                assert -1 <= y <= height + 1


@given(st.dictionaries(st.text(max_size=9), st.dictionaries(st.text(max_size=9), st.floats(0, 1e9), max_size=4)))
def test_bars_show_every_value(groups: dict[str, dict[str, float]]) -> None:
    """A server would be missing in the picture of the comparison."""
    root = ElementTree.fromstring(bars(Bars("<&>", groups, "x", ["note"])))
    assert len(list(root.iter(SVG + "rect"))) == 1 + sum(map(len, groups.values()))
    title = root.find(SVG + "title")
    assert title is not None
    assert title.text == "<&>"
