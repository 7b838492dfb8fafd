"""Choosing settings from measurements, and remembering them: rules with made-up figures, then a real machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.conftest import half_of

from frontdesk.config import engine_environment
from frontdesk.errors import ModelLoadFailed
from frontdesk.fleet import tuned as tuned_module
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tuned import Tuned, TunedFolder
from frontdesk.fleet.tuning import (
    CHUNKS,
    WORTH,
    Tuning,
    best,
    candidates,
    chunks,
    cost,
    guessing_pays,
    padding_pays,
)
from frontdesk.worker.protocol import Shape, Timed, Timing

SECONDS = st.floats(1e-5, 10)


def measured(**milliseconds: float) -> Timed:
    """`measured(decode_3=60, prompt_64=200)`, all with one thread."""
    timings = []
    for name, value in milliseconds.items():
        kind, _, size = name.partition("_")
        timings.append(Timing(Shape(kind, int(size)), 1, value / 1000, 3))  # pyright: ignore[reportArgumentType]
    return Timed(tuple(timings))


@given(st.integers(1, 256))
def test_threads_worth_trying(cores: int) -> None:
    """All cores would not be tried, or more than there are, or so many that no time is left for other questions."""
    options = candidates(cores)
    assert options[0] == cores
    assert sorted(set(options), reverse=True) == list(options)
    assert options[-1] >= 1
    assert len(options) <= 4


@given(st.dictionaries(st.integers(0, 9), SECONDS, min_size=1), st.data())
def test_the_usual_stays_without_a_reason(costs: dict[int, float], data: st.DataObject) -> None:
    """Noise of a few per cent would choose the settings, another one at every start."""
    usual = data.draw(st.sampled_from(sorted(costs)))
    chosen = best(costs, usual)
    if chosen != usual:
        assert costs[chosen] == min(costs.values())
        assert costs[chosen] < WORTH * costs[usual]
    else:
        assert min(costs.values()) >= WORTH * costs[usual]


@given(st.lists(SECONDS, min_size=len(CHUNKS), max_size=len(CHUNKS)), st.floats(0, 1))
def test_chunks_are_no_larger_than_they_must_be(seconds: list[float], streams: float) -> None:
    """Streams would stand still for longer than the speed of prompts is worth."""
    timed = Timed(tuple(Timing(Shape("prompt", size), 1, s, 3) for size, s in zip(CHUNKS, seconds, strict=True)))
    found = chunks(timed, 1, streams)
    assert found is not None
    alone, busy = found
    assert {alone, busy} <= set(CHUNKS)
    beside = {size: size / (s + streams) for size, s in zip(CHUNKS, seconds, strict=True)}
    assert beside[busy] >= 0.8 * max(beside.values()) * (1 - 1e-9)
    assert all(beside[size] < 0.8 * max(beside.values()) * (1 + 1e-9) for size in CHUNKS if size < busy)


def test_what_was_not_measured_is_not_decided() -> None:
    """A machine too slow for all questions would get settings out of nothing."""
    assert chunks(Timed(()), 1, 0.0) is None
    assert not padding_pays(Timed(()), 1)
    assert not guessing_pays(Timed(()), 1)
    assert cost(measured(decode_1=3), (Shape("decode", 1), Shape("decode", 8)), 1) == float("inf")


def test_a_staircase_is_seen() -> None:
    """Steps of three would be computed where four are faster (research: 60 ms against 47), or the other way round."""
    assert padding_pays(measured(decode_3=60, decode_4=47, decode_7=101, decode_8=79), 1)
    assert not padding_pays(measured(decode_3=60, decode_4=66, decode_7=101, decode_8=110), 1)
    assert guessing_pays(measured(decode_1=33, verify_4=49), 1)
    assert not guessing_pays(measured(decode_1=12, verify_4=35), 1)


async def test_a_real_model_is_measured(shipped: Path) -> None:
    """No question could be asked of llama.cpp, or an answer would be lost on the way: everything is measured here."""
    told: list[tuple[str, float]] = []
    card = card_for_file(shipped)
    tuning = Tuning(card, 2, False, engine_environment, lambda what, part: told.append((what, part)), budget=6.0)
    found = await tuning.run()
    for name in ("threads", "spin", "chunk", "chunk_busy", "kv_layout", "kv_type", "flash", "pad_rows", "speculate"):
        if name == "spin" and found.threads == 1:
            continue
        if name == "kv_type" and found.flash == "off":
            continue
        assert getattr(found, name) is not None, name
    assert found.threads in (1, 2)
    assert {f"decode {n}" for n in range(1, 17)} <= found.steps.keys()
    assert all(milliseconds > 0 for milliseconds in found.steps.values())
    assert [part for _, part in told] == sorted(part for _, part in told)
    assert len({what for what, _ in told}) >= 5


async def test_an_exact_model_keeps_what_makes_it_so(shipped: Path) -> None:
    """Replies of an exact model would change with the machine's mood."""
    card = card_for_file(shipped)
    found = await Tuning(card, 1, True, engine_environment, lambda *_: None, budget=2.0).run()
    assert (found.kv_layout, found.kv_type, found.flash) == (None, None, None)
    assert found.threads == 1


async def test_a_damaged_file_is_told(shipped: Path, tmp_path: Path) -> None:
    """Whoever tunes a half-downloaded model would see a traceback, or wait for ever."""
    card = card_for_file(half_of(shipped, tmp_path))
    with pytest.raises(ModelLoadFailed):
        await Tuning(card, 1, False, engine_environment, lambda *_: None).run()


TUNED = Tuned(model="m", machine="x", measured="2026-11-24", seconds=20.0, threads=3, spin=0, steps={"decode 1": 2.5})


def test_it_is_remembered(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start would measure again; or other cores, or another file, would get settings that are not theirs."""
    folder, card = TunedFolder(tmp_path / "new" / "tuned"), card_for_file(shipped)
    assert folder.recall(card) is None
    assert not folder.forget(card)
    assert folder.keep(card, TUNED)
    assert folder.recall(card) == TUNED
    assert [path.suffix for path in (tmp_path / "new" / "tuned").iterdir()] == [".json"]
    assert folder.recall(replace(card, exact=True)) is None
    other = tmp_path / "other.gguf"
    other.write_bytes(shipped.read_bytes()[:-1] + b"\0")
    assert folder.recall(replace(card, path=other)) is None
    with monkeypatch.context() as patch:
        patch.setattr(tuned_module, "usable_cores", lambda: 77)
        assert folder.recall(card) is None
    assert folder.forget(card)
    assert folder.recall(card) is None


def test_a_damaged_memory_is_none(shipped: Path, tmp_path: Path) -> None:
    """A server would not start because a file of no importance was cut short."""
    folder, card = TunedFolder(tmp_path), card_for_file(shipped)
    folder.keep(card, TUNED)
    file = folder.file(card)
    for content in (b"", b"{", b"[1]", file.read_bytes()[:50], b'{"model": 1}'):
        file.write_bytes(content)
        assert folder.recall(card) is None


def test_a_file_in_the_way_of_the_folder(shipped: Path, tmp_path: Path) -> None:
    """A read-only home would stop the server."""
    (tmp_path / "tuned").write_text("no folder")
    assert not TunedFolder(tmp_path / "tuned").keep(card_for_file(shipped), TUNED)
