"""Writing a model in other number formats: with the shipped model, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fleet.conftest import half_of

from frontdesk.config import engine_environment
from frontdesk.errors import ConfigError, EngineFailed, ModelLoadFailed
from frontdesk.fleet import quantizing
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.quantizing import FORMATS, check, compare, quantize, target


def size(file: Path) -> int:
    return file.stat().st_size


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("model-f16.gguf", "model-q4_0.gguf"),
        ("Model.F16.gguf", "Model-q4_0.gguf"),
        ("model_bf16.gguf", "model-q4_0.gguf"),
        ("qwen2.5-0.5b.gguf", "qwen2.5-0.5b-q4_0.gguf"),
    ],
)
def test_names_of_targets(source: str, expected: str) -> None:
    """Two formats would get one name, or names would grow with every step."""
    assert target(Path("/models") / source, "q4_0") == Path("/models") / expected
    assert target(Path(source), "q4_0", Path("/out")) == Path("/out") / expected


def test_a_quantized_source_is_refused_unless_wanted(shipped: Path) -> None:
    """Somebody would get a bad model without a word, because they took the wrong file."""
    with pytest.raises(ConfigError, match=r"quantized already \(q8_0\).*--requantize"):
        check(shipped, requantize=False)
    check(shipped, requantize=True)


async def test_files_are_smaller_whole_and_timed(shipped: Path, tmp_path: Path) -> None:
    """The command would write a file that no engine opens, or say that it is fast without having tried."""
    files, told = {}, list[float]()
    for name in ("q4_0", "q4_k_m"):
        files[name] = target(shipped, name, tmp_path)
        await quantize(shipped, files[name], name, 1, requantize=True, tell=told.append)
        assert read_metadata(files[name])["general.file_type"] == FORMATS[name]
        assert size(files[name]) < size(shipped)
    assert told[-1] == 1.0
    assert names(tmp_path) == sorted(file.name for file in files.values())
    speeds = await compare(files, 1, engine_environment(), told.append)
    for speed in speeds.values():
        assert min(speed.one, speed.eight, speed.prompt) > 1
        assert speed.eight > speed.one


async def test_a_slow_model_gets_more_time(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would fail after all its work for a model of which one step fills the usual time."""
    monkeypatch.setattr(quantizing, "PATIENCE", (1e-9, 60.0))
    speeds = await compare({"q8_0": shipped}, 1, engine_environment(), lambda _: None)
    assert speeds["q8_0"].prompt > 1
    monkeypatch.setattr(quantizing, "PATIENCE", (1e-9,))
    with pytest.raises(EngineFailed, match="longer than"):
        await compare({"q8_0": shipped}, 1, engine_environment(), lambda _: None)


async def test_what_cannot_be_made_leaves_nothing(shipped: Path, tmp_path: Path) -> None:
    """A disk would fill with halves of files, or a half would be taken for the whole."""
    half = half_of(shipped, tmp_path)
    with pytest.raises((EngineFailed, ModelLoadFailed)):
        await quantize(half, tmp_path / "out.gguf", "q4_0", 1, requantize=True, tell=lambda _: None)
    with pytest.raises(EngineFailed, match="q4_0"):
        await quantize(shipped, tmp_path / "out.gguf", "q4_0", 1, requantize=False, tell=lambda _: None)
    assert names(tmp_path) == [half.name]
