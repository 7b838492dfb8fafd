"""The arrays behind one `llama_batch`: numpy's, made once, filled from chunks by slices. Knows no model."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from frontdesk.engine.batch import Chunk
from frontdesk.llamacpp.library import llama_cpp


class Rows:
    """The arrays behind one `llama_batch`, for up to `capacity` rows."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._slots = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        addresses = self._slots.ctypes.data + self._slots.itemsize * np.arange(capacity, dtype=np.uint64)
        self._slot_pointers = addresses.astype(np.uint64)
        int32 = ctypes.POINTER(ctypes.c_int32)
        self.batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=ctypes.cast(self._tokens.ctypes.data, int32),
            embd=None,
            pos=ctypes.cast(self._positions.ctypes.data, int32),
            n_seq_id=ctypes.cast(self._counts.ctypes.data, int32),
            seq_id=ctypes.cast(self._slot_pointers.ctypes.data, ctypes.POINTER(int32)),
            logits=ctypes.cast(self._wanted.ctypes.data, ctypes.POINTER(ctypes.c_int8)),
        )

    def clear(self) -> None:
        self.batch.n_tokens = 0

    def add(self, slot: int, position: int, *, wanted: bool = True) -> None:
        """One more row with token 0, for whoever needs no more than that something is computed."""
        row = self.batch.n_tokens
        self._tokens[row], self._positions[row], self._slots[row], self._wanted[row] = 0, position, slot, wanted
        self.batch.n_tokens = row + 1

    @property
    def count(self) -> int:
        return self.batch.n_tokens

    def fill(self, chunks: list[Chunk], holes: Sequence[tuple[int, int]] = ()) -> int:
        """Enter the chunks, and a row whose logits nobody wants for each (slot, position) of `holes`, in the order of
        slots; returns the number of rows."""
        self.clear()
        left = list(holes)
        for chunk in chunks:
            while left and left[0][0] < chunk.slot:
                self.add(*left.pop(0), wanted=False)
            self._enter(chunk)
        return self.count

    def _enter(self, chunk: Chunk) -> None:
        row = self.batch.n_tokens
        end = row + len(chunk.tokens)
        self._tokens[row:end] = chunk.tokens
        self._positions[row:end] = range(chunk.start, chunk.start + len(chunk.tokens))
        self._slots[row:end] = chunk.slot
        self._wanted[row:end] = 0
        self._wanted[end - 1 - chunk.drafts : end] = chunk.sample
        self.batch.n_tokens = end
