"""Which of a setting, a measurement and a default says how a model is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from frontdesk.config import Settings, load
from frontdesk.errors import ConfigError
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import ModelCard, card_for_file
from frontdesk.fleet.tuned import Tuned
from frontdesk.server import plan as plan_module
from frontdesk.server.plan import cell_bytes, plan

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
TUNED = Tuned(
    model="m", machine="x", measured="2026-11-24", seconds=20.0, threads=3, spin=0, chunk=256, chunk_busy=64,
    kv_layout="streams", kv_type="q8_0", flash="off", pad_rows=True, speculate=True,
    steps={"decode 1": 12.0, "verify 4": 30.0},
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
    load = plan(Settings(slots=8, ctx=512), card, TUNED)
    assert (load.threads, load.spin, load.chunk, load.chunk_busy) == (3, 0, 256, 64)
    assert (load.kv_type, load.flash, load.unified) == ("q8_0", "off", False)
    assert load.pad_rows
    assert load.speculate
    assert load.steps == TUNED.steps


def test_settings_win(card: ModelCard) -> None:
    """Whoever asks for something would get something else."""
    settings = Settings(
        threads=1, spin=77, chunk=512, chunk_busy=128, kv_type="f16", kv_layout="unified", flash="on", pad_rows=False,
        speculate=False, slots=8, ctx=512,
    )  # fmt: skip
    load = plan(settings, card, TUNED)
    assert (load.threads, load.spin, load.chunk, load.chunk_busy) == (1, 77, 512, 128)
    assert (load.kv_type, load.flash, load.unified) == ("f16", "on", True)
    assert not load.pad_rows
    assert not load.speculate


@pytest.mark.parametrize("slots", [4, 8])
@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_the_layout_that_was_measured_is_used(card: ModelCard, layout: str, slots: int) -> None:
    """With few slots every one has room for a stream, and a stream it would get, whatever `--show` says is best."""
    load = plan(Settings(slots=slots, ctx=512), card, structs.replace(TUNED, kv_layout=layout))
    assert load.unified == (layout == "unified")


def test_streams_that_do_not_fit_take_no_more_than_one_pool(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of all free memory would be taken where four conversations are enough."""
    cell = cell_bytes(read_metadata(card.path), "f16")
    monkeypatch.setattr(plan_module, "usable_memory", lambda: int(3 * cell * 512 * 6))
    tuned = structs.replace(TUNED, kv_type=None)
    settings = Settings(slots=8, ctx=512)
    load = plan(settings, card, tuned)
    assert load.unified
    assert load.kv_cells == plan(settings, card).kv_cells == 4 * 512
    assert plan(Settings(slots=6, ctx=512), card, tuned).kv_cells == 6 * 512
    assert plan(settings, replace(card, exact=True), tuned).kv_cells == 6 * 512


def test_no_flash_means_no_quantized_cache(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever switches flash attention off would get it all the same, since a q8_0 cache needs it."""
    opened = plan(Settings(flash="off"), card, TUNED)
    assert (opened.flash, opened.kv_type) == ("off", "f16")
    monkeypatch.setenv("FRONTDESK_FLASH", "off")
    assert load(None, {"kv_type": "f16"}).flash == "off"
    with pytest.raises(ConfigError, match="flash = 'off' from FRONTDESK_FLASH: kv_type = 'q8_0' needs"):
        load(None, {"kv_type": "q8_0"})


def test_exact_wins_over_both(card: ModelCard) -> None:
    """An exact model's replies would depend on what happened to be measured, or be promised and not kept."""
    load = plan(Settings(kv_layout="unified", flash="off", slots=8, ctx=512), replace(card, exact=True), TUNED)
    assert not load.unified
    assert (load.kv_type, load.flash) == ("f16", "on")


def test_streams_need_memory(card: ModelCard) -> None:
    """Streams for many slots would take more memory than there is; they are only a wish."""
    load = plan(Settings(kv_layout="streams", slots=16, kv_tokens=5000), card)
    assert load.unified
    assert load.kv_cells == 5000


def sliding(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The shipped model's numbers, and a sliding window."""
    metadata = read_metadata(SHIPPED) | {"qwen3.attention.sliding_window": size}
    monkeypatch.setattr(plan_module, "read_metadata", lambda _path: metadata)


@pytest.mark.parametrize("settings", [Settings(slots=6, ctx=512), Settings(slots=6, ctx=512, kv_layout="unified")])
def test_a_sliding_window_shares_no_cells(card: ModelCard, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp would write another conversation over what the window has left behind, and answers go wrong."""
    sliding(monkeypatch, 128)
    load = plan(settings, card, structs.replace(TUNED, kv_layout="unified"))
    assert not load.unified
    assert load.slots == 6
    sliding(monkeypatch, 0)
    assert plan(settings, card, structs.replace(TUNED, kv_layout="unified")).unified


def test_a_sliding_window_has_as_many_slots_as_fit(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model could not be opened at all with the default number of slots."""
    sliding(monkeypatch, 128)
    load = plan(Settings(slots=8, ctx=512, kv_tokens=1600), card)
    assert (load.slots, load.unified) == (3, False)
    cell = cell_bytes(read_metadata(card.path), "f16")
    monkeypatch.setattr(plan_module, "usable_memory", lambda: int(3 * cell * 512 * 2.5))
    load = plan(Settings(slots=8, ctx=512), card)
    assert (load.slots, load.unified) == (2, False)
