"""Which of a setting, a measurement and a default says how a model is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from frontdesk.config import Settings, load
from frontdesk.errors import ConfigError
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import ModelCard, card_for_file
from frontdesk.fleet.tuned import Tuned
from frontdesk.server import plan as plan_module
from frontdesk.server.plan import cell_bytes, plan, slides, weighing_bytes, weight_bytes
from frontdesk.worker.protocol import Load

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
TUNED = Tuned(
    model="m", machine="x", measured="2026-11-24", seconds=20.0, threads=3, spin=0, chunk=256, chunk_busy=64,
    kv_layout="streams", kv_type="q8_0", flash="off", pad_rows=True, speculate=True,
    steps={"decode 1": 12.0, "verify 4": 30.0},
)  # fmt: skip
GIB = 2**30
LLAMA = {  # of 8B parameters; in Q4_K_M its file has 4.92 GB
    "general.architecture": "llama", "llama.block_count": 32, "llama.embedding_length": 4096,
    "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
}  # fmt: skip
GEMMA = {  # 2, of 9B parameters
    "general.architecture": "gemma2", "gemma2.block_count": 42, "gemma2.embedding_length": 3584,
    "gemma2.attention.head_count": 16, "gemma2.attention.head_count_kv": 8, "gemma2.attention.key_length": 256,
    "gemma2.attention.value_length": 256, "gemma2.attention.sliding_window": 4096,
}  # fmt: skip
PHI = {  # 3.5 mini
    "general.architecture": "phi3", "phi3.block_count": 32, "phi3.embedding_length": 3072,
    "phi3.attention.head_count": 32, "phi3.attention.head_count_kv": 32, "phi3.attention.sliding_window": 262144,
}  # fmt: skip


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
    monkeypatch.setattr(plan_module, "usable_memory", lambda: int(3 * cell * 512 * 6) + weight_bytes(card))
    tuned = structs.replace(TUNED, kv_type=None, flash=None)
    settings = Settings(slots=8, ctx=512)
    load = plan(settings, card, tuned)
    assert load.unified
    for shared in (settings, Settings(slots=6, ctx=512, kv_layout="unified")):
        assert plan(shared, card, structs.replace(tuned, flash="off")).flash == "auto"  # measured with streams
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
    monkeypatch.setattr(plan_module, "usable_memory", lambda: int(3 * cell * 512 * 2.5) + weight_bytes(card))
    load = plan(Settings(ctx=512), card)
    assert (load.slots, load.unified) == (2, False)


def opened(
    model: Mapping[str, object], weights: int, memory: int | None, settings: Settings, tuned: Tuned | None = None
) -> Load:
    """How a model of these numbers and this size is opened where so much memory is free, in bytes."""
    card = ModelCard("m", SHIPPED, "", 131072, None, "", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "read_metadata", lambda _path: model)
        patch.setattr(plan_module, "weight_bytes", lambda _card: weights)
        patch.setattr(plan_module, "usable_memory", lambda: memory)
        return plan(settings, card, tuned)


def taken(model: Mapping[str, object], load: Load) -> float:
    """Bytes of what is opened, without the weights."""
    return load.kv_cells * cell_bytes(model, load.kv_type) + attention(model, load) + load.parked_bytes


def attention(model: Mapping[str, object], load: Load) -> int:
    """Bytes that attention without flash takes beside the KV cache."""
    if load.flash != "off" or load.kv_type == "q8_0":
        return 0
    return (load.kv_cells if load.unified else load.kv_cells // load.slots) * weighing_bytes(model)


def test_phi3_does_not_slide() -> None:
    """Its files all name a window, llama.cpp lets none slide: a model for 16 slots would have one."""
    load = opened(PHI, 2_390_000_000, 8 * GIB, Settings())
    assert (load.slots, load.unified) == (16, True)
    sliding = opened(GEMMA, 5_760_000_000, 8 * GIB, Settings())
    assert (sliding.slots, sliding.unified) == (1, False)


@pytest.mark.parametrize(("size", "slides_then"), [(None, True), (4096, True), (0, False)])
@pytest.mark.parametrize("name", ["gemma2", "llama4"])
def test_a_window_that_no_file_names(name: str, size: int | None, slides_then: bool) -> None:
    """llama.cpp lets them slide all the same: the engine would refuse the layout, and the model never be opened."""
    key = f"{name}.attention.sliding_window"
    assert slides({"general.architecture": name} | ({} if size is None else {key: size})) == slides_then
    assert not slides({"general.architecture": "llama"})


def test_a_compressed_cache_has_no_values() -> None:
    """DeepSeek's conversations would be half as long as memory holds."""
    sizes = {"block_count": 27, "attention.head_count": 16, "attention.head_count_kv": 1, "attention.key_length": 576}
    sizes |= {"attention.value_length": 512, "embedding_length": 2048}
    older = {"general.architecture": "deepseek2"} | {f"deepseek2.{name}": size for name, size in sizes.items()}
    mla = {"deepseek2.attention.key_length_mla": 192, "deepseek2.attention.value_length_mla": 128}
    assert cell_bytes(older | mla, "f16") == 27 * 576 * 2
    assert cell_bytes(older, "f16") == 27 * (576 + 512) * 2


def test_attention_without_flash_takes_memory() -> None:
    """The server would be killed when its first long prompt comes: with 32 heads that is 1.6 GiB for 16,384 tokens."""
    usual = opened(LLAMA, 5 * GIB, 8 * GIB, Settings())
    without = opened(LLAMA, 5 * GIB, 8 * GIB, Settings(flash="off"))
    assert attention(LLAMA, without) == without.kv_cells * 32 * 544 * 6
    assert 2048 < without.window < usual.window
    assert taken(LLAMA, without) < 0.6 * 3 * GIB
    with capture_logs() as lines:
        opened(LLAMA, 5 * GIB, 8 * GIB, Settings(flash="off", ctx=16384))
    assert [line["event"] for line in lines] == ["the model does not fit into memory: it may be slow, or killed"]


def test_what_was_measured_of_short_talks_is_not_used_for_long_ones() -> None:
    """Attention would be slow, and take gigabytes, in windows that nobody has looked at."""
    tuned = structs.replace(TUNED, kv_type=None)
    assert opened(LLAMA, GIB, None, Settings(), tuned).flash == "off"
    assert opened(LLAMA, GIB, None, Settings(ctx=16384), tuned).flash == "auto"
    assert opened(LLAMA, GIB, None, Settings(ctx=16384, flash="off"), tuned).flash == "off"
    assert opened(LLAMA, GIB, None, Settings(ctx=16384), structs.replace(tuned, flash="on")).flash == "on"


def test_a_model_in_parts_is_not_small() -> None:
    """One thread would be tried with a model of gigabytes, whose first file holds nothing but its vocabulary."""
    assert SHIPPED.stat().st_size < 2**25
    load = opened(LLAMA, 5 * GIB, None, Settings(), structs.replace(TUNED, threads=3))
    assert (load.threads, load.threads_least) == (3, 3)


def test_the_weights_are_counted() -> None:
    """The KV cache would take memory that the weights need, and the server be killed or stand still."""
    with capture_logs() as lines:
        load = opened(LLAMA, 4_920_000_000, 6 * GIB, Settings())
    assert (load.slots, load.window, load.kv_cells) == (16, 5632, 5632)
    assert taken(LLAMA, load) + 4_920_000_000 < 5.5 * GIB
    (line,) = lines
    assert line["event"] == "conversations may hold fewer tokens than usual: memory is short"
    sizes = {name: value for name, value in line.items() if isinstance(value, int)}
    assert sizes == {
        "window": 5632, "usual": 8192, "memory_mib": 6144, "weights_mib": 4692, "kv_cache_mib": 704, "parked_mib": 145,
    }  # fmt: skip


@pytest.mark.parametrize("settings", [Settings(), Settings(ctx=8192)])
def test_what_does_not_fit_is_told(settings: Settings) -> None:
    """A server that is killed by the system would have said nothing of why."""
    with capture_logs() as lines:
        load = opened(LLAMA, 4_920_000_000, 4 * GIB, settings)
    assert load.window == load.kv_cells == (settings.ctx or 2048)
    (line,) = lines
    assert line["event"] == "the model does not fit into memory: it may be slow, or killed"
    assert (line["memory_mib"], line["weights_mib"], line["kv_cache_mib"]) == (4096, 4692, load.window // 8)


def test_what_is_parked_gives_way() -> None:
    """Memory that the smallest window needs would be promised to conversations that may never come back."""
    load = opened(LLAMA, GIB, GIB + 260 * 2**20, Settings())
    assert (load.window, load.parked_bytes) == (2048, 4 * 2**20)
    assert opened(LLAMA, GIB, GIB + 260 * 2**20, Settings(parked_mib=50)).parked_bytes == 50 * 2**20


def test_slots_that_were_asked_for_have_smaller_windows() -> None:
    """Of four slots that somebody wants one would be there, and the others' requests wait in line."""
    load = opened(GEMMA, 5_760_000_000, 12 * GIB, Settings(slots=4))
    assert (load.slots, load.window, load.unified) == (4, 2560, False)
    load = opened(GEMMA, 5_760_000_000, 12 * GIB, Settings(slots=4, ctx=4096))
    assert (load.slots, load.window, load.kv_cells) == (4, 4096, 4 * 4096)


def test_all_parts_of_a_model_are_weighed(tmp_path: Path) -> None:
    """A model in ten files would be taken for a tenth of its size."""
    for name, size in (("a-00001-of-00002.gguf", 7), ("a-00002-of-00002.gguf", 30), ("b-00001-of-00002.gguf", 500)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert weight_bytes(ModelCard("a", tmp_path / "a-00001-of-00002.gguf", "", 512, None, "", "")) == 37


@pytest.mark.parametrize("exact", [True, False])
def test_the_shipped_model_is_opened_in_full(card: ModelCard, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fits everywhere, and yet would hold less where its few megabytes are counted."""
    card = replace(card, exact=exact)
    monkeypatch.setattr(plan_module, "usable_memory", lambda: None)
    unlimited = plan(Settings(), card)
    monkeypatch.setattr(plan_module, "usable_memory", lambda: 16 * GIB)
    with capture_logs() as lines:
        assert plan(Settings(), card) == unlimited
    monkeypatch.setattr(plan_module, "usable_memory", lambda: GIB)
    small = plan(Settings(), card)
    assert structs.replace(small, parked_bytes=0) == structs.replace(unlimited, parked_bytes=0)
    assert not lines


MODELS = st.sampled_from([LLAMA, GEMMA, PHI])
WEIGHTS = st.integers(GIB, 20 * GIB)
LEFT = st.integers(-GIB, GIB) | st.integers(0, 40 * GIB)  # bytes of memory beside the weights
TUNINGS = st.sampled_from([None, TUNED, structs.replace(TUNED, kv_layout="unified", kv_type=None)])
MEASURES = {
    "ctx": st.integers(1, 64).map(lambda n: 256 * n),
    "kv_tokens": st.integers(1, 512).map(lambda n: 256 * n),
    "slots": st.integers(1, 32),
}


@given(MODELS, WEIGHTS, LEFT, TUNINGS, st.booleans())
def test_what_is_opened_fits(
    model: Mapping[str, object], weights: int, left: int, tuned: Tuned | None, exact: bool
) -> None:
    """The server would be killed where a smaller window had fitted, or the warning would come where all fits."""
    with capture_logs() as lines:
        load = opened(model, weights, weights + left, Settings.model_construct(exact=exact), tuned)
    weighing = weighing_bytes(model) if attention(model, load) else 0
    fits = 2048 * (cell_bytes(model, load.kv_type) + weighing) <= left
    assert (taken(model, load) <= left) == fits
    assert any("does not fit" in line["event"] for line in lines) == (not fits)
    assert load.window % 256 == 0
    assert 2048 <= load.window <= 8192
    if load.window > 2048:
        assert taken(model, load) <= 0.6 * left + 1


@given(MODELS, WEIGHTS, LEFT, st.integers(0, 40 * GIB), TUNINGS, st.fixed_dictionaries({}, optional=MEASURES))
def test_more_memory_never_gives_less(
    model: Mapping[str, object], weights: int, left: int, more: int, tuned: Tuned | None, asked: dict[str, Any]
) -> None:
    """A larger machine would serve fewer, or shorter conversations."""
    settings = Settings.model_construct(**asked)
    small = opened(model, weights, weights + left, settings, tuned)
    large = opened(model, weights, weights + left + more, settings, tuned)
    unlimited = opened(model, weights, None, settings, tuned)
    for name in ("window", "kv_cells", "slots", "parked_bytes"):
        assert getattr(small, name) <= getattr(large, name) <= getattr(unlimited, name)


@given(MODELS, WEIGHTS, LEFT, TUNINGS, st.fixed_dictionaries({}, optional=MEASURES))
def test_what_is_asked_for_is_done(
    model: Mapping[str, object], weights: int, left: int, tuned: Tuned | None, asked: dict[str, Any]
) -> None:
    """Somebody who knows better would be given something else, however the memory is."""
    settings = Settings.model_construct(**asked)
    load = opened(model, weights, weights + left, settings, tuned)
    cells = asked.get("kv_tokens")
    assert cells in (None, load.kv_cells)
    if "ctx" in asked:
        assert load.window == min(asked["ctx"], cells or asked["ctx"])
    if "slots" in asked and not (model is GEMMA and cells):  # where each has its own, `kv_tokens` says how many
        assert load.slots == asked["slots"]
    if model is GEMMA:
        assert load.slots * load.window <= load.kv_cells
