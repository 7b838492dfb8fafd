"""The pages: the demo at `/`, the operator's at `/admin`, the sample shop, and the widget that other sites embed.

All are built files of `web_demo/dist`, read once at start and served from memory. They name everything by fixed
addresses, so every answer is revalidated (`ETag`, 304) and a new version is seen at once. The content security policy
allows exactly what a page is made of: its own script and style, and connections to this server, WebSockets included.
Only the widget's two files may be loaded by pages of other sites. Knows no API and no page's content.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.errors import ConfigError

AT = {"/": "index.html", "/admin": "admin.html"}
SHOP = "shop.html"
WIDGET = ("widget.js", "widget.mjs")
ALONE = (*WIDGET, SHOP, "shop.css", "shop.js")  # at the root, so that the shop's page works from any other server too
OPEN_PATHS = frozenset([*AT, *(f"/{name}" for name in ALONE)])  # need no key; the API behind them does
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class File:
    """`etag` names the content, not the encoding, so it is a weak one."""

    body: bytes
    packed: bytes  # the same, gzipped
    kind: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> File:
        body = path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:24]
        return cls(body, gzip.compress(body, mtime=0), TYPES[path.suffix], f'W/"{digest}"')


class Pages:
    """`folder` is where the built files lie. Raises `ConfigError` when they do not."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: File.read(path) for path in sorted(folder.glob("*")) if path.suffix in TYPES}
        if missing := sorted({*AT.values(), *ALONE} - self._files.keys()):
            raise ConfigError(f"{missing[0]} is missing from {folder}: the installation is broken")

    @property
    def routes(self) -> Sequence[Route]:
        at = {**AT, **{f"/{name}": name for name in ALONE}}
        return [
            *(Route(path, self._always(name), methods=["GET"], name=f"page_{name}") for path, name in at.items()),
            Route("/demo/{name}", self.file, methods=["GET"], name="demo_file"),
        ]

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        return self._answer(request, name) if name in self._files else Response(status_code=404)

    def _always(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return self._answer(request, name)

        return endpoint

    def _answer(self, request: Request, name: str) -> Response:
        host = request.headers.get("host", "")
        headers = {"content-security-policy": shop_policy(request.url.scheme, host) if name == SHOP else policy(host)}
        if name in WIDGET:
            headers |= {"access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}
        return answer(request, self._files[name], headers)


def answer(request: Request, file: File, headers: Mapping[str, str]) -> Response:
    """The file, packed where the browser takes that; 304 when it has this version already."""
    headers = {"cache-control": "no-cache", "etag": file.etag, "vary": "accept-encoding", **headers}
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "content-encoding": "gzip"}, media_type=file.kind)
    return Response(file.body, headers=headers, media_type=file.kind)


def policy(host: str) -> str:
    """`host` is the checked Host header. It is named for WebSockets, which not every browser counts under 'self'."""
    return _policy(("'self'",), ("'self'", *_sockets(host)), "frontdesk")


def shop_policy(scheme: str, host: str) -> str:
    """The sample shop's: it embeds the widget of another server. Of whichever its address names would let anybody's
    script run here; so of this server alone, by its own name or by the machine's other one. To a browser `localhost`
    and `127.0.0.1` are two origins, and that is how one server shows what takes two."""
    servers = ("'self'", *(f"{scheme}://{name}" for name in _twins(host)))
    sockets = [socket for name in (host, *_twins(host)) for socket in _sockets(name)]
    return _policy(servers, (*servers, *sockets), "frontdesk shop")


def _policy(scripts: Sequence[str], connections: Sequence[str], types: str) -> str:
    return (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src 'self'; img-src 'self' data:; "
        f"connect-src {' '.join(connections)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"require-trusted-types-for 'script'; trusted-types {types}"
    )


def _sockets(host: str) -> Sequence[str]:
    return (f"ws://{host}", f"wss://{host}") if host else ()


def _twins(host: str) -> Sequence[str]:
    name, colon, port = host.partition(":")
    twin = {"localhost": "127.0.0.1", "127.0.0.1": "localhost"}.get(name.lower())
    return (f"{twin}{colon}{port}",) if twin else ()
