"""How large to open a model: settings, the model's own numbers and the machine's, made into one `Load`.

A setting wins over what was measured of this model on this machine (`fleet/tuned`), and that over the defaults here.
Where no setting says otherwise the KV cache takes at most a third of the memory that the weights leave, or half of it
where one conversation needs that, so that everybody else keeps room; a conversation that does not fit there may hold
fewer tokens than usual. What a setting says is done, whether it fits or not. Reads the GGUF's metadata, never its
tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import structlog

from frontdesk.config import MIB, PARKED_MIB, SMALL, Settings
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import ModelCard
from frontdesk.fleet.tuned import UNKNOWN, Tuned
from frontdesk.llamacpp.library import UBATCH
from frontdesk.worker.identity import identity
from frontdesk.worker.machine import usable_cores, usable_memory
from frontdesk.worker.protocol import Load

BYTES = {"f16": 2.0, "f32": 4.0, "q8_0": 34 / 32}  # per number in the KV cache
MEMORY_SHARE = 1 / 3
WINDOW_SHARE = 1 / 2  # where the share above holds less than one conversation
PARKED_SHARE = 1 / 10
LEAST_WINDOW, WINDOW_STEP = 2048, 256  # tokens; where memory is short
CHUNK, CHUNK_BUSY = 512, 128  # tokens
FAR = 8192  # tokens of a window; tuning looks at an eighth, which says nothing of flash attention in longer ones
WEIGHT_BYTES = 6  # of one row, head and token of context: what attention without flash computes and then rounds
SLIDING = {"gemma2": 4096, "llama4": 8192}  # what llama.cpp takes where the file names no window

log = structlog.stdlib.get_logger("frontdesk.server")

T = TypeVar("T")


def plan(settings: Settings, card: ModelCard, tuned: Tuned | None = None) -> Load:
    """How to open this model here."""
    tuned = tuned or UNKNOWN
    exact = settings.exactly(card.exact)
    memory, weights = usable_memory(), weight_bytes(card)
    left = None if memory is None else max(0, memory - weights)
    usual_type = exact or settings.flash == "off"  # q8_0 needs flash attention
    kv_type = first(settings.kv_type, None if usual_type else tuned.kv_type, "f16")
    metadata = read_metadata(card.path)
    sliding = slides(metadata)
    layout = "streams" if exact or sliding else first(settings.kv_layout, tuned.kv_layout)
    cell = cell_bytes(metadata, kv_type)
    alone = layout == "streams" and _roomy(settings, card.context, cell, weighing_bytes(metadata), left)
    unlike = settings.window(card.context) > FAR or (tuned.kv_layout == "streams" and not alone)  # what was measured
    tuned_flash = None if unlike and tuned.flash == "off" else tuned.flash
    flash = "on" if exact else first(settings.flash, tuned_flash, "auto")
    weighing = weighing_bytes(metadata) if flash == "off" and kv_type != "q8_0" else 0
    each = cell + weighing / (settings.slots if alone else 1)
    own = settings.slots if sliding and "slots" in settings.model_fields_set else 1
    window, fits = _sizes(settings, card.context, left / each if left is not None and cell else None, own)
    streams = exact or sliding or (layout == "streams" and (fits is None or fits >= window * settings.slots))
    threads = first(settings.threads, tuned.threads, usable_cores())
    room = settings.kv_tokens or fits if sliding else None  # whose slots cannot share cells: fewer where room is short
    slots = settings.slots if room is None else min(settings.slots, max(1, room // window))
    cells = settings.kv_cells(window, fits, streams=streams)
    shared = layout == "unified" or cells < slots * window
    kv = int(cells * cell + (cells if shared else cells // slots) * weighing)
    parked = parked_bytes(settings, left, kv)
    _tell(window, settings.window(card.context), memory, weights, kv, parked)
    least = threads if settings.threads or weights > SMALL else 1
    return Load(
        path=str(card.path),
        window=window,
        kv_cells=cells,
        slots=slots,
        threads=threads,
        threads_least=least,
        chunk=first(settings.chunk, tuned.chunk, CHUNK),
        chunk_busy=first(settings.chunk_busy, tuned.chunk_busy, CHUNK_BUSY),
        kv_type=kv_type,
        exact=exact,
        parked_bytes=parked,
        shelf=str(place.absolute()) if (place := settings.parked_place) else "",
        shelf_bytes=settings.parked_disk_mib * MIB,
        pad_rows=first(settings.pad_rows, tuned.pad_rows, False),
        speculate=first(settings.speculate, tuned.speculate, False),
        kv_layout="unified" if layout == "unified" else "auto",
        flash=flash,
        spin=first(settings.spin, tuned.spin, None),
        steps=tuned.steps,
    )


def _roomy(settings: Settings, context: int, cell: float, weighing: int, left: float | None) -> bool:
    """Does every slot get a KV cache of its own where attention is without flash? A step weighs the tokens of one
    window then. What `kv_tokens` says is done, whether it fits or not."""
    each = cell + weighing / settings.slots
    window, fits = _sizes(settings, context, left / each if left is not None and cell else None, 1)
    return settings.kv_cells(window, fits, streams=True) >= settings.slots * window


def first(*values: T | None) -> T:
    """The first that is there; the last one may be `None`."""
    return next((value for value in values if value is not None), values[-1])  # pyright: ignore[reportReturnType]


def weight_bytes(card: ModelCard) -> int:
    """Of all files of the model. Free memory and a cgroup's limit have room for them in it, be they read yet or not:
    they are mapped, and pages of files count as free. What llama.cpp arranges anew for the processor (Q4_0; with AMX
    most kinds) is copied and may take an eighth more, which is not counted."""
    return sum(size for _, _, size, _ in identity(str(card.path)) or ())


def _sizes(settings: Settings, context: int, free: float | None, windows: int) -> tuple[int, int | None]:
    """Tokens that one conversation may hold, and that the KV cache has memory for (`None`: nobody knows). `free` is how
    many would take all that the weights leave, `windows` how many conversations must have cells of their own."""
    window = settings.window(context)
    if free is None:
        return window, None
    if not settings.ctx and not settings.kv_tokens:
        most = int(free * WINDOW_SHARE / windows) // WINDOW_STEP * WINDOW_STEP
        window = min(window, max(LEAST_WINDOW, most))
    return window, max(int(free * MEMORY_SHARE), window * windows)


def _tell(window: int, usual: int, memory: int | None, weights: int, kv: int, parked: int) -> None:
    """Warn of a window that is smaller than usual, and of more bytes than there are."""
    if memory is None:
        return
    sizes = {"memory": memory, "weights": weights, "kv_cache": kv, "parked": parked}
    told = {"window": window} | {f"{name}_mib": round(size / MIB) for name, size in sizes.items()}
    if weights + kv + parked > memory:
        log.warning("the model does not fit into memory: it may be slow, or killed", **told)
    elif window < usual:
        log.warning("conversations may hold fewer tokens than usual: memory is short", usual=usual, **told)


def parked_bytes(settings: Settings, free: int | None, kv: int = 0) -> int:
    """Memory for parked conversations; `free` is what the weights leave, `kv` what the KV cache takes of it."""
    if settings.parked_mib is not None:
        return settings.parked_mib * MIB
    most = PARKED_MIB * MIB
    return most if free is None else max(0, min(most, int(free * PARKED_SHARE), free - kv))


def slides(metadata: Mapping[str, object]) -> bool:
    """Whether the model attends through a sliding window: see `llamacpp.library.open_context`. llama.cpp lets none of
    phi3 slide, whose files all name a window (`llama_model_phi3::load_arch_hparams`)."""
    architecture = str(metadata.get("general.architecture"))
    size = metadata.get(f"{architecture}.attention.sliding_window", SLIDING.get(architecture))
    return architecture != "phi3" and isinstance(size, int) and size > 0


def cell_bytes(metadata: Mapping[str, object], kv_type: str) -> float:
    """KV bytes of one token, from the architecture's numbers; 0 when they are not all there. Of what is compressed for
    all heads together (DeepSeek's MLA) llama.cpp keeps the keys alone, which hold the values."""
    heads = _number(metadata, "attention.head_count")
    kv_heads = _number(metadata, "attention.head_count_kv") or heads
    width = _number(metadata, "embedding_length") // heads if heads else 0
    key = _number(metadata, "attention.key_length") or width
    value = _number(metadata, "attention.value_length") or width
    if _number(metadata, "attention.key_length_mla"):
        value = 0
    return _number(metadata, "block_count") * kv_heads * (key + value) * BYTES[kv_type]


def weighing_bytes(metadata: Mapping[str, object]) -> int:
    """Bytes in which attention without flash weighs one token of context, for every row of a step and every head."""
    return _number(metadata, "attention.head_count") * UBATCH * WEIGHT_BYTES


def _number(metadata: Mapping[str, object], name: str) -> int:
    """One of the architecture's, the largest of its layers; 0 where there is none."""
    value = metadata.get(f"{metadata.get('general.architecture')}.{name}")
    return max(value) if isinstance(value, list) and value else value if isinstance(value, int) else 0
