"""Model files in other number formats: written by llama.cpp, and timed: which is fastest depends on the processor.

A file appears under its name when it is whole. Knows no server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from frontdesk.errors import ConfigError, EngineFailed
from frontdesk.fleet.gguf import read_metadata
from frontdesk.worker.lab_client import Lab, laboratory
from frontdesk.worker.protocol import Quantize, Shape, Trial

# Names and numbers of llama.h's llama_ftype, those that need no importance matrix.
FORMATS: Final = {
    "f16": 1, "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q5_1": 9, "q5_0": 8, "q4_k_m": 15, "q4_k_s": 14,
    "q4_1": 3, "q4_0": 2, "iq4_nl": 25, "q3_k_m": 12, "q2_k": 10,
}  # fmt: skip
WHOLE: Final = (0, 1, 32)  # general.file_type of files that are not quantized: f32, f16, bf16
PATIENCE: Final = (3.0, 120.0)  # seconds that timing one file may take, and for one that is too slow for that
ROUNDS: Final = 2  # over all files, so that a slow moment of the machine hits all alike
SHAPES: Final = (Shape("decode", 1), Shape("decode", 8), Shape("prompt", 128))

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second: of one stream, of eight together, and of a prompt."""

    one: float
    eight: float
    prompt: float


def target(source: Path, format: str, folder: Path | None = None) -> Path:
    """Where a format's file goes: beside the source, with the format in its name in place of the source's own."""
    stem = source.stem
    for name in (*FORMATS, "f32", "bf16"):
        if stem.lower().endswith((f"-{name}", f".{name}", f"_{name}")):
            stem = stem[: -len(name) - 1]
            break
    return (folder or source.parent) / f"{stem}-{format}.gguf"


def check(source: Path, *, requantize: bool) -> None:
    """Raises `ConfigError` or `ModelLoadFailed` for a file that cannot be quantized."""
    kind = read_metadata(source).get("general.file_type")
    if isinstance(kind, int) and kind not in WHOLE and not requantize:
        name = next((name for name, number in FORMATS.items() if number == kind), f"type {kind}")
        raise ConfigError(
            f"{source} is quantized already ({name}); a file made from it is worse than one made from f16. "
            "Take the f16 file, or say --requantize"
        )


async def quantize(source: Path, to: Path, format: str, threads: int, *, requantize: bool, tell: Progress) -> None:
    """Raises `EngineFailed` with llama.cpp's reason, `ModelLoadFailed` where the source killed the process."""
    unfinished = to.with_name(to.name + ".part")
    job = Quantize(str(source), str(unfinished), FORMATS[format], threads, requantize)
    try:
        async with laboratory() as lab:
            if reason := await lab.quantize(job, tell):
                raise EngineFailed(f"{source} cannot be quantized as {format}: {reason}")
        unfinished.replace(to)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


async def compare(
    files: Mapping[str, Path], threads: int, environment: Mapping[str, str], tell: Progress
) -> dict[str, Speed]:
    """Time each file for some seconds. Raises `ModelLoadFailed`."""
    seconds: dict[str, list[tuple[float, ...]]] = {name: [] for name in files}
    for turn in range(ROUNDS):
        for number, (name, path) in enumerate(files.items()):
            tell((turn + number / len(files)) / ROUNDS)
            async with laboratory(environment) as lab:
                await lab.open(str(path))
                seconds[name].append(await _seconds(lab, path, threads))
    return {name: _speed([median(column) for column in zip(*rows, strict=True)]) for name, rows in seconds.items()}


async def _seconds(lab: Lab, path: Path, threads: int) -> tuple[float, ...]:
    """Of one step of each shape. A model that is too slow for the usual time gets more."""
    reason = ""
    for patience in PATIENCE:
        timed = await lab.run(Trial(SHAPES, (threads,), 5, patience))
        found = [timed.seconds(shape.kind, shape.size, threads) for shape in SHAPES]
        whole = tuple(value for value in found if value is not None)
        if len(whole) == len(SHAPES):
            return whole
        reason = timed.reason
        if reason:
            break
    raise EngineFailed(f"{path} could not be measured: {reason or f'a step took longer than {PATIENCE[-1]:.0f} s'}")


def _speed(seconds: list[float]) -> Speed:
    return Speed(*(shape.size / taken for shape, taken in zip(SHAPES, seconds, strict=True)))
