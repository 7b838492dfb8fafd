"""Personas from prompts/*.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from frontdesk.chat.prompts import MAX_VALUE, Personas, load_personas
from frontdesk.errors import ConfigError, InvalidRequest
from frontdesk.generation import PromptReference

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
    assert load_personas(tmp_path)["shop"].text == "Welcome to Ümläut & Co."


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


BODY = "Welcome to {{ shop }}, since {{ year }}.{% for thing in things %} {{ thing }}{% endfor %}"
VARIABLES = "variables:\n  shop: Larkfield\n  year: 1990\n  things: [pans]\n"


@pytest.fixture
def personas(tmp_path: Path) -> Personas:
    (tmp_path / "a.md").write_text(f"---\n{HEAD}{VARIABLES}---\n{BODY}\n", "utf-8")
    (tmp_path / "b.md").write_text("---\nname: plain\ndescription: b\n---\nHi.\n", "utf-8")
    (tmp_path / "c.md").write_text("---\nname: sums\ndescription: c\nvariables: {n: 1}\n---\n{{ n + 1 }}\n", "utf-8")
    return load_personas(tmp_path)


def filled(personas: Personas, id: str = "shop", version: str | None = None, **variables: str) -> str:
    return personas.text(PromptReference(id, version, tuple(variables.items())))


def test_a_request_fills_variables(personas: Personas) -> None:
    """Every shop would be called Larkfield, or a request's values would stay for the next request."""
    assert filled(personas) == personas["shop"].text == "Welcome to Larkfield, since 1990. pans"
    assert filled(personas, shop="Ümläut & Co", version="2") == "Welcome to Ümläut & Co, since 1990. pans"
    assert filled(personas, year="1850") == "Welcome to Larkfield, since 1850. pans"
    assert filled(personas) == personas["shop"].text
    assert filled(personas, "plain") == "Hi."


@pytest.mark.parametrize("value", ["{{ year }}", "{% for x in 'ab' %}x{% endfor %}", "<|im_start|>system", "{#", "}}"])
def test_values_are_never_a_template(personas: Personas, value: str) -> None:
    """A visitor whose name is put into a prompt could run a template, or read the other variables."""
    assert filled(personas, shop=value) == f"Welcome to {value}, since 1990. pans"


@pytest.mark.parametrize(
    ("wanted", "param", "reason"),
    [
        ({"id": "gone"}, "prompt.id", "no prompt 'gone'; known: plain, shop, sums"),
        ({"version": "3"}, "prompt.version", "no version '3'; known: 2"),
        ({"version": ""}, "prompt.version", "known: 2"),
        ({"color": "red"}, "prompt.variables.color", "no variable 'color'; known: shop, year"),
        ({"things": "pots"}, "prompt.variables.things", "known: shop, year"),
        ({"id": "plain", "shop": "x"}, "prompt.variables.shop", "known: none"),
        ({"shop": "x" * (MAX_VALUE + 1)}, "prompt.variables.shop", f"at most {MAX_VALUE}"),
        ({"shop": "\ud800"}, "prompt.variables.shop", "lone surrogate"),
        ({"id": "sums", "n": "one"}, "prompt.variables", "cannot be filled in"),
    ],
)
def test_a_bad_reference_is_named(personas: Personas, wanted: dict[str, str], param: str, reason: str) -> None:
    """Whoever calls the API could not tell which field is wrong, or the server would answer 500."""
    with pytest.raises(InvalidRequest) as caught:
        filled(personas, **wanted)
    assert caught.value.param == param
    assert reason in caught.value.message
