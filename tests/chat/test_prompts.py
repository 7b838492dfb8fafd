"""Personas from prompts/*.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from frontdesk.chat.prompts import Persona, load_personas
from frontdesk.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
HEAD = "name: shop\ndescription: A shop.\nversion: 2\n"


def test_the_shipped_personas_load() -> None:
    """The server would not start from a fresh clone."""
    personas = load_personas(ROOT / "prompts")
    assert {"demo_shop", "plain"} <= personas.keys()
    assert all("{{" not in persona.text and persona.description for persona in personas.values())


def test_variables_take_their_defaults(tmp_path: Path) -> None:
    """Customers would read `{{ shop }}`."""
    (tmp_path / "a.md").write_text(
        f"---\n{HEAD}variables:\n  shop: Ümläut & Co\n---\nWelcome to {{{{ shop }}}}.\n", "utf-8"
    )
    assert load_personas(tmp_path)["shop"] == Persona("shop", 2, "A shop.", "Welcome to Ümläut & Co.")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no front matter", "front matter"),
        (b"---\nname: [\n---\nx", "not valid YAML"),
        (b"---\nname: a\n---\nx", "'description'"),
        (b"---\nname: 3\ndescription: x\n---\nx", "'name'"),
        (b"---\n" + HEAD.encode() + b"colour: red\n---\nx", "unknown front matter colour"),
        (b"---\nname: a\ndescription: b\nversion: one\n---\nx", "'version'"),
        (b"---\n" + HEAD.encode() + b"variables: [a]\n---\nx", "'variables'"),
        (b"---\n" + HEAD.encode() + b"---\n", "empty"),
        (b"---\n" + HEAD.encode() + b"---\n{{ unknown }}", "'unknown' is undefined"),
        (b"---\n" + HEAD.encode() + b"---\n{{ 9**9999999 }}", "cannot be filled in"),
        (b"---\n" + HEAD.encode() + b"---\n{% if %}", "cannot be filled in"),
        (b"---\n" + HEAD.encode() + b"---\n\xff", "not UTF-8"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    """Whoever edits a prompt would get a stack trace instead of the file and the fault."""
    (tmp_path / "bad.md").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_personas(tmp_path)
    assert reason in caught.value.message
    assert "bad.md" in caught.value.message


def test_names_are_unique_and_unknown_ones_listed(tmp_path: Path) -> None:
    """The wrong persona would speak to customers."""
    (tmp_path / "a.md").write_text(f"---\n{HEAD}---\nx")
    with pytest.raises(ConfigError, match=r"no persona 'other'; known: shop"):
        load_personas(tmp_path)["other"]
    (tmp_path / "b.md").write_text(f"---\n{HEAD}---\ny")
    with pytest.raises(ConfigError, match="taken"):
        load_personas(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_personas(tmp_path / "none")
