"""The only types that cross from the service's process to the engine's and back: numbers and settings, no user's text.

Frames are a 4-byte big-endian length and a msgpack array, on an AF_UNIX stream socket. The parent speaks first
(`Load`); the child answers with any number of `Loading`, then `Ready` or `LoadFailed`. From then on the parent
sends `Submit` and `Abort`, and `Stop` at the end; the child one `Stepped` per engine step. A process that measures
(`worker/lab`) is told to `Open` a model and given one `Trial` after the other, each answered by a `Timed`, or to
`Quantize` a file, answered by any number of `Loading` and a `Quantized`. End of file on either side means that the
other is dead. This module knows nothing of what the numbers mean.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from frontdesk.engine.request import Abort, Logprobs, SamplingParams, SequenceOutput, Submit
from frontdesk.engine.trial import Shape, Timed, Timing, Trial

__all__ = [
    "Abort",
    "Load",
    "LoadFailed",
    "Loading",
    "Logprobs",
    "Open",
    "Opened",
    "Quantize",
    "Quantized",
    "Ready",
    "SamplingParams",
    "SequenceOutput",
    "Shape",
    "StepStats",
    "Stepped",
    "Stop",
    "Submit",
    "Timed",
    "Timing",
    "ToChild",
    "ToParent",
    "Trial",
    "body_length",
    "decode_to_child",
    "decode_to_parent",
    "encode",
]

MAX_FRAME: Final = 64 * 1024 * 1024  # bytes; a 1M-token prompt is about 5 MB
HEADER: Final = struct.Struct(">I")


class Load(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Open this model. `window` is the most tokens that one sequence may hold, `kv_cells` what all share.

    The KV layout follows: one stream for each slot if `kv_cells` holds `slots` windows, else one unified pool, as
    always with `kv_layout` "unified". `spin` is for whoever starts the process (`config.engine_environment`).
    `exact` asks for kernels whose result for one sequence does not depend on what else is in the batch.
    """

    path: str
    window: int
    kv_cells: int
    slots: int
    threads: int
    threads_least: int  # steps take this many threads or `threads`, whichever turns out to be faster
    chunk: int  # prompt tokens per step when nothing else runs
    chunk_busy: int  # prompt tokens per step beside running streams
    kv_type: str = "f16"  # f16 | f32 | q8_0
    exact: bool = False
    parked_bytes: int = 0  # of memory for conversations that had to leave the KV cache; 0 = none is kept
    shelf: str = ""  # folder for those that are left when the engine is told to stop; "" = none
    shelf_bytes: int = 0
    pad_rows: bool = False  # may steps be filled up with rows for nothing, where that is faster?
    speculate: bool = False  # may guessed tokens be computed along, where the clock says that it pays?
    kv_layout: str = "auto"  # auto | unified
    flash: str = "auto"  # auto | on | off: flash attention
    spin: int | None = None  # turns that a thread waits at a barrier before it sleeps; None = the usual number
    steps: dict[str, float] = {}  # milliseconds by shape, such as "verify 8", as tuning measured them

    @property
    def unified(self) -> bool:
        return self.kv_layout == "unified" or self.kv_cells < self.slots * self.window


class Stop(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Put on the shelf what is worth it, then end. Replies that still run end without another word."""


class Loading(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """`progress` is 0..1."""

    progress: float


class Ready(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The model is open. `window` and `kv_cells` are what it was really opened with, in tokens."""

    window: int
    kv_cells: int
    slots: int
    threads: int
    n_vocab: int
    n_ctx_train: int
    load_seconds: float
    description: str  # llama.cpp's one-line description of the model


class LoadFailed(msgspec.Struct, array_like=True, tag=True, frozen=True):
    message: str


class StepStats(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Counters of one step, and the state after it. Times in seconds."""

    running: int
    waiting: int
    kv_used: int  # cells
    kv_cells: int
    prompt_tokens: int
    decode_tokens: int
    preempted: int
    step_seconds: float
    decode_seconds: float  # inside llama_decode
    parked: int = 0  # conversations that wait outside of the KV cache
    parked_bytes: int = 0  # memory that they take
    drafted: int = 0  # guessed tokens that were computed in this step
    accepted: int = 0  # those of them that proved right


class Stepped(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The outcome of one engine step, all sequences at once."""

    outputs: tuple[SequenceOutput, ...]
    stats: StepStats


class Open(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Open this model to be measured."""

    path: str


class Opened(msgspec.Struct, array_like=True, tag=True, frozen=True):
    description: str  # llama.cpp's one-line description of the model


class Quantize(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Write `source` in the number format `ftype` (llama.h's `llama_ftype`) to `target`."""

    source: str
    target: str
    ftype: int
    threads: int
    requantize: bool  # may the source be quantized already?


class Quantized(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """`reason` says why it failed; "" if it did not."""

    reason: str = ""


ToChild = Load | Submit | Abort | Stop | Open | Trial | Quantize
ToParent = Loading | Ready | LoadFailed | Stepped | Opened | Timed | Quantized

_encoder = msgspec.msgpack.Encoder()
_to_child = msgspec.msgpack.Decoder(ToChild)
_to_parent = msgspec.msgpack.Decoder(ToParent)


def encode(message: ToChild | ToParent) -> bytes:
    """One whole frame, header included. Raises ValueError over MAX_FRAME."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise ValueError(f"frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Length in bytes of the body that follows this 4-byte header. Raises ValueError over MAX_FRAME."""
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME:
        raise ValueError(f"frame of {length} bytes is over the limit of {MAX_FRAME}")
    return length


def decode_to_child(body: bytes) -> ToChild:
    return _to_child.decode(body)


def decode_to_parent(body: bytes) -> ToParent:
    return _to_parent.decode(body)
