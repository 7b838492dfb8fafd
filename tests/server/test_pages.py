"""The pages' files and policies: what is open, to whom, and what a page may load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.acceptance.asking import create_key

from frontdesk.errors import ConfigError
from frontdesk.server.pages import ALONE, AT, OPEN_PATHS, Pages, policy, shop_policy

if TYPE_CHECKING:
    from tests.conftest import Server


def test_pages_are_open_and_the_api_is_not(start_server: Callable[..., Server]) -> None:
    """If this fails, a server that wants keys shows no page to ask for one, or answers without it."""
    server = start_server(auth="on")
    create_key(server, "somebody")
    for path in sorted(OPEN_PATHS):
        assert httpx2.get(server.url + path).status_code == 200, path
    assert httpx2.get(f"{server.url}/v1/conversations").status_code == 401


@pytest.mark.parametrize("path", [*AT, *(f"/{name}" for name in ALONE), "/demo/admin.js"])
def test_every_file_is_packed_and_known_again(server: Server, path: str) -> None:
    """If this fails, a page is sent whole each time, or a new version is not seen."""
    whole = httpx2.get(server.url + path, headers={"accept-encoding": "identity"})
    packed = httpx2.get(server.url + path, headers={"accept-encoding": "gzip"})
    assert (whole.status_code, packed.headers["content-encoding"], packed.text) == (200, "gzip", whole.text)
    assert whole.headers["cache-control"] == "no-cache"
    known = httpx2.get(server.url + path, headers={"if-none-match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_only_the_widget_is_for_other_sites(server: Server) -> None:
    """If this fails, pages of other sites cannot load the widget, or can read our own pages."""
    for path in sorted(OPEN_PATHS):
        headers = httpx2.get(server.url + path, headers={"origin": "https://any.example"}).headers
        for_all = path in ("/widget.js", "/widget.mjs")
        assert (headers.get("access-control-allow-origin") == "*") is for_all, path
        assert (headers.get("cross-origin-resource-policy") == "cross-origin") is for_all, path


def test_no_policy_is_loose() -> None:
    """If this fails, hostile text that gets past the pages' other walls may run or reach somebody."""
    for text in (policy("chat.example"), shop_policy("https", "chat.example"), policy("")):
        assert text.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;")
        assert "unsafe" not in text
        assert "*" not in text
        assert "require-trusted-types-for 'script'; trusted-types frontdesk" in text
    assert "ws://chat.example wss://chat.example" in policy("chat.example")


@pytest.mark.parametrize(("host", "twin"), [("localhost:80", "127.0.0.1:80"), ("127.0.0.1", "localhost")])
def test_the_shop_may_embed_the_machines_other_name(host: str, twin: str) -> None:
    """If this fails, the sample shop of a single server cannot show the widget across two origins."""
    text = shop_policy("http", host)
    assert f"script-src 'self' http://{twin};" in text
    assert f"ws://{twin}" in text
    assert twin not in policy(host)


def test_the_shop_of_a_server_with_a_name_embeds_that_alone() -> None:
    """If this fails, a link to the sample shop can run a stranger's script at the chat's own address."""
    assert "script-src 'self';" in shop_policy("https", "chat.example")


def test_a_broken_installation_says_so(tmp_path: Path) -> None:
    """If this fails, a wheel without the built pages starts, and every page is a 404 or a 500."""
    (tmp_path / "index.html").write_text("<!doctype html>")
    with pytest.raises(ConfigError, match=r"admin\.html is missing"):
        Pages(tmp_path)
