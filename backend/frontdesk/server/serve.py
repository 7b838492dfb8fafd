"""From settings to a running server: the socket, uvicorn with every limit set, signals, and the way down.

`serve` is what the command line calls. It blocks until a signal and raises what went wrong before or while loading.
Knows no terminal: whoever wants lines printed passes callbacks.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType

import structlog
import uvicorn
from starlette.applications import Starlette

from frontdesk.config import Settings
from frontdesk.errors import ConfigError, FrontdeskError
from frontdesk.server.access import key_required
from frontdesk.server.app import build_app
from frontdesk.server.guard import SPARE_CONNECTIONS, guarded, guarded_websocket
from frontdesk.server.lifetime import Lifetime, Watch
from frontdesk.server.middleware import is_loopback

SEND_BUFFER = 64 * 1024  # bytes of kernel memory that a reader who does not read may hold; the default grows to 4 MB
RESERVED_FILES = 64  # for everything that is no connection: the engine, the model's file, log files
SWITCH_SECONDS = 0.0005  # a commit that is done waits so long for a busy event loop; Python's own choice is 5 ms
KEEP_ALIVE = 30  # seconds that an idle connection may be reused
FLUSH_SECONDS = 5  # after the drain, for readers that have not yet taken their last bytes

log = structlog.stdlib.get_logger("frontdesk.server")


class DrainingServer(uvicorn.Server):
    """uvicorn, but a signal first lets running replies finish while new requests are answered with 503.

    A second signal of any kind ends the waiting.
    """

    def __init__(self, config: uvicorn.Config, lifetime: Lifetime) -> None:
        super().__init__(config)
        self.on_listening: Callable[[], None] = lambda: None
        self._lifetime = lifetime

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # what was imported stays; looking through it again and again would stop every stream meanwhile
        if not self.should_exit:
            self.on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        self._lifetime.refuse()  # at once: also while it starts, before anybody drains
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._lifetime.drain(hurry=lambda: self.force_exit)
        finally:
            await super().shutdown(sockets)
        # uvicorn would raise the signal again and so die in the middle of its caller's last words.
        self._captured_signals.clear()


def bind(host: str, port: int) -> socket.socket:
    """A listening address, so that a busy port is found before any model is loaded. Raises `ConfigError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"cannot listen on {host!r}: {error.strerror}", param="host") from None
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # accepted sockets inherit it
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        hint = "stop the other program or choose another --port" if port else "choose another --host"
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; {hint}", param="port") from None
    return sock


def url_of(sock: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    host, port = sock.getsockname()[:2]
    host = str({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def connection_cap(wanted: int) -> int:
    """Raise the limit of open files if need and right be; how many connections then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # negative: no limit
    needed = wanted + SPARE_CONNECTIONS + RESERVED_FILES
    if 0 <= soft < needed:
        soft = needed if hard < 0 else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if 0 <= soft < needed:
        fits = max(1, soft - SPARE_CONNECTIONS - RESERVED_FILES)
        log.warning("fewer connections than set: the limit of open files is low", connections=fits, files=soft)
        return fits
    return wanted


def make_server(settings: Settings, app: Starlette) -> DrainingServer:
    """A server for `app`, which `build_app` made. Run it with `server.run(sockets=[bind(...)])`."""
    http = guarded(
        settings.header_timeout,
        settings.body_timeout,
        settings.send_timeout,
        connection_cap(settings.max_connections),
        partial(app.state.problems.refused, None),
    )
    config = uvicorn.Config(
        app,
        http=http,
        ws=guarded_websocket(settings.send_timeout),
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # doubles the memory of an idle socket and gains nothing on token frames
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=FLUSH_SECONDS,
    )
    return DrainingServer(config, app.state.lifetime)


def serve(settings: Settings, watch: Watch | None = None, on_bound: Callable[[str], None] | None = None) -> None:
    """Serve until a signal. `on_bound` gets the URL as soon as requests to it are answered.

    Raises `ConfigError` (port taken, unknown model) and `ModelLoadFailed`.
    """
    watch = watch or Watch()
    failures: list[FrontdeskError] = []

    def failed(error: FrontdeskError) -> None:
        failures.append(error)
        watch.failed(error)
        server.should_exit = True

    with contextlib.closing(bind(settings.host, settings.port)) as sock:
        server = make_server(settings, build_app(settings, watch=replace(watch, failed=failed)))
        if not is_loopback(settings.host) and not key_required(settings):
            log.warning("this server asks for no key and can be reached from other machines", host=settings.host)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else somebody, such as nohup, wants it ignored
            signal.signal(signal.SIGHUP, server.handle_exit)
        sys.setswitchinterval(SWITCH_SECONDS)
        if on_bound:
            # Not before signals are handled: whoever reads the address may send one at once.
            url = url_of(sock)
            server.on_listening = lambda: on_bound(url)
        server.run(sockets=[sock])
    if failures:
        raise failures[0]
