"""Which of a setting, a measurement and a default says how a model is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from frontdesk.config import Settings
from frontdesk.fleet.registry import ModelCard, card_for_file
from frontdesk.fleet.tuned import Tuned
from frontdesk.server.plan import plan

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
TUNED = Tuned(
    model="m", machine="x", measured="2026-11-24", seconds=20.0, threads=3, spin=0, chunk=256, chunk_busy=64,
    kv_layout="streams", kv_type="q8_0", flash="off", pad_rows=True, speculate=True,
)  # fmt: skip


@pytest.fixture
def card() -> ModelCard:
    return card_for_file(SHIPPED)


def test_defaults(card: ModelCard) -> None:
    """A machine that was never measured would be opened with nonsense."""
    load = plan(Settings(), card)
    assert (load.chunk, load.chunk_busy, load.kv_type, load.flash, load.spin) == (512, 128, "f16", "auto", None)
    assert load.unified
    assert not load.pad_rows
    assert not load.speculate
    assert load.threads >= 1


def test_what_was_measured_is_used(card: ModelCard) -> None:
    """Measuring would be for nothing."""
    load = plan(Settings(slots=4), card, TUNED)
    assert (load.threads, load.spin, load.chunk, load.chunk_busy) == (3, 0, 256, 64)
    assert (load.kv_type, load.flash, load.unified) == ("q8_0", "off", False)
    assert load.pad_rows
    assert load.speculate


def test_settings_win(card: ModelCard) -> None:
    """Whoever asks for something would get something else."""
    settings = Settings(
        threads=1, spin=77, chunk=512, chunk_busy=128, kv_type="f16", kv_layout="unified", flash="on", pad_rows=False,
        speculate=False, slots=4,
    )  # fmt: skip
    load = plan(settings, card, TUNED)
    assert (load.threads, load.spin, load.chunk, load.chunk_busy) == (1, 77, 512, 128)
    assert (load.kv_type, load.flash, load.unified) == ("f16", "on", True)
    assert not load.pad_rows
    assert not load.speculate


def test_exact_wins_over_both(card: ModelCard) -> None:
    """An exact model's replies would depend on what happened to be measured, or be promised and not kept."""
    load = plan(Settings(kv_layout="unified", flash="off", slots=4), replace(card, exact=True), TUNED)
    assert not load.unified
    assert (load.kv_type, load.flash) == ("f16", "on")


def test_streams_need_memory(card: ModelCard) -> None:
    """Streams for many slots would take more memory than there is; they are only a wish."""
    load = plan(Settings(kv_layout="streams", slots=16, kv_tokens=5000), card)
    assert load.unified
    assert load.kv_cells == 5000
