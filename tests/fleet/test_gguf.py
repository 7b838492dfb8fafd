"""The GGUF reader against the reference package, and against broken files."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk.errors import ConfigError, FrontdeskError, ModelLoadFailed
from frontdesk.fleet.gguf import fingerprint, forget_metadata, read_metadata


def test_reads_what_the_reference_reads(shipped: Path) -> None:
    """A value read wrong would give a model another window, vocabulary or template."""
    reference = gguf.GGUFReader(shipped)
    expected = {key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert read_metadata(shipped) == expected


def test_every_scalar_and_array_type(tmp_path: Path) -> None:
    """A type that is laid out wrong would shift every key behind it."""
    values = {0: 255, 1: -1, 2: 65535, 3: -2, 4: 2**32 - 1, 5: -3, 6: 0.5, 7: True, 10: 2**64 - 1, 11: -4, 12: 0.25}
    kinds = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    body = b""
    for kind, value in values.items():
        data = struct.pack("<" + kinds[kind], value)
        body += _string(f"s{kind}") + struct.pack("<I", kind) + data
        body += _string(f"a{kind}") + struct.pack("<IIQ", 9, kind, 2) + data * 2
    path = tmp_path / "types.gguf"
    path.write_bytes(_header(len(values) * 2) + body)
    found = read_metadata(path)
    assert {key: value for key, value in found.items() if key[0] == "s"} == {f"s{k}": v for k, v in values.items()}
    assert all(found[f"a{kind}"] == [value, value] for kind, value in values.items())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends too early"),
        (b"PK\x03\x04" + bytes(40), "instead of b'GGUF'"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(40), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(40), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60) + b"x", "a key of"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IQ", 8, 1 << 62), "'k'"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 1 << 40), "an array of"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, 1 << 20), "ends too early"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 77), "unknown value type 77"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + (struct.pack("<Q", 1) + b"k" + struct.pack("<IB", 0, 1)) * 2,
            "twice",
        ),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"\xff" + struct.pack("<IB", 0, 1), "not UTF-8"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, data: bytes, reason: str) -> None:
    """A broken download would end in a stack trace, or in gigabytes of memory for a hostile length."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelLoadFailed, match=r"broken\.gguf is not a usable GGUF model") as caught:
        read_metadata(path)
    assert reason in caught.value.message


def test_a_missing_file_is_a_setting_gone_wrong(tmp_path: Path) -> None:
    """A mistyped path would not be told apart from a broken model."""
    with pytest.raises(ConfigError, match=r"nowhere\.gguf"):
        read_metadata(tmp_path / "nowhere.gguf")
    with pytest.raises(ConfigError):
        read_metadata(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_raise_only_what_is_declared(shipped: Path, tmp_path: Path, data: st.DataObject) -> None:
    """An undeclared exception would take the whole server down with one bad file."""
    content = bytearray(shipped.read_bytes()[:4096])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, 700))
        content[at : at + 8] = data.draw(st.binary(min_size=1, max_size=12))
    path = tmp_path / "mutant.gguf"
    path.write_bytes(content[: data.draw(st.integers(0, 4096))])
    forget_metadata()  # files written within one tick of the clock look alike
    with suppress(FrontdeskError):
        read_metadata(path)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start would read a large vocabulary five times, or serve a replaced file with what the former one said; a
    caller that changes a list would change it for all."""
    path = tmp_path / "model.gguf"
    path.write_bytes(_header(1) + _string("names") + struct.pack("<IIQ", 9, 8, 1) + _string("one"))
    first, mark = read_metadata(path), fingerprint(path)
    assert first == {"names": ["one"]}
    with monkeypatch.context() as patch:
        patch.setattr("frontdesk.fleet.gguf._Reader", None)
        again = read_metadata(path)["names"]
        assert isinstance(again, list)
        again.clear()
        assert read_metadata(path) == first
    path.write_bytes(_header(1) + _string("names") + struct.pack("<IIQ", 9, 8, 1) + _string("three"))
    assert read_metadata(path) == {"names": ["three"]}
    assert fingerprint(path) != mark


def test_the_fingerprint_is_of_the_metadata_alone(tmp_path: Path) -> None:
    """What is remembered of a vocabulary would be looked up under another's name, or anew for every quantization."""
    head = _header(1) + _string("name") + struct.pack("<I", 8)
    for name, content in {"a": b"one", "b": b"one, other weights", "c": b"two"}.items():
        (tmp_path / name).write_bytes(head + _string(content[:3].decode()) + content)
    marks = [fingerprint(tmp_path / name) for name in "abc"]
    assert marks[0] == marks[1] != marks[2]


def test_a_large_vocabulary_is_read_fast(tmp_path: Path) -> None:
    """Start-up would wait for the reader: 300,000 strings are an ordinary vocabulary with its merges."""
    strings = b"".join(_string(f"token{i}") for i in range(300_000))
    path = tmp_path / "large.gguf"
    path.write_bytes(_header(1) + _string("tokens") + struct.pack("<IIQ", 9, 8, 300_000) + strings)
    begin = time.process_time()
    found = read_metadata(path)["tokens"]
    assert isinstance(found, list)
    assert found[-1] == "token299999"
    assert time.process_time() - begin < 1.0


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _header(keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, keys)
