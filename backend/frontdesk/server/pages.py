"""The web demo at `/`: the built files of `web_demo/dist`, read once at start and served from memory.

They name everything by fixed addresses, so every answer is revalidated (`ETag`, 304) and a new version is seen at once.
The content security policy allows exactly what the page is made of: its own script and style, and connections to this
server, WebSockets included. Knows no API and no page's content.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.errors import ConfigError

INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
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
        if INDEX not in self._files:
            raise ConfigError(f"the web demo is missing from {folder}: the installation is broken")

    @property
    def routes(self) -> Sequence[Route]:
        return [
            Route("/", self.index, methods=["GET"], name="demo"),
            Route("/demo/{name}", self.file, methods=["GET"], name="demo_file"),
        ]

    async def index(self, request: Request) -> Response:
        return answer(request, self._files[INDEX])

    async def file(self, request: Request) -> Response:
        if (file := self._files.get(request.path_params["name"])) is None:
            return Response(status_code=404)
        return answer(request, file)


def answer(request: Request, file: File) -> Response:
    """The file, packed where the browser takes that; 304 when it has this version already."""
    headers = {
        "cache-control": "no-cache",
        "content-security-policy": policy(request.headers.get("host", "")),
        "etag": file.etag,
        "vary": "accept-encoding",
    }
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "content-encoding": "gzip"}, media_type=file.kind)
    return Response(file.body, headers=headers, media_type=file.kind)


def policy(host: str) -> str:
    """`host` is the checked Host header. It is named for WebSockets, which not every browser counts under 'self'."""
    sockets = f" ws://{host} wss://{host}" if host else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types dompurify"
    )
