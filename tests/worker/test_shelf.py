"""States on disk: what is read is what was written, under the same conditions, or nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.worker.shelf import KEY_FILE, Shelf

LIMIT = 1 << 20
Entry = tuple[int, int, list[int], bytes]
ENTRIES: list[Entry] = [
    (7, 2, [1, 2, 3], b"state one" * 50),
    (8, 0, [1, 2, 3], b"state two" * 70),
    (7, 1, [300_000], b"x"),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "parked"


def shelf(folder: Path, model: Path, limit: int = LIMIT, conditions: tuple[object, ...] = ("f16", 4)) -> Shelf:
    """As a new process opens it."""
    return Shelf(folder, limit, model, conditions)


def contents(shelf: Shelf) -> list[Entry]:
    return [(s.tenant, s.public, s.tokens, bytes(s.read() or b"")) for s in shelf.stored()]


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.kv"))


def test_what_was_kept_is_found(folder: Path, model: Path) -> None:
    """A conversation would not survive a restart, or come back as another one."""
    assert shelf(folder, model).keep(iter(ENTRIES)) == 3
    assert contents(shelf(folder, model)) == ENTRIES


def test_the_model_file_is_read_at_the_start(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one would be read for the first time when the engine is to stop, which may not take long: nothing would
    be kept, at this stop and every later one."""
    first = shelf(folder, model)
    assert contents(first) == []
    monkeypatch.setattr("hashlib.file_digest", None)
    assert first.keep(iter(ENTRIES)) == 3
    assert contents(shelf(folder, model)) == ENTRIES


def test_a_model_that_cannot_be_read_has_no_states(folder: Path, tmp_path: Path) -> None:
    """An engine would not start for want of what it can do without."""
    assert contents(shelf(folder, tmp_path / "no such model")) == []


def test_only_the_owner_can_read(folder: Path, model: Path) -> None:
    """Other users of the machine could read what was said."""
    old = os.umask(0)
    try:
        shelf(folder, model).keep(iter(ENTRIES))
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_names_tell_nothing(tmp_path: Path, model: Path) -> None:
    """Whoever lists a backup could find out which customer had which conversation, by guessing."""
    for name in ("one", "two"):
        shelf(tmp_path / name, model).keep(iter(ENTRIES))
    names = [{file.name for file in states(tmp_path / name)} for name in ("one", "two")]
    assert len(names[0]) == len(names[1]) == 3
    assert not names[0] & names[1]


@settings(max_examples=150, deadline=None)
@given(which=st.integers(0, 2), place=st.floats(0, 1, exclude_max=True), flip=st.integers(0, 255))
def test_damage_is_seen_and_removed(which: int, place: float, flip: int) -> None:
    """A flipped bit would become somebody's memory of what was said. `flip` 0 cuts the file off."""
    with TemporaryDirectory() as base:
        (model := Path(base) / "model.gguf").write_bytes(b"weights")
        folder = Path(base) / "parked"
        shelf(folder, model).keep(iter(ENTRIES))
        victim = sorted(states(folder), key=lambda file: file.stat().st_size)[which]
        whole = victim.read_bytes()
        at = int(place * len(whole))
        victim.write_bytes(whole[:at] + (bytes([whole[at] ^ flip]) + whole[at + 1 :] if flip else b""))
        found = [entry for entry in contents(shelf(folder, model)) if entry[3]]
        assert len(found) == 2
        assert all(entry in ENTRIES for entry in found)
        assert not victim.exists()


def test_other_conditions_are_foreign(folder: Path, model: Path) -> None:
    """The KV of another model, build or layout would be taken for one's own."""
    shelf(folder, model).keep(iter(ENTRIES))
    assert contents(shelf(folder, model, conditions=("q8_0", 4))) == []
    assert states(folder) == []
    for weights in (b"better weights", b"Better weights"):
        shelf(folder, model).keep(iter(ENTRIES))
        model.write_bytes(weights)
        os.utime(model, ns=(0, model.stat().st_mtime_ns + 1_000_000_000))  # another time, however coarse the clock
        assert contents(shelf(folder, model)) == []


def test_a_file_under_a_wrong_name_is_foreign(folder: Path, model: Path) -> None:
    """A file that was copied in from elsewhere would be believed."""
    shelf(folder, model).keep(iter(ENTRIES))
    file = states(folder)[0]
    file.rename(file.with_name("0" * 40 + ".kv"))
    assert len(contents(shelf(folder, model))) == 2
    (folder / KEY_FILE).unlink()
    assert contents(shelf(folder, model)) == []


def test_other_files_are_left_alone(folder: Path, model: Path) -> None:
    """A folder that was given by mistake would be emptied."""
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"sun")
    (folder / "strange.kv").write_bytes(b"no state")
    shelf(folder, model).keep(iter(ENTRIES))
    assert contents(shelf(folder, model)) == ENTRIES
    assert (folder / "holiday.jpg").exists()
    assert not (folder / "strange.kv").exists()


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (700, 1), (1350, 2), (10_000, 3)])
def test_the_limit_holds(folder: Path, model: Path, limit: int, kept: int) -> None:
    """The disk would fill up with conversations, or the wrong ones would be kept."""
    assert shelf(folder, model, limit).keep(iter(ENTRIES)) == kept
    assert contents(shelf(folder, model)) == ENTRIES[:kept]
    assert sum(file.stat().st_size for file in states(folder)) <= limit


def test_the_limit_holds_at_every_moment(folder: Path, model: Path) -> None:
    """An engine that is killed while it keeps would leave more each time; on a volume of this size nothing new would
    ever be kept."""
    limit, used = 6_000, []

    def entries(life: int) -> Iterator[Entry]:
        for number in range(20):
            used.append(sum(file.stat().st_size for file in states(folder)))
            yield (life, 0, [number], b"x" * 1000)

    for life in range(3):
        assert shelf(folder, model, limit).keep(entries(life)) == 5
        assert {tenant for tenant, *_ in contents(shelf(folder, model))} == {life}
    assert max(used) <= limit


def test_a_smaller_limit_holds_though_nothing_is_kept(folder: Path, model: Path) -> None:
    """Whoever lowers the limit would not get the space back before there is something new to keep."""
    shelf(folder, model).keep(iter(ENTRIES))
    assert shelf(folder, model, 1).keep(iter([])) == 0
    assert states(folder) == []


def test_older_ones_give_way(folder: Path, model: Path) -> None:
    """With every restart the folder would grow, or what is newest would find no room."""
    shelf(folder, model).keep(iter(ENTRIES[:2]))
    newer: list[Entry] = [(9, 0, [5, 6], b"newer" * 100)]
    shelf(folder, model, limit=1400).keep(iter(newer))
    assert contents(shelf(folder, model)) == [*newer, ENTRIES[0]]


def test_a_torn_write_leaves_no_state(folder: Path, model: Path) -> None:
    """A server that is killed while it stops would leave half a conversation for the next one."""
    shelf(folder, model).keep(iter(ENTRIES[:1]))
    torn = folder / f".{states(folder)[0].name}.0a0b0c0d"
    torn.write_bytes(states(folder)[0].read_bytes()[:100])
    assert contents(shelf(folder, model)) == ENTRIES[:1]
    shelf(folder, model).keep(iter(ENTRIES[1:]))
    assert not torn.exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, model: Path) -> None:
    """The engine would die of it without a word."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        shelf(tmp_path / "file" / "parked", model).keep(iter(ENTRIES))
    assert contents(shelf(tmp_path / "file" / "parked", model)) == []
