"""Choosing settings from measurements, and remembering them: rules with made-up figures, then a real machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.conftest import SHIPPED, half_of

from frontdesk.config import engine_environment
from frontdesk.errors import ModelLoadFailed
from frontdesk.fleet import tuned as tuned_module
from frontdesk.fleet import tuning as tuning_module
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
from frontdesk.worker.protocol import Shape, Timed, Timing, Trial

SECONDS = st.floats(1e-5, 10)
SIZE = SHIPPED.stat().st_size


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
    assert chunks(measured(prompt_64=10, prompt_128=20, prompt_256=40), 1, 0.0) is None
    assert padding_pays(Timed(()), 1) is None
    assert guessing_pays(Timed(()), 1) is None
    assert cost(measured(decode_1=3), (Shape("decode", 1), Shape("decode", 8)), 1) == float("inf")


def test_a_staircase_is_seen() -> None:
    """Steps of three would be computed where four are faster (research: 60 ms against 47), or the other way round."""
    assert padding_pays(measured(decode_3=60, decode_4=47, decode_7=101, decode_8=79), 1)
    assert not padding_pays(measured(decode_3=60, decode_4=66, decode_7=101, decode_8=110), 1)
    assert guessing_pays(measured(decode_1=33, verify_4=49), 1)
    assert guessing_pays(measured(decode_1=12, verify_4=35), 1) is None
    assert guessing_pays(measured(decode_1=12, verify_4=35, verify_8=65, verify_16=130), 1) is False
    assert guessing_pays(measured(decode_1=11.3, verify_4=29.6, verify_8=37.8, verify_16=55.2), 1)


async def test_a_real_model_is_measured(shipped: Path) -> None:
    """No question could be asked of llama.cpp, or an answer would be lost on the way: everything is measured here."""
    told: list[tuple[str, float]] = []
    card = card_for_file(shipped)
    tuning = Tuning(card, (2, 1), False, engine_environment, lambda what, part: told.append((what, part)), budget=20.0)
    found = await tuning.run()
    assert not found.given_up
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
    found = await Tuning(card, (1,), True, engine_environment, lambda *_: None, budget=10.0).run()
    assert (found.kv_layout, found.kv_type, found.flash) == (None, None, None)
    assert found.chunk is not None


async def test_a_damaged_file_is_told(shipped: Path, tmp_path: Path) -> None:
    """Whoever tunes a half-downloaded model would see a traceback, or wait for ever."""
    card = card_for_file(half_of(shipped, tmp_path))
    with pytest.raises(ModelLoadFailed):
        await Tuning(card, (1,), False, engine_environment, lambda *_: None).run()


@dataclass
class Labs:
    """In place of processes: `answer` is what becomes of a trial, and all that was asked is kept."""

    answer: Callable[[Trial, str], Timed | None]  # by its GOMP_SPINCOUNT; `None`: it hangs
    spins: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, environment: Mapping[str, str]) -> AsyncIterator[FakeLab]:
        spin = environment["GOMP_SPINCOUNT"]
        self.spins.append(spin)
        yield FakeLab(self, spin)


@dataclass
class FakeLab:
    labs: Labs
    spin: str

    async def open(self, path: str) -> str:
        return ""

    async def run(self, trial: Trial) -> Timed:
        self.labs.trials.append(trial)
        return self.labs.answer(trial, self.spin) or await asyncio.Event().wait()  # pyright: ignore[reportReturnType]


def quick(trial: Trial, missing: Callable[[Shape], bool] = lambda shape: False) -> Timed:
    """Every row takes a millisecond."""
    shapes = [shape for shape in trial.shapes if not missing(shape)]
    return Timed(tuple(Timing(shape, n, shape.size / 1000, 3) for n in trial.threads for shape in shapes))


@pytest.fixture
def tune(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`await tune(answer, **changes)`: what was found, and the labs that were asked."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)

    async def run(answer: Callable[[Trial, str], Timed | None], **changes: Any) -> tuple[Tuned, Labs]:
        labs = Labs(answer)
        monkeypatch.setattr(tuning_module, "laboratory", labs)
        parts = {"threads": (2, 1), "exact": False, "environment": engine_environment, "tell": lambda *_: None}
        tuning = Tuning(card_for_file(shipped), **{**parts, "memory": None, **changes})
        return await tuning.run(), labs

    return run


async def test_made_up_figures_answer_everything(tune: Any) -> None:
    """The tests below would show that nothing is measured where nothing ever is."""
    found, labs = await tune(lambda trial, _: quick(trial))
    for name in ("threads", "spin", "chunk", "chunk_busy", "kv_layout", "kv_type", "flash", "pad_rows", "speculate"):
        assert getattr(found, name) is not None, name
    assert not any(trial.exact for trial in labs.trials)
    assert len(labs.spins) == 4
    assert not found.given_up


@pytest.mark.parametrize("hangs", [True, False])
async def test_what_was_found_survives_the_process(tune: Any, hangs: bool) -> None:
    """Every start would measure again what was known already, and never get further; or would wait for ever."""

    def answer(trial: Trial, _: str) -> Timed | None:
        if Shape("prompt", 512) not in trial.shapes:
            return quick(trial)
        if hangs:
            return None
        raise ModelLoadFailed("the measuring process died")

    found, _ = await asyncio.wait_for(tune(answer, budget=0.2), 60)
    assert found.threads == 2
    assert found.speculate is not None
    assert found.chunk is None
    assert found.given_up.startswith("chunks of a prompt: the measuring process")


@pytest.mark.parametrize(("hangs", "error"), [(True, TimeoutError), (False, ModelLoadFailed)])
async def test_nothing_is_no_outcome(tune: Any, hangs: bool, error: type[Exception]) -> None:
    """An empty record would be remembered, and nothing would ever be measured."""

    def answer(trial: Trial, _: str) -> Timed | None:
        if hangs:
            return None
        raise ModelLoadFailed("the measuring process died")

    with pytest.raises(error, match="the measuring process"):
        await asyncio.wait_for(tune(answer, budget=0.2), 60)


async def test_a_model_that_is_never_open_is_given_up(tune: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs while it loads would hang the start."""
    monkeypatch.setattr(tuning_module, "LOADING", 0.05)
    monkeypatch.setattr(FakeLab, "open", lambda *_: asyncio.Event().wait())
    with pytest.raises(TimeoutError, match="does not answer"):
        await asyncio.wait_for(tune(lambda trial, _: quick(trial)), 60)


@pytest.mark.parametrize(("third", "resident"), [(20_000, 1024), (9 * 1280, 1024), (9 * 1280 - 1, 512), (4608, 256)])
async def test_a_cache_takes_no_more_than_a_servers(tune: Any, third: int, resident: int) -> None:
    """In a container that holds the model once the kernel would kill what measures, or its neighbour."""
    found, labs = await tune(lambda trial, _: quick(trial), cell=1000.0, memory=3 * 1000 * third)
    assert max(trial.resident for trial in labs.trials) == resident
    assert all(trial.cells <= third for trial in labs.trials)
    assert found.kv_layout is not None


@pytest.mark.parametrize("resident", [1024, 512, 256])
async def test_the_weights_need_their_memory(tune: Any, resident: int) -> None:
    """A model that only just fits would be killed at every start, before it was ever served."""
    third = 9 * (resident + 256)
    _, labs = await tune(
        lambda trial, _: quick(trial), threads=(1,), weights=10**9, cell=1000.0, memory=3 * 1000 * third + 10**9
    )
    assert max(trial.resident for trial in labs.trials) == resident
    _, labs = await tune(lambda trial, _: quick(trial), threads=(1,), weights=10**9, cell=1000.0, memory=10**9 - 1)
    assert not labs.trials


async def test_attention_without_flash_needs_memory(tune: Any) -> None:
    """Of all trials the one without flash attention would take more than there is, and end the measuring."""
    found, labs = await tune(
        lambda trial, _: quick(trial), cell=1000.0, cell_without=5000.0, memory=3 * 1000 * 9 * 1280
    )
    assert {trial.flash for trial in labs.trials} == {"auto"}
    assert found.flash is None
    assert any(line.startswith("flash: too little memory") for line in found.findings)
    assert found.kv_type is not None


async def test_no_cache_is_filled_twice(tune: Any) -> None:
    """Filling caches would take the time in which they are to be measured: of flash attention nobody would know."""
    _, labs = await tune(lambda trial, _: quick(trial))
    forms = [(trial.unified, trial.flash, trial.kv_type) for trial in labs.trials if trial.resident]
    assert len(forms) == len(set(forms)) == 4


async def test_without_memory_the_rest_is_measured(tune: Any) -> None:
    """A small machine would learn nothing, or a question would vanish without a word."""
    found, labs = await tune(lambda trial, _: quick(trial), cell=1000.0, memory=3 * 1000 * 9 * 256)
    assert (found.threads, found.chunk, found.kv_layout, found.pad_rows) == (2, 128, None, None)
    assert all(trial.cells <= 9 * 256 for trial in labs.trials)
    assert any(line.startswith("steps of 1 to 16 streams: too little memory") for line in found.findings)


@pytest.mark.parametrize(("times", "labs_opened"), [(2, 1), (3, 4)])
async def test_a_model_is_opened_twice_only_with_room(tune: Any, times: int, labs_opened: int) -> None:
    """The second copy of the weights, of all their files, would be one too many."""
    found, labs = await tune(lambda trial, _: quick(trial), weights=3 * SIZE, memory=times * 3 * SIZE)
    assert len(labs.spins) == labs_opened
    assert (found.spin is None) == (labs_opened == 1)
    assert found.kv_layout is not None


@pytest.mark.parametrize("missing", ["usual", "other", "both"])
async def test_a_shape_that_was_not_timed_decides_nothing(tune: Any, missing: str) -> None:
    """It would count as infinitely slow: a change that was never compared, or a division by zero."""

    def answer(trial: Trial, spin: str) -> Timed:
        if trial.resident:
            usual = trial.unified and trial.flash == "auto" and trial.kv_type == "f16"
        else:
            usual = spin == "10000"
        if len(trial.threads) > 1 or len(trial.shapes) > 3 or missing not in ("both", "usual" if usual else "other"):
            return quick(trial)
        return Timed((), "no room for a context") if trial.resident else quick(trial, lambda shape: shape.size == 8)

    found, _ = await tune(answer)
    assert (found.kv_layout, found.flash, found.kv_type, found.spin) == (None, None, None, None)
    assert any(line == "kv layout: no room for a context" for line in found.findings)
    assert not [line for line in found.findings if "nan" in line or "inf" in line]


async def test_threads_are_compared_as_far_as_they_were_timed(tune: Any) -> None:
    """On a slow machine the last numbers of threads are missing, and the first ones would say nothing."""

    def answer(trial: Trial, _: str) -> Timed:
        found = quick(trial)
        slow = {4: 1.0, 3: 0.5, 2: 0.1, 1: 0.1}
        timings = [Timing(t.shape, t.threads, t.seconds * slow[t.threads], 3) for t in found.timings]
        return Timed(tuple(t for t in timings if len(trial.threads) == 1 or t.threads > 2))

    found, _ = await tune(answer, threads=(4, 3, 2, 1))
    assert found.threads == 3
    assert "threads: 4 2.00x, 3 1.00x; 3 is used" in found.findings


async def test_an_exact_model_is_measured_as_such(tune: Any) -> None:
    """Its threads and chunks would be those of kernels that it never runs."""
    found, labs = await tune(lambda trial, _: quick(trial), exact=True)
    assert labs.trials
    assert all(trial.exact for trial in labs.trials)
    assert found.kv_layout is None


async def test_what_is_given_is_kept_to(tune: Any) -> None:
    """Chunks would be measured with threads that the server does not have, and spins compared that are the same."""
    found, labs = await tune(
        lambda trial, _: quick(trial), threads=(3,), environment=lambda _: {"GOMP_SPINCOUNT": "77"}
    )
    assert {trial.threads for trial in labs.trials} == {(3,)}
    assert labs.spins == ["77"]
    assert (found.threads, found.spin) == (None, None)
    assert found.kv_layout is not None


async def test_chunks_beside_streams_need_their_time(tune: Any) -> None:
    """As if streams took no time, the smallest chunk would be taken beside them."""
    found, _ = await tune(lambda trial, _: quick(trial, lambda shape: shape == Shape("decode", 8)))
    assert found.chunk is not None
    assert found.chunk_busy is None


TUNED = Tuned(model="m", machine="x", measured="2026-11-24", seconds=20.0, threads=3, spin=0, steps={"decode 1": 2.5})


def test_it_is_remembered(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start would measure again; or other cores, or another file, would get settings that are not theirs."""
    folder, card = TunedFolder(tmp_path / "new" / "tuned", (False,)), card_for_file(shipped)
    assert folder.recall(card) is None
    assert not folder.forget(card)
    assert folder.keep(card, TUNED)
    assert folder.recall(card) == TUNED
    assert [path.suffix for path in (tmp_path / "new" / "tuned").iterdir()] == [".json"]
    assert TunedFolder(tmp_path / "new" / "tuned", (True,)).recall(card) is None
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
    folder, card = TunedFolder(tmp_path, ()), card_for_file(shipped)
    folder.keep(card, TUNED)
    file = folder.file(card)
    for content in (b"", b"{", b"[1]", file.read_bytes()[:50], b'{"model": 1}'):
        file.write_bytes(content)
        assert folder.recall(card) is None


async def test_a_file_in_the_way_of_the_folder(shipped: Path, tmp_path: Path) -> None:
    """A read-only home would stop the server."""
    (tmp_path / "tuned").write_text("no folder")
    folder, card = TunedFolder(tmp_path / "tuned", ()), card_for_file(shipped)
    assert not folder.keep(card, TUNED)
    async with folder.alone(card, lambda *_: None):
        pass


async def test_one_measures_at_a_time(shipped: Path, tmp_path: Path) -> None:
    """Two servers that start together would spoil each other's times, or one would wait for ever."""
    folder, card = TunedFolder(tmp_path, ()), card_for_file(shipped)
    told: list[str] = []
    async with folder.alone(card, lambda *_: None):
        with pytest.raises(TimeoutError, match="another process"):
            async with folder.alone(card, lambda what, _: told.append(what), patience=0.01):
                raise AssertionError
        async with TunedFolder(tmp_path, (True,)).alone(card, lambda *_: None, patience=0.01):
            pass
    assert told
    async with folder.alone(card, lambda *_: None, patience=0.01):
        pass


def test_unfinished_files_have_names_of_their_own(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers that share a folder may have the same pid, and would write the same file."""
    folder, names = TunedFolder(tmp_path, ()), set[str]()
    monkeypatch.setattr(Path, "replace", lambda self, _: names.add(self.name))
    for _ in range(2):
        folder.keep(card_for_file(shipped), TUNED)
    assert len(names) == 2
