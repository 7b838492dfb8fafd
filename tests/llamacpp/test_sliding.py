"""A model with a sliding window: what the window has left behind is still there for whoever goes back to it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.llamacpp.lab import Lab, MakeLab, Requests, crowd, prompt
from tests.llamacpp.sliding import BEHIND, write_sliding

from frontdesk.engine.batch import Copy, Swap, Trim
from frontdesk.llamacpp.library import open_model, slides


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    opened = open_model(str(write_sliding(tmp_path_factory.mktemp("sliding") / "model.gguf")), lambda _: None)
    assert slides(opened)
    return opened


LONG = prompt(1, 600)


def as_alone(lab: MakeLab, one: Lab, id: int, request: tuple[list[int], int]) -> None:
    alone = lab(slots=1)
    alone.ask(id, *request)
    alone.run()
    assert one.tokens[id] == alone.tokens[id]
    for place, row in alone.recorder.rows.items():
        assert (row == one.recorder.rows[place]).all(), f"request {id}, token {place[1]}"


@pytest.mark.parametrize("shared", [20, BEHIND + 20, 300, 500])
@pytest.mark.parametrize("slots", [1, 2])
def test_who_begins_alike_reads_on_from_there(lab: MakeLab, slots: int, shared: int) -> None:
    """Everybody behind one long system prompt, but the first, would be answered as if most of it were not there."""
    one = lab(slots=slots)
    one.ask(0, LONG, 20)
    one.run()
    request = ([*LONG[:shared], *prompt(7, 20)], 20)
    one.ask(1, *request)
    one.run()
    assert one.ops == {Copy if slots > 1 else Trim}
    as_alone(lab, one, 1, request)


def test_a_copy_is_made_before_its_source_is_gone(lab: MakeLab) -> None:
    """llama.cpp copies when it next computes: another conversation, which takes the source's slot in the same step,
    would be copied in its place."""
    one = lab(slots=2)
    one.ask(0, LONG, 20)
    one.run()
    requests: Requests = [([*LONG[:300], *prompt(7, 1)], 20), (prompt(8, 200), 20)]
    for id, request in enumerate(requests, 1):
        one.ask(id, *request)
    one.step()
    assert all(sequence.computed for sequence in one.engine.scheduler.running)
    assert len(one.engine.scheduler.running) == 2
    one.run()
    for id, request in enumerate(requests, 1):
        as_alone(lab, one, id, request)


def test_a_crowd_reads_what_each_would_alone(lab: MakeLab) -> None:
    """Where slots are taken, left and taken over, conversations would lose what lies behind their windows."""
    turns = [(LONG[:400] + prompt(20 + i, 30 + 7 * i), 40 - 5 * (i % 4)) for i in range(8)]
    back = [(tokens[:-20] + prompt(40 + i, 12), 12) for i, (tokens, _) in enumerate(turns)]
    one = lab(slots=3)
    crowd(one, [*turns, *back])
    assert one.ops >= {Copy, Trim}
    assert Swap not in one.ops
    for id, request in enumerate([*turns, *back]):
        as_alone(lab, one, id, request)
