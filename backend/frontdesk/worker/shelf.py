"""Parked conversations on disk: what an engine leaves behind when it stops, for the next one to go on with.

One file for each, written whole under another name first, readable by its owner only. A file counts when its name is
the keyed hash of what its head says, its length is right, and, once it is wanted, its digest too; else it is removed.
The hash covers the model file's own digest, llama.cpp's build and the layout of the KV cache: a state that was saved
under other conditions is another name. The key is the folder's own, so names tell nothing of tenants or texts.
Files that do not end in `.kv` are never touched. Knows no llama.cpp: states are bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from frontdesk.engine.parked import ID_BYTES, decode, encode

MAGIC: Final = b"frontdesk-kv-2\0\0"
HEAD: Final = struct.Struct(">16s32sQIIQ")  # magic, conditions, tenant, public tokens, tokens, bytes of the state
DIGEST: Final = hashlib.sha256().digest_size
SUFFIX: Final = ".kv"
KEY_FILE: Final = "names.key"
MODELS_FILE: Final = "models.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """One file whose head has been read. `tokens` are those whose KV its state holds, the first `public` of them
    anybody's."""

    path: Path
    tenant: int
    public: int
    tokens: list[int]
    size: int  # of the state, in bytes

    def read(self) -> memoryview | None:
        """The state; `None`, and no file any more, if it is not as it was written."""
        try:
            data = memoryview(self.path.read_bytes())
        except OSError:
            return None
        if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
            self.remove()
            return None
        begin = HEAD.size + ID_BYTES * len(self.tokens)
        return data[begin : begin + self.size]

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


class Shelf:
    """A folder that holds at most `limit` bytes of states. Raises `OSError` only where it says so."""

    def __init__(self, folder: Path, limit: int, model: Path, conditions: tuple[object, ...]) -> None:
        """`conditions` is whatever a state depends on beside the model file. Nothing is read or written yet."""
        self._folder = folder
        self._limit = limit
        self._model = model
        self._given = conditions
        self._known: tuple[bytes, bytes] | None = None

    def stored(self) -> Iterator[Stored]:
        """What can be used here, last written first. Removes what cannot.

        Reads the model file even where there is nothing: here is the time for it, at the end there may not be.
        """
        try:
            self._open()
        except OSError:
            return
        for path in self._files():
            if entry := self._head_of(path):
                yield entry
            else:
                with contextlib.suppress(OSError):
                    path.unlink()

    def keep(self, entries: Iterator[tuple[int, int, list[int], bytes | memoryview]]) -> int:
        """Write (tenant, public, tokens, state), most valuable first, until the limit. Older files give way before
        each, so that the limit holds at every moment, also for whoever is killed here. Returns how many.

        Raises `OSError` if the disk is full or the folder cannot be written.
        """
        self._open()
        for draft in self._folder.glob(f".*{SUFFIX}.*"):  # of an engine that died while it wrote
            draft.unlink(missing_ok=True)
        room, written = self._limit, []
        self._shrink(room, written)
        for tenant, public, tokens, state in entries:
            room -= HEAD.size + ID_BYTES * len(tokens) + len(state) + DIGEST
            if room < 0:
                break
            self._shrink(room, written)
            written.append(self._write(tenant, public, tokens, state))
        last = max((path.stat().st_mtime_ns for path in written), default=0)
        for age, path in enumerate(written):  # the order that `stored` and `_shrink` go by
            at = last - 1000 * age
            os.utime(path, ns=(at, at))
        return len(written)

    def _shrink(self, room: int, written: list[Path]) -> None:
        """Remove the oldest files beyond `room` bytes, those that were just written left out."""
        used = 0
        for path in self._files():
            if path in written:
                continue
            with contextlib.suppress(OSError):
                used += path.stat().st_size
                if used > room:
                    path.unlink()

    def _write(self, tenant: int, public: int, tokens: list[int], state: bytes | memoryview) -> Path:
        _, conditions = self._open()
        head = HEAD.pack(MAGIC, conditions, tenant, public, len(tokens), len(state)) + encode(tokens)
        digest = hashlib.sha256(head)
        digest.update(state)
        path = self._folder / self._name(tenant, public, tokens)
        # No fsync: after a power cut a torn file fails its digest, and is computed again.
        _write_whole(path, head, state, digest.digest())
        return path

    def _head_of(self, path: Path) -> Stored | None:
        _, conditions = self._open()
        try:
            with path.open("rb") as file:
                magic, found, tenant, public, count, size = HEAD.unpack(file.read(HEAD.size))
                whole = HEAD.size + ID_BYTES * count + size + DIGEST
                if (magic, found, os.fstat(file.fileno()).st_size) != (MAGIC, conditions, whole):
                    return None
                tokens = decode(file.read(ID_BYTES * count))
        except (OSError, struct.error):
            return None
        right = path.name == self._name(tenant, public, tokens)
        return Stored(path, tenant, public, tokens, size) if right else None

    def _name(self, tenant: int, public: int, tokens: list[int]) -> str:
        key, conditions = self._open()
        text = conditions + struct.pack(">QI", tenant, public) + encode(tokens)
        return hashlib.blake2b(text, key=key, digest_size=20).hexdigest() + SUFFIX

    def _files(self) -> list[Path]:
        """State files, last written first."""
        found = []
        with contextlib.suppress(OSError):
            for path in self._folder.glob("*" + SUFFIX):
                with contextlib.suppress(OSError):
                    found.append((-path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]

    # --- what names are made of ---------------------------------------------------------------------------------------

    def _open(self) -> tuple[bytes, bytes]:
        """(key, conditions). Reads the model file once in its life. Raises `OSError`."""
        if self._known is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = repr((self._model_digest(), *self._given))
            self._known = self._key(), hashlib.sha256(text.encode()).digest()
        return self._known

    def _key(self) -> bytes:
        file = self._folder / KEY_FILE
        if not file.is_file() or file.stat().st_size != 32:
            _write_whole(file, secrets.token_bytes(32))
        return file.read_bytes()

    def _model_digest(self) -> str:
        """SHA-256 of the model file, remembered for as long as its path, size and time of change stay the same."""
        file, facts = self._folder / MODELS_FILE, self._model.stat()
        name = f"{self._model.resolve()} {facts.st_size} {facts.st_mtime_ns}"
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            return str(known[name])
        except (OSError, ValueError, KeyError, TypeError):
            with self._model.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            _write_whole(file, json.dumps({name: digest}).encode())
            return digest


def _write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """All of it or nothing, for the owner's eyes only. Raises `OSError`."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for part in parts:
                file.write(part)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
