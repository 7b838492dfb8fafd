"""`frontdesk widgets` over a real database."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from tests.cli.test_keys import frontdesk
from typer.testing import CliRunner

from frontdesk.cli.main import app

WIDGET = re.compile(r"wgt_[0-9a-f]{12}")
SECRET = re.compile(r"\b[0-9a-f]{64}\b")
SHOP = ("--origin", "https://shop.example")


def test_a_widget_is_made_listed_and_revoked(tmp_path: Path) -> None:
    """An operator could not put a widget on a page, see what it may cost, or take it off again."""
    place = tmp_path / "new" / "f.db"
    made = frontdesk(
        "widgets", "create", "Shop [bold]x", *SHOP, "--origin", "http://localhost:3000", *SHOP, "--persona", "plain",
        "--identified-only", "--visitor-tokens-per-day", "2,000", "--tokens-per-day", "100000",
        database=place, folder=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    widget = made.stdout.strip()
    assert WIDGET.fullmatch(widget), "anything else on stdout breaks WIDGET=$(frontdesk widgets create …)"
    (secret,) = SECRET.findall(made.stderr)

    listed = frontdesk("widgets", "list", database=place, folder=tmp_path).stdout
    for word in (widget, "Shop [bold]x", "active", "https://shop.example", "http://localhost:3000", "plain",
                 "identified", "each: tokens/day 2,000", "all: tokens/day 100,000"):  # fmt: skip
        assert word in listed, word
    assert listed.count("https://shop.example") == 1
    assert "Shop [bold]x" in frontdesk("keys", "list", database=place, folder=tmp_path).stdout, "its key pays"

    again = frontdesk("widgets", "secret", widget, database=place, folder=tmp_path)
    assert (again.stdout, again.stderr) == (secret + "\n", "")
    with sqlite3.connect(place) as database:
        kept = database.execute("SELECT * FROM widgets").fetchall() + database.execute("SELECT * FROM keys").fetchall()
    database.close()
    assert secret not in str(kept)

    assert frontdesk("widgets", "revoke", widget, database=place, folder=tmp_path).returncode == 0
    assert "revoked" in frontdesk("widgets", "list", database=place, folder=tmp_path).stdout
    assert frontdesk("widgets", "revoke", widget, database=place, folder=tmp_path).returncode == 2


def test_a_widget_is_also_ended_with_its_key(tmp_path: Path) -> None:
    """An operator who ends what `keys list` shows would find the widget still open."""
    place = tmp_path / "f.db"
    widget = frontdesk("widgets", "create", "x", *SHOP, database=place, folder=tmp_path).stdout.strip()
    key = widget.removeprefix("wgt_")
    assert frontdesk("keys", "revoke", key, database=place, folder=tmp_path).returncode == 0
    assert "revoked" in frontdesk("widgets", "list", database=place, folder=tmp_path).stdout


def test_without_widgets_the_list_says_how_to_make_one(tmp_path: Path) -> None:
    """A newcomer would look at an empty line."""
    listed = frontdesk("widgets", "list", database=tmp_path / "f.db", folder=tmp_path)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "frontdesk widgets create" in listed.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "x", "--origin", "*"], ["--origin", "'*'", "https://shop.example"]),
        (["create", "x", "--origin", "https://shop.example/"], ["--origin", "'https://shop.example/'"]),
        (["create", "x", "--origin", "https://shop.example:443"], ["443", "https://shop.example"]),
        (["create", "x", *(f"--origin=https://{place}.example" for place in range(21))], ["--origin", "20"]),
        (["create", "x", *SHOP, "--persona", "nobody"], ["--persona", "'nobody'", "plain"]),
        (["create", "x", *SHOP, "--visitor-tokens-total", "0"], ["--visitor-tokens-total", "'0'"]),
        (["create", "x", *SHOP, "--requests-per-minute", "many"], ["--requests-per-minute", "'many'"]),
        (["create", "a\nb", *SHOP], ["widget", "name"]),
        (["revoke", "wgt_0123456789ab"], ["'wgt_0123456789ab'", "widgets list"]),
        (["secret", "wgt_0123456789ab"], ["'wgt_0123456789ab'", "widgets list"]),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """A mistake would give a stack trace, or a widget that works on no page or on all of them."""
    result = CliRunner().invoke(app, ["widgets", *arguments], env={"FRONTDESK_DATABASE": str(tmp_path / "f.db")})
    lines = result.stderr.strip().splitlines()
    assert (result.exit_code, result.stdout, len(lines)) == (2, "", 1), result.output
    assert not [word for word in words if word not in lines[0]], lines[0]


def test_a_widget_needs_an_origin(tmp_path: Path) -> None:
    """A widget would be made that stands nowhere."""
    result = CliRunner().invoke(app, ["widgets", "create", "x"], env={"FRONTDESK_DATABASE": str(tmp_path / "f.db")})
    assert result.exit_code == 2
    assert "--origin" in result.output
