"""The manifest and the cards made from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from frontdesk.errors import ConfigError, ModelLoadFailed
from frontdesk.fleet.registry import card_for_file, model_name, read_manifest, verify

ROOT = Path(__file__).resolve().parents[2]
ENTRY = {
    "name": '"m"',
    "file": '"m.gguf"',
    "sha256": '"' + hashlib.sha256(b"GGUF").hexdigest() + '"',
    "context": "2048",
}


def manifest(folder: Path, entry: dict[str, str] | None = None, head: str = "", tail: str = "") -> Path:
    (folder / "m.gguf").write_bytes(b"GGUF")
    lines = [f"{key} = {value}" for key, value in (ENTRY if entry is None else entry).items()]
    path = folder / "manifest.toml"
    path.write_text(f"{head}\n[[models]]\n" + "\n".join(lines) + f"\n{tail}\n", "utf-8")
    return path


def test_the_shipped_manifest_and_its_file() -> None:
    """A fresh clone would not serve: the default model must exist and be the one that the manifest names."""
    shipped = read_manifest(ROOT / "weights" / "manifest.toml")
    card = shipped.card()
    verify(card)
    assert card.name == shipped.default
    assert card.context > 0
    assert card.persona is not None
    assert (ROOT / "prompts" / f"{card.persona}.md").is_file()


def test_sampling_defaults_are_read(tmp_path: Path) -> None:
    """A model's own sampling would be ignored."""
    card = read_manifest(manifest(tmp_path, tail="[models.sampling]\ntemperature = 1\ntop_k = 7")).card("m")
    assert (card.sampling.temperature, card.sampling.top_k, card.sampling.top_p) == (1.0, 7, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": '"Bad Name"'}, "must match"),
        ({"name": "1"}, "must be text"),
        ({"file": '"gone.gguf"'}, "does not exist"),
        ({"sha256": '"abc"'}, "64 hexadecimal"),
        ({"context": "0"}, "'context'"),
        ({"context": "true"}, "'context'"),
        ({"size": "9"}, "expected 9"),
        ({"template": '"chatml"'}, "'template'"),
        ({"colour": '"red"'}, "unknown colour"),
        ({"sampling": "{temperature = 9}"}, "sampling.temperature"),
        ({"sampling": "{top_k = 1.5}"}, "sampling.top_k"),
        ({"sampling": "{heat = 1}"}, "unknown sampling.heat"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    """The operator would have to guess which line of the manifest is wrong."""
    with pytest.raises(ConfigError) as caught:
        read_manifest(manifest(tmp_path, ENTRY | change))
    assert reason in caught.value.message
    assert "manifest.toml" in caught.value.message


def test_broken_manifests(tmp_path: Path) -> None:
    """A missing, empty or doubled entry would show up as a KeyError."""
    for head, reason in (("default = 'x'", "known: m"), ("[[models]]", "missing"), ("= 1", "not valid TOML")):
        with pytest.raises(ConfigError, match=reason):
            read_manifest(manifest(tmp_path, head=head))
    doubled = manifest(tmp_path)
    doubled.write_text(doubled.read_text("utf-8") * 2, "utf-8")
    with pytest.raises(ConfigError, match="twice"):
        read_manifest(doubled)
    with pytest.raises(ConfigError, match="cannot read"):
        read_manifest(tmp_path / "none.toml")


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """A swapped or damaged model would be served under the old name."""
    card = read_manifest(manifest(tmp_path)).card()
    verify(card)
    card.path.write_bytes(b"GGUX")
    with pytest.raises(ConfigError, match="sha256"):
        verify(card)


def test_any_file_gets_a_card(tmp_path: Path) -> None:
    """`--model path.gguf` would need a manifest."""
    path = tmp_path / "My Model (v2) Q8.gguf"
    path.symlink_to(ROOT / "weights" / "frontdesk-small-q8_0.gguf")
    card = card_for_file(path)
    assert (card.name, card.context, card.persona, card.sha256) == ("my-model-v2-q8", 4096, None, "")
    verify(card)
    path = tmp_path / "text.gguf"
    path.write_text("hello")
    with pytest.raises(ModelLoadFailed):
        card_for_file(path)


@pytest.mark.parametrize(("stem", "name"), [("Ä/ö", "model"), ("A" * 99, "a" * 64), ("Qwen3-0.6B_Q8", "qwen3-0.6b_q8")])
def test_names_fit_the_pattern(stem: str, name: str) -> None:
    """A client could not ask for the model by its name."""
    assert model_name(stem) == name
