"""Which model file is taken for another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from frontdesk.worker.identity import identity


def test_a_file_that_is_left_alone_stays_the_same(tmp_path: Path) -> None:
    """Every death of an engine would be the end of the service."""
    file = tmp_path / "model.gguf"
    assert identity(str(file)) is None
    file.write_bytes(b"weights")
    before = identity(str(file))
    assert before
    (tmp_path / "model-2.gguf").write_bytes(b"another one")
    file.read_bytes()
    assert identity(str(file)) == before
    away = file.rename(tmp_path / "away")
    assert identity(str(file)) is None
    away.rename(file)
    assert identity(str(file)) == before


@pytest.mark.parametrize("name", ["model.gguf", "a[b]-00001-of-00002.gguf", "a[b]-00002-of-00002.gguf"])
@pytest.mark.parametrize("how", ["renamed", "longer", "written", "linked"])
def test_what_is_replaced_is_another_one(tmp_path: Path, name: str, how: str) -> None:
    """A reply would go on with another model's weights, or with half of them."""
    first = tmp_path / name.replace("-00002-of", "-00001-of")
    replaced, other = tmp_path / name, tmp_path / "other"
    for path in {first, replaced, other}:
        path.write_bytes(b"weights")
        os.utime(path, (5, 5))
    before = identity(str(first))
    if how == "renamed":
        other.replace(replaced)
    elif how == "longer":
        replaced.write_bytes(b"more weights")
        os.utime(replaced, (5, 5))
    elif how == "written":
        os.utime(replaced, (6, 6))
    else:
        replaced.unlink()
        replaced.symlink_to(other)
    assert before
    assert identity(str(first)) not in (None, before)
