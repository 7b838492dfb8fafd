"""Writes a model file in another number format, with llama.cpp's own quantizer. Knows formats by their numbers."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Final

from frontdesk.llamacpp.library import last_words, listening, llama_cpp

TENSOR: Final = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")  # what the quantizer says before each tensor


def quantize(
    source: str, target: str, ftype: int, threads: int, requantize: bool, on_progress: Callable[[float], None]
) -> str:
    """`ftype` is llama.h's `llama_ftype`; `requantize`: the source may be quantized already. Returns why it failed, or
    "". A damaged source may abort the process."""

    def heard(line: str) -> None:
        if found := TENSOR.search(line):
            on_progress(int(found[1]) / int(found[2]))

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftype
    params.nthread = threads
    params.allow_requantize = requantize
    with listening(heard):
        code = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
    return (last_words() or f"llama.cpp gave no reason (code {code})") if code else ""
