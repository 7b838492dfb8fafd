"""Everything that a sequence has in the KV cache, as bytes: taken out and put back, also into another sequence.

Of a model with a sliding window (`library.slides`) llama.cpp leaves out what the window has left behind: enough to time
steps with, not to go on from.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from frontdesk.llamacpp.library import last_words, llama_cpp

State = np.ndarray[Any, np.dtype[np.uint8]]


class DecodeFailed(RuntimeError):
    """llama.cpp could not compute a batch for a reason that is not in the batch; the engine cannot go on."""


def saved(context: Any, slot: int) -> State | None:
    """A copy of a sequence's state; `None` if it holds nothing."""
    if llama_cpp.llama_memory_seq_pos_max(llama_cpp.llama_get_memory(context), slot) < 0:
        return None
    state = np.empty(llama_cpp.llama_state_seq_get_size(context, slot), np.uint8)
    if llama_cpp.llama_state_seq_get_data(context, _bytes_of(state), state.size, slot) != state.size:
        raise DecodeFailed(f"llama.cpp could not save sequence {slot}")
    return state


def restore(context: Any, slot: int, state: State | None) -> None:
    """Replace what a sequence holds; by nothing if `state` is `None`."""
    llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(context), slot, -1, -1)
    if state is None:
        return
    if not llama_cpp.llama_state_seq_set_data(context, _bytes_of(state), state.size, slot):
        raise DecodeFailed(f"llama.cpp could not restore sequence {slot}: {last_words()}")


def _bytes_of(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
