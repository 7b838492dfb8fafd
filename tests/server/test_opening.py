"""Opening a model that was not measured yet: whatever becomes of the measuring, there is a way to open it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frontdesk.config import Settings
from frontdesk.errors import ModelLoadFailed
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import ModelCard, card_for_file
from frontdesk.fleet.tuned import Tuned
from frontdesk.server import opening as module
from frontdesk.server import plan as plan_module
from frontdesk.server.opening import opening, remembered, tuning
from frontdesk.server.plan import plan

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
TUNED = Tuned(model="m", machine="x", measured="2026-11-24", seconds=20.0, chunk=77)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Of a model that counts as large, on a machine that remembers nothing and whose memory is always as free."""
    monkeypatch.setattr(plan_module, "usable_memory", lambda: 2**34)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(module, "SMALL", 0)
    return card_for_file(SHIPPED)


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tuned | Exception], list[int]]:
    """`measuring(outcome)`: every measuring ends so; returns a list that grows by one each time."""

    def ends(outcome: Tuned | Exception) -> list[int]:
        runs: list[int] = []

        class Fake:
            async def run(self) -> Tuned:
                runs.append(1)
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome

        monkeypatch.setattr(module, "tuning", lambda *_: Fake())
        return runs

    return ends


def nobody(what: str, done: float) -> None:
    pass


async def test_it_is_measured_once(card: ModelCard, measuring: Any) -> None:
    """Every start would take twenty seconds more."""
    runs = measuring(TUNED)
    for _ in range(2):
        assert (await opening(Settings(), card, nobody)).chunk == 77
    assert len(runs) == 1


@pytest.mark.parametrize(
    "error", [ModelLoadFailed("dead"), TimeoutError("hung"), ZeroDivisionError("a fault"), OSError("no process")]
)
async def test_a_failure_of_measuring_is_no_failure_to_serve(card: ModelCard, measuring: Any, error: Exception) -> None:
    """A server would not start because of what only makes it faster; or the failure would be remembered."""
    measuring(error)
    assert await opening(Settings(), card, nobody) == plan(Settings(), card)
    assert remembered(Settings(), card).recall(card) is None


async def test_whoever_waited_takes_what_was_found(card: ModelCard, measuring: Any) -> None:
    """Two servers would measure at the same time, each disturbing the other."""
    runs = measuring(TUNED)
    told: asyncio.Queue[str] = asyncio.Queue()
    folder = remembered(Settings(), card)
    async with folder.alone(card, nobody):
        start = asyncio.create_task(opening(Settings(), card, lambda what, _: told.put_nowait(what)))
        assert "waiting for another process" in await asyncio.wait_for(told.get(), 10)
        folder.keep(card, TUNED)
    assert (await start).chunk == 77
    assert not runs


async def test_a_model_in_parts_is_measured(
    card: ModelCard, measuring: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model of gigabytes, whose first file holds nothing but its vocabulary, would never be measured, or measured
    as if its weights took no memory."""
    whole = tmp_path / "a-00001-of-00002.gguf"
    whole.write_bytes(SHIPPED.read_bytes())
    (tmp_path / "a-00002-of-00002.gguf").write_bytes(bytes(1000))
    size = SHIPPED.stat().st_size
    assert tuning(Settings(), replace(card, path=whole), nobody).weights == size + 1000
    monkeypatch.setattr(module, "SMALL", size)
    runs = measuring(TUNED)
    await opening(Settings(), card, nobody)
    assert not runs
    await opening(Settings(), replace(card, path=whole), nobody)
    assert runs


def test_a_trial_without_flash_has_its_memory_counted(card: ModelCard) -> None:
    """The process that measures would be killed for want of a gigabyte that nobody planned."""
    plain = tuning(Settings(), card, nobody)
    heads: Any = read_metadata(SHIPPED)["qwen3.attention.head_count"]
    assert plain.cell_without == plain.cell + heads * 544 * 6


def test_what_is_given_is_not_asked_for(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and caches would be chosen by times that the server never has."""
    plain = tuning(Settings(), card, nobody)
    assert plain.environment(0) != plain.environment(1)
    assert plain.cell > 0
    given = tuning(Settings(threads=7, spin=5), card, nobody)
    assert given.threads == (7,)
    assert given.environment(0)["GOMP_SPINCOUNT"] == given.environment(1)["GOMP_SPINCOUNT"] == "5"
    monkeypatch.setenv("GOMP_SPINCOUNT", "9")
    plain = tuning(Settings(), card, nobody)
    assert plain.environment(0)["GOMP_SPINCOUNT"] == plain.environment(1)["GOMP_SPINCOUNT"] == "9"


@pytest.mark.parametrize("given", [{"exact": True}, {"threads": 1}, {"spin": 0}])
def test_what_was_measured_with_a_setting_is_not_used_without(card: ModelCard, given: dict[str, Any]) -> None:
    """What was left out because a setting said it would never be measured."""
    remembered(Settings(**given), card).keep(card, TUNED)
    assert remembered(Settings(), card).recall(card) is None
    assert remembered(Settings(**given), card).recall(card) == TUNED
