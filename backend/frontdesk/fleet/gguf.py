"""Reads the key/value part of a GGUF file: what a model says about itself, without its weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian. Nothing is
allocated before the file is known to be long enough for it, so that a hostile length costs nothing. What was read last
is remembered until `forget_metadata`, since a start asks five times for what takes a tenth of a second with a large
vocabulary. Knows nothing of what the keys mean.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from frontdesk.errors import ConfigError, ModelLoadFailed

Scalar = int | float | bool | str
Value = Scalar | list[int] | list[float] | list[bool] | list[str]

MAX_KEYS: Final = 65_536
MAX_KEY_BYTES: Final = 65_535  # the format's own limit
MAX_STRING_BYTES: Final = 64 * 1024 * 1024
MAX_ELEMENTS: Final = 16_777_216
MAX_TENSORS: Final = 1_000_000
PIECES: Final = 64  # of a model's weights, at least, that tell them from others
PIECE_BYTES: Final = 4096

STRING: Final = 8
ARRAY: Final = 9
BOOL: Final = 7
NUMBERS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", BOOL: "?", 10: "Q", 11: "q", 12: "d"}
_LENGTH: Final = struct.Struct("<Q")


def read_metadata(path: Path | str) -> dict[str, Value]:
    """All key/value pairs of a GGUF file.

    Raises `ConfigError` when the file cannot be read, `ModelLoadFailed` when it is not a whole, well-formed GGUF.
    Text that is not UTF-8 is kept with U+FFFD in place of the bad bytes, as only keys must be exact.
    """
    pairs = _parsed(Path(path)).pairs
    return {key: value.copy() if isinstance(value, list) else value for key, value in pairs.items()}


def fingerprint(path: Path | str) -> str:
    """The SHA-256 of everything up to the end of the key/value pairs, as hex: files with the same have equal metadata.

    Raises as `read_metadata` does.
    """
    path = Path(path)
    end = _parsed(path).end
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(end)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def weights_fingerprint(path: Path | str) -> str:
    """The SHA-256 of pieces spread evenly over what follows the key/value pairs, as hex: enough to tell weights from
    others without reading gigabytes. Counted from the end of the file, so that it stays when the pairs change a little.

    Raises as `read_metadata` does.
    """
    path = Path(path)
    end = _parsed(path).end
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            step = max(PIECE_BYTES, 1 << max(0, ((size - end) // PIECES).bit_length() - 1))
            for start in range(size - step, end, -step):
                file.seek(start)
                digest.update(file.read(PIECE_BYTES))
    except OSError as error:
        raise _unreadable(path, error) from None
    return digest.hexdigest()


def forget_metadata() -> None:
    """Free what is remembered: some 25 MB for 150,000 tokens."""
    global _last
    _last = None


@dataclass(frozen=True, slots=True)
class _Parsed:
    """`state` tells one content of a file from another; `end` is the size in bytes of the header and the pairs."""

    state: tuple[object, ...]
    pairs: dict[str, Value]
    end: int


_last: _Parsed | None = None


def _parsed(path: Path) -> _Parsed:
    global _last
    try:
        found = path.stat()
        state = (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if (last := _last) is not None and last.state == state:
            return last
        with path.open("rb", buffering=1 << 20) as file:
            pairs = _Reader(file, found.st_size, path).pairs()
            _last = last = _Parsed(state, pairs, file.tell())
    except OSError as error:
        raise _unreadable(path, error) from None
    return last


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot read the model file {path}: {error.strerror or error}")


class _Reader:
    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file = file
        self._left = size
        self._path = path
        self._where = "the header"

    def pairs(self) -> dict[str, Value]:
        count = self._header()
        pairs: dict[str, Value] = {}
        for index in range(count):
            self._where = f"key {index + 1} of {count}"
            key = self._key()
            self._where = f"the value of {key!r}"
            if key in pairs:
                raise self._broken("the key appears twice")
            pairs[key] = self._value(self._number("I"))
        return pairs

    def _header(self) -> int:
        if (magic := self._take(4)) != b"GGUF":
            raise self._broken(f"it starts with {magic!r} instead of b'GGUF'")
        version = self._number("I")
        if version not in (2, 3):
            kind = "big-endian" if version & 0xFFFF == 0 else f"version {version}"
            raise self._broken(f"{kind} GGUF is not supported (2 and 3, little endian, are)")
        tensors, count = self._number("Q"), self._number("Q")
        if tensors > MAX_TENSORS or count > MAX_KEYS:
            raise self._broken(f"it claims {tensors} tensors and {count} keys")
        return int(count)

    def _key(self) -> str:
        length = self._number("Q")
        if not 0 < length <= MAX_KEY_BYTES:
            raise self._broken(f"a key of {length} bytes")
        try:
            return self._take(int(length)).decode("utf-8")
        except UnicodeDecodeError:
            raise self._broken("the key is not UTF-8") from None

    def _value(self, kind: int | float) -> Value:
        if kind == STRING:
            return self._strings(1)[0]
        if kind == ARRAY:
            return self._array()
        return self._numbers(kind, 1)[0]

    def _array(self) -> list[str] | list[int] | list[float] | list[bool]:
        kind, count = self._number("I"), int(self._number("Q"))
        if count > MAX_ELEMENTS:
            raise self._broken(f"an array of {count} elements (at most {MAX_ELEMENTS})")
        return self._strings(count) if kind == STRING else self._numbers(kind, count)

    def _strings(self, count: int) -> list[str]:
        """The hot loop: a vocabulary has 300,000 strings, so the reads are inlined here."""
        if count * _LENGTH.size > self._left:
            raise self._truncated()
        read, unpack, left = self._file.read, _LENGTH.unpack, self._left
        found: list[str] = []
        for _ in range(count):
            left -= 8
            if left < 0:
                raise self._truncated()
            (length,) = unpack(read(8))
            left -= length
            if left < 0 or length > MAX_STRING_BYTES:
                raise self._truncated()
            found.append(read(length).decode("utf-8", "replace"))
        self._left = left
        return found

    def _numbers(self, kind: int | float, count: int) -> list[int]:
        if (code := NUMBERS.get(int(kind))) is None:
            raise self._broken(f"unknown value type {kind}")
        if kind == BOOL:
            return [byte != 0 for byte in self._take(count)]
        layout = struct.Struct(f"<{count}{code}")
        return list(layout.unpack(self._take(layout.size)))

    def _number(self, code: str) -> int:
        layout = struct.Struct("<" + code)
        return layout.unpack(self._take(layout.size))[0]

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise self._truncated()
        self._left -= count
        data = self._file.read(count)
        if len(data) != count:
            raise self._truncated()
        return data

    def _truncated(self) -> ModelLoadFailed:
        return self._broken("the file ends too early (is the download complete?)")

    def _broken(self, what: str) -> ModelLoadFailed:
        return ModelLoadFailed(f"{self._path} is not a usable GGUF model: in {self._where}: {what}")
