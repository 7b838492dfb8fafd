"""How large to open a model: settings, the model's own numbers and the machine's, made into one `Load`.

Where no setting says otherwise the KV cache takes at most a third of the memory that is free, so that the weights and
everybody else keep room. Reads the GGUF's metadata, never its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

from frontdesk.config import PARKED_MIB, Settings
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import ModelCard
from frontdesk.worker.machine import usable_cores, usable_memory
from frontdesk.worker.protocol import Load

BYTES = {"f16": 2.0, "f32": 4.0, "q8_0": 34 / 32}  # per number in the KV cache
MEMORY_SHARE = 1 / 3
PARKED_SHARE = 1 / 10
MIB = 2**20
FITS_CACHES = 32 * 2**20  # bytes; on smaller weights one thread may be faster than several (see `llamacpp.choice`)


def plan(settings: Settings, card: ModelCard) -> Load:
    """How to open this model here."""
    exact = card.exact if settings.exact is None else settings.exact
    window = settings.window(card.context)
    memory = usable_memory()
    cell = cell_bytes(read_metadata(card.path), settings.kv_type)
    fits = int(memory * MEMORY_SHARE / cell) if memory and cell else None
    threads = settings.threads or usable_cores()
    least = threads if settings.threads or card.path.stat().st_size > FITS_CACHES else 1
    return Load(
        path=str(card.path),
        window=window,
        kv_cells=settings.kv_cells(window, fits, exact=exact),
        slots=settings.slots,
        threads=threads,
        threads_least=least,
        chunk=settings.chunk,
        chunk_busy=settings.chunk_busy,
        kv_type=settings.kv_type,
        exact=exact,
        parked_bytes=parked_bytes(settings, memory),
        shelf=str(place.absolute()) if (place := settings.parked_place) else "",
        shelf_bytes=settings.parked_disk_mib * MIB,
        pad_rows=settings.pad_rows,
        speculate=settings.speculate,
    )


def parked_bytes(settings: Settings, memory: int | None) -> int:
    """Memory for parked conversations; `memory` is what is free."""
    if settings.parked_mib is not None:
        return settings.parked_mib * MIB
    most = PARKED_MIB * MIB
    return most if memory is None else min(most, int(memory * PARKED_SHARE))


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
