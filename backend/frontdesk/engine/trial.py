"""Steps whose time is asked for, and how long they took: what `tune` and `quantize` measure a machine with.

Integers and seconds only; like `request.py`, these types cross the process boundary as they are. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

Kind = Literal["decode", "verify", "prompt"]

CELLS: Final = 256  # of a sequence: as many or a multiple, as llama.cpp would round it


class Shape(msgspec.Struct, array_like=True, frozen=True):
    """One step: `size` streams with a token each (decode), one stream with `size` tokens that are all wanted (verify),
    or `size` tokens of a prompt of which the last is wanted."""

    kind: Kind
    size: int


class Trial(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Open a KV cache of this form, put `resident` tokens of each stream into it, and time every shape `repeats` times.

    Shapes and numbers of threads take turns, so that a slow moment of the machine hits all alike. After `seconds`
    nothing more is timed: on a slow machine the last shapes are missing. `exact` as in `worker.protocol.Load`.
    """

    shapes: tuple[Shape, ...]
    threads: tuple[int, ...]
    repeats: int
    seconds: float
    resident: int = 0
    kv_type: str = "f16"
    flash: str = "auto"  # auto | on | off
    unified: bool = False
    exact: bool = False

    def widest(self, kind: Kind) -> int:
        return max((shape.size for shape in self.shapes if shape.kind == kind), default=0)

    @property
    def sequences(self) -> int:
        """One for each stream, and an empty one for prompts."""
        return max(1, self.widest("decode")) + 1

    @property
    def cells(self) -> int:
        """Tokens that the KV cache has room for."""
        longest = max(self.resident + max(1, self.widest("verify")), self.widest("prompt"))
        return self.sequences * -(-longest // CELLS) * CELLS


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


def sizes(steps: Mapping[str, float], kind: Kind) -> dict[int, float]:
    """Of milliseconds by shape, such as "decode 8", those of one kind by size. What makes no sense is left out."""
    shapes = ((*name.rpartition(" "), ms) for name, ms in steps.items())
    return {int(size): ms for name, _, size, ms in shapes if name == kind and size.isdecimal() and ms > 0}
