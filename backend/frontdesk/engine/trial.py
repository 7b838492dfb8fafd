"""Steps whose time is asked for, and how long they took: what `tune` and `quantize` measure a machine with.

Integers and seconds only; like `request.py`, these types cross the process boundary as they are. Decides nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["decode", "verify", "prompt"]


class Shape(msgspec.Struct, array_like=True, frozen=True):
    """One step: `size` streams with a token each (decode), one stream with `size` tokens that are all wanted (verify),
    or `size` tokens of a prompt of which the last is wanted."""

    kind: Kind
    size: int


class Trial(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Open a KV cache of this form, put `resident` tokens of each stream into it, and time every shape `repeats` times.

    Shapes and numbers of threads take turns, so that a slow moment of the machine hits all alike. After `seconds`
    nothing more is timed: on a slow machine the last shapes are missing.
    """

    shapes: tuple[Shape, ...]
    threads: tuple[int, ...]
    repeats: int
    seconds: float
    resident: int = 0
    kv_type: str = "f16"
    flash: str = "auto"  # auto | on | off
    unified: bool = False


class Timing(msgspec.Struct, array_like=True, frozen=True):
    """The median of a shape's repetitions, in seconds, and how many they were."""

    shape: Shape
    threads: int
    seconds: float
    repeats: int


class Timed(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The outcome of a `Trial`. No timings where such a cache cannot be opened; `reason` then says why."""

    timings: tuple[Timing, ...]
    reason: str = ""

    def seconds(self, kind: Kind, size: int, threads: int) -> float | None:
        """`None` if that was not measured."""
        wanted = (Shape(kind, size), threads)
        return next((t.seconds for t in self.timings if (t.shape, t.threads) == wanted), None)
