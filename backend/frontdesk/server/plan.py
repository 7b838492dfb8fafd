"""How large to open a model: settings, the model's own numbers and the machine's, made into one `Load`.

A setting wins over what was measured of this model on this machine (`fleet/tuned`), and that over the defaults here.
Where no setting says otherwise the KV cache takes at most a third of the memory that is free, so that the weights and
everybody else keep room. Reads the GGUF's metadata, never its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from frontdesk.config import MIB, PARKED_MIB, SMALL, Settings
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import ModelCard
from frontdesk.fleet.tuned import UNKNOWN, Tuned
from frontdesk.worker.machine import usable_cores, usable_memory
from frontdesk.worker.protocol import Load

BYTES = {"f16": 2.0, "f32": 4.0, "q8_0": 34 / 32}  # per number in the KV cache
MEMORY_SHARE = 1 / 3
PARKED_SHARE = 1 / 10
CHUNK, CHUNK_BUSY = 512, 128  # tokens


T = TypeVar("T")


def plan(settings: Settings, card: ModelCard, tuned: Tuned | None = None) -> Load:
    """How to open this model here."""
    tuned = tuned or UNKNOWN
    exact = settings.exactly(card.exact)
    window = settings.window(card.context)
    memory = usable_memory()
    usual_type = exact or settings.flash == "off"  # q8_0 needs flash attention
    kv_type = first(settings.kv_type, None if usual_type else tuned.kv_type, "f16")
    metadata = read_metadata(card.path)
    sliding = slides(metadata)
    layout = "streams" if exact or sliding else first(settings.kv_layout, tuned.kv_layout)
    cell = cell_bytes(metadata, kv_type)
    fits = int(memory * MEMORY_SHARE / cell) if memory and cell else None
    streams = exact or sliding or (layout == "streams" and (fits is None or fits >= window * settings.slots))
    threads = first(settings.threads, tuned.threads, usable_cores())
    room = settings.kv_tokens or fits if sliding else None  # whose slots cannot share cells: fewer where room is short
    slots = settings.slots if room is None else min(settings.slots, max(1, room // window))
    least = threads if settings.threads or card.path.stat().st_size > SMALL else 1
    return Load(
        path=str(card.path),
        window=window,
        kv_cells=settings.kv_cells(window, fits, streams=streams),
        slots=slots,
        threads=threads,
        threads_least=least,
        chunk=first(settings.chunk, tuned.chunk, CHUNK),
        chunk_busy=first(settings.chunk_busy, tuned.chunk_busy, CHUNK_BUSY),
        kv_type=kv_type,
        exact=exact,
        parked_bytes=parked_bytes(settings, memory),
        shelf=str(place.absolute()) if (place := settings.parked_place) else "",
        shelf_bytes=settings.parked_disk_mib * MIB,
        pad_rows=first(settings.pad_rows, tuned.pad_rows, False),
        speculate=first(settings.speculate, tuned.speculate, False),
        kv_layout="unified" if layout == "unified" else "auto",
        flash="on" if exact else first(settings.flash, tuned.flash, "auto"),
        spin=first(settings.spin, tuned.spin, None),
        steps=tuned.steps,
    )


def first(*values: T | None) -> T:
    """The first that is there; the last one may be `None`."""
    return next((value for value in values if value is not None), values[-1])  # pyright: ignore[reportReturnType]


def parked_bytes(settings: Settings, memory: int | None) -> int:
    """Memory for parked conversations; `memory` is what is free."""
    if settings.parked_mib is not None:
        return settings.parked_mib * MIB
    most = PARKED_MIB * MIB
    return most if memory is None else min(most, int(memory * PARKED_SHARE))


def slides(metadata: Mapping[str, object]) -> bool:
    """Whether the model attends through a sliding window: see `llamacpp.library.open_context`."""
    size = metadata.get(f"{metadata.get('general.architecture')}.attention.sliding_window")
    return isinstance(size, int) and size > 0


def cell_bytes(metadata: Mapping[str, object], kv_type: str) -> float:
    """KV bytes of one token, from the architecture's numbers; 0 when they are not all there."""
    architecture = metadata.get("general.architecture")

    def number(name: str) -> int:
        value = metadata.get(f"{architecture}.{name}")
        return max(value) if isinstance(value, list) and value else value if isinstance(value, int) else 0

    heads = number("attention.head_count")
    kv_heads = number("attention.head_count_kv") or heads
    width = number("embedding_length") // heads if heads else 0
    key, value = number("attention.key_length") or width, number("attention.value_length") or width
    return number("block_count") * kv_heads * (key + value) * BYTES[kv_type]
