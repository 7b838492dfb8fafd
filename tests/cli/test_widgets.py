"""`frontdesk widgets` over a real database, and what a running server makes of a change."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.cli.test_keys import Operator, frontdesk, heard
from tests.server.widget_pages import SESSIONS, Page, code_of, make_page
from typer.testing import CliRunner

from frontdesk.cli.main import app

if TYPE_CHECKING:
    from tests.conftest import Server

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
        (["change", "wgt_0123456789ab", "--everybody"], ["'wgt_0123456789ab'", "widgets list"]),
        (["change", "wgt_0123456789ab"], ["what to change", "widgets change --help"]),
        (["change", "wgt_0123456789ab", "--name", " "], ["widget", "name"]),
        (["change", "wgt_0123456789ab", "--origin", "https://shop.example/"], ["'https://shop.example/'"]),
        (["change", "wgt_0123456789ab", "--persona", "nobody"], ["--persona", "'nobody'", "plain"]),
        (["change", "wgt_0123456789ab", "--visitor-tokens-total", "0"], ["--visitor-tokens-total", "'0'"]),
        (["secret", "wgt_0123456789ab"], ["'wgt_0123456789ab'", "widgets list"]),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """A mistake would give a stack trace, or a widget that works on no page or on all of them."""
    result = CliRunner().invoke(app, ["widgets", *arguments], env={"FRONTDESK_DATABASE": str(tmp_path / "f.db")})
    lines = result.stderr.strip().splitlines()
    assert (result.exit_code, result.stdout, len(lines)) == (2, "", 1), result.output
    assert not [word for word in words if word not in lines[0]], lines[0]


def test_a_widget_is_changed_in_what_is_named_alone(tmp_path: Path) -> None:
    """One more origin would take a new widget, whose visitors have none of their conversations; or adding it would open
    a widget that was for known visitors."""
    operator = Operator(tmp_path / "f.db")
    made = operator(
        "widgets", "create", "Shop", *SHOP, "--persona", "plain", "--identified-only", "--visitor-tokens-per-day", "5",
        "--tokens-per-day", "9", "--tokens-total", "9",
    )  # fmt: skip
    id = made.stdout.strip()

    def now(*arguments: str) -> str:
        changed = operator("widgets", "change", id, *arguments)
        assert (changed.exit_code, changed.stdout) == (0, ""), changed.stderr
        return changed.stderr.strip().removeprefix(f"widget {id} is now: ")

    assert now("--origin", "https://new.example", *SHOP, "--tokens-per-day", "2,000", "--tokens-total", "none") == (
        "Shop; active; origins https://new.example https://shop.example; persona plain; visitors identified; "
        "budgets of each tokens/day 5; of all tokens/day 2,000"
    )
    assert now("--name", "Shop [bold]x", "--persona", "none", "--everybody", "--visitor-tokens-per-day", "none") == (
        "Shop [bold]x; active; origins https://new.example https://shop.example; persona -; visitors all; "
        "budgets of each -; of all tokens/day 2,000"
    )
    listed = operator("widgets", "list").stdout
    for word in ("Shop [bold]x", "https://new.example", "each: -", "all: tokens/day 2,000"):
        assert word in listed, word
    assert operator("widgets", "revoke", id).exit_code == 0
    refused = operator("widgets", "change", id, *SHOP)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "not revoked" in refused.stderr


def test_a_running_server_follows_a_change(start_server: Callable[..., Server]) -> None:
    """Pages would go on to be served, or refused, as they were when the server started; or visitors would lose their
    conversations with the change."""
    server = start_server(auth="on")
    page = make_page(server, "--persona", "plain")
    new = "https://new.example"
    moved = Page(server, page.widget, page.secret, new)

    def change(*arguments: str) -> None:
        done = Operator(Path(server.database))("widgets", "change", page.widget, *arguments)
        assert done.exit_code == 0, done.stderr

    def ask(page: Page, session: dict[str, Any]) -> httpx2.Response:
        said = {"input": "Hi", "conversation": session["conversation"], "max_output_tokens": 4}
        return page.call(session["token"], "POST", "/v1/responses", said)

    def preflight(origin: str) -> httpx2.Response:
        asked = {"origin": origin, "access-control-request-method": "POST"}
        return httpx2.options(server.url + SESSIONS, headers=asked)

    before = page.session()
    plain = ask(page, before).json()["usage"]["input_tokens"]
    change("--origin", new, "--persona", "none", "--tokens-total", "1")
    heard(lambda: preflight(new), 200)
    assert preflight(page.origin).status_code == 400
    assert code_of(page.begin()) == (403, "origin_not_allowed")
    assert page.call(before["token"], "GET", "/v1/conversations").status_code == 403
    after = moved.session(refresh=before["refresh"])
    assert (after["visitor"], after["conversation"]) == (before["visitor"], before["conversation"])
    items = moved.call(after["token"], "GET", f"/v1/conversations/{after['conversation']}/items").json()["data"]
    assert len(items) == 2
    assert heard(lambda: ask(moved, after), 429).json()["error"]["budget"] == "key.tokens_total"
    change("--tokens-total", "none", "--visitor-tokens-total", "1")
    heard(lambda: ask(moved, after), 200)
    refused = ask(moved, moved.session())
    assert (refused.status_code, refused.json()["error"]["budget"]) == (429, "visitor.tokens_total")
    assert ask(moved, after).status_code == 200, "until the token is renewed"
    change("--visitor-tokens-total", "none")
    own = ask(moved, moved.session()).json()["usage"]["input_tokens"]
    assert own > plain, "the persona is the model's own now, and longer"
    change("--identified-only")
    assert code_of(moved.begin(refresh=after["refresh"])) == (403, "identity_required")
    change("--everybody")
    assert moved.session(refresh=after["refresh"])["visitor"] == after["visitor"]


def test_a_widget_needs_an_origin(tmp_path: Path) -> None:
    """A widget would be made that stands nowhere."""
    result = CliRunner().invoke(app, ["widgets", "create", "x"], env={"FRONTDESK_DATABASE": str(tmp_path / "f.db")})
    assert result.exit_code == 2
    assert "--origin" in result.output
