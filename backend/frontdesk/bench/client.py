"""The client: asks a server by URL over Chat Completions (SSE) or the Responses WebSocket, and notes when what came.

One connection for each request over HTTP, so its first token includes connecting; one for each conversation over the
WebSocket, which is opened before the first question. Neither goes through a proxy, whatever the environment says: both
measure the same route. What goes wrong with a reply stands in it and is never raised.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import httptools
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException

from frontdesk.bench.prompts import Sizes, samples, sizes
from frontdesk.bench.reply import ENDS, Read, Reply, read_chat, read_responses
from frontdesk.bench.sse import DataLines
from frontdesk.errors import ConfigError, FrontdeskError

READ_BYTES = 65536


class TargetUnusable(FrontdeskError):
    """The server cannot be measured: nobody answers (code `unreachable`), or it refuses the very first request."""


class Talk(Protocol):
    """One conversation with a server."""

    async def ask(self, reply: Reply, text: str) -> None:
        """Send the next question and fill `reply` to its end. Cancelling it closes the connection."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is and how it is asked. `url` may end in `/v1`. `more` are fields of every request's body.

    `timeout`: seconds that one reply may take. Replies are greedy and ignore the end of turn unless `more` says so.
    """

    url: str
    model: str | None = None
    key: str | None = None
    transport: str = "sse"
    timeout: float = 600.0
    more: dict[str, Any] = field(default_factory=lambda: {"temperature": 0, "ignore_eos": True})

    def __post_init__(self) -> None:
        if not _is_server(self.url):
            raise ConfigError(f"--url {self.url!r} should be the address of a server, as http://127.0.0.1:8000")

    def talk(self, system: str) -> Talk:
        return SocketTalk(self, system) if self.transport == "ws" else ChatTalk(self, system)

    async def chat(self, messages: list[dict[str, str]], new_tokens: int, reply: Reply | None = None) -> Reply:
        """Stream one answer of Chat Completions."""
        body = {"messages": messages, "max_tokens": new_tokens, "stream": True}
        body |= {"stream_options": {"include_usage": True}, **self.more, **self.named}
        return await self.stream("/chat/completions", body, read_chat, reply or Reply(asked=new_tokens))

    async def stream(self, path: str, body: dict[str, Any], read: Read, reply: Reply) -> Reply:
        """POST to a streaming route below /v1; `read` is called when all has come."""
        reply.sent = perf_counter()
        lines = DataLines()

        def take(data: bytes) -> None:
            now = perf_counter()
            reply.frames += [(now, line) for line in lines.feed(data)]

        try:
            async with asyncio.timeout(self.timeout):
                status, rest = await _http(self, "POST", path, json.dumps(body).encode(), take)
        except TimeoutError:
            reply.error = f"no end after {self.timeout:.0f} s"
        except asyncio.CancelledError:
            reply.stopped = True
            raise
        except (OSError, EOFError, httptools.HttpParserError) as error:
            reply.error = str(error) or type(error).__name__
        else:
            now = perf_counter()
            reply.frames += [(now, line) for line in lines.end()]
            reply.error = "" if status == 200 else _refusal(status, rest)
        finally:
            if reply.frames or not reply.error:
                read(reply)
        return reply

    async def get(self, path: str) -> Any:
        """The JSON at a path of the server itself, without /v1. Raises `TargetUnusable`."""
        return await self._json("GET", path, b"", root=True)

    async def sizes(self) -> Sizes:
        """How long words are for this model: two short requests. Raises `TargetUnusable` when they are not answered."""
        counts = []
        for messages in samples():
            # One token more than is needed: some servers answer a single one without telling what it cost.
            body = {"messages": messages, "max_tokens": 2, "stream": False, **self.more, **self.named}
            answer = await self._json("POST", "/chat/completions", json.dumps(body).encode())
            try:
                counts.append(int(answer["usage"]["prompt_tokens"]))
            except (KeyError, TypeError, ValueError):
                raise TargetUnusable(f"{self.url} does not tell how many tokens a prompt has (no usage)") from None
        try:
            return sizes((counts[0], counts[1]))
        except ValueError as error:
            raise TargetUnusable(f"{self.url} counts tokens wrongly: {error}") from None

    @property
    def named(self) -> dict[str, str]:
        return {"model": self.model} if self.model else {}

    async def _json(self, method: str, path: str, body: bytes, *, root: bool = False) -> Any:
        try:
            async with asyncio.timeout(self.timeout):
                status, text = await _http(self, method, path, body, None, root=root)
        except (OSError, EOFError, httptools.HttpParserError) as error:
            reason = str(error) or type(error).__name__
            raise TargetUnusable(f"no server answers at {self.url} ({reason})", code="unreachable") from None
        if status != 200:
            raise TargetUnusable(f"the server at {self.url} refuses {method} {path}: {_refusal(status, text)}")
        try:
            return json.loads(text)
        except ValueError:
            raise TargetUnusable(f"{self.url} answers {method} {path} with something that is no JSON") from None


class ChatTalk:
    """A conversation over Chat Completions: everything said so far is sent with each question."""

    def __init__(self, target: Target, system: str) -> None:
        self._target = target
        self._messages = [{"role": "system", "content": system}] if system else []

    async def ask(self, reply: Reply, text: str) -> None:
        messages = [*self._messages, {"role": "user", "content": text}]
        await self._target.chat(messages, reply.asked, reply)
        if reply.good:
            self._messages = [*messages, {"role": "assistant", "content": reply.text}]

    async def close(self) -> None:
        pass


class _Kind(msgspec.Struct):
    """The one field that is looked at while a reply runs."""

    type: str = ""


class SocketTalk:
    """A conversation over the Responses WebSocket: only the new turn is sent, the connection knows the rest."""

    def __init__(self, target: Target, system: str) -> None:
        self._target = target
        self._system = system
        self._socket: ClientConnection | None = None
        self._previous: str | None = None

    async def ask(self, reply: Reply, text: str) -> None:
        target = self._target
        body = {"type": "response.create", "input": text, "max_output_tokens": reply.asked, "store": False}
        body |= {**target.more, **target.named}
        body |= {"instructions": self._system} if self._system else {}
        body |= {"previous_response_id": self._previous} if self._previous else {}
        reply.sent = perf_counter()
        try:
            async with asyncio.timeout(target.timeout):
                socket = await self._connected()
                reply.sent = perf_counter()
                await socket.send(json.dumps(body))
                await _until_end(socket, reply)
        except TimeoutError:
            reply.error = f"no end after {target.timeout:.0f} s"
        except asyncio.CancelledError:
            reply.stopped = True
            raise
        except (OSError, EOFError, msgspec.DecodeError, WebSocketException, InvalidHandshake, InvalidURI) as error:
            reply.error = str(error) or type(error).__name__
        finally:
            if reply.frames or not reply.error:
                read_responses(reply)
        if reply.error:
            await self.close()  # what still comes on it is this reply's, and must not be taken for the next one's
        else:
            self._previous = reply.id if reply.good else self._previous

    async def close(self) -> None:
        """The connection forgets what was said on it."""
        socket, self._socket, self._previous = self._socket, None, None
        if socket is not None:
            await socket.close()

    async def _connected(self) -> ClientConnection:
        if self._socket is None:
            parts = urlsplit(self._target.url)
            scheme = "wss" if parts.scheme == "https" else "ws"
            address = urlunsplit((scheme, parts.netloc, f"{_base(parts.path)}/v1/responses", "", ""))
            headers = {"Authorization": f"Bearer {self._target.key}"} if self._target.key else {}
            self._socket = await connect(
                address, max_size=None, compression=None, proxy=None, additional_headers=headers
            )
        return self._socket


async def _until_end(socket: ClientConnection, reply: Reply) -> None:
    async for message in socket:
        data = message.encode() if isinstance(message, str) else message
        reply.frames.append((perf_counter(), data))
        kind = msgspec.json.decode(data, type=_Kind).type
        if kind in ENDS or (kind == "error" and b'"status"' in data):
            return
    raise EOFError("the server closed the connection in the middle of a reply")


class _Response:
    """What httptools tells of one HTTP response."""

    def __init__(self, take: Callable[[bytes], None] | None) -> None:
        self.body = bytearray()
        self.ended = False
        self.parser = httptools.HttpResponseParser(self)
        self._take = take

    @property
    def status(self) -> int:
        return self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if self._take is not None and self.status == 200:
            self._take(data)
        else:
            self.body += data

    def on_message_complete(self) -> None:
        self.ended = True


async def _http(
    target: Target, method: str, path: str, body: bytes, take: Callable[[bytes], None] | None, *, root: bool = False
) -> tuple[int, bytes]:
    """(status, body); the body of a good answer goes to `take`, if there is one. Raises OSError, EOFError."""
    parts = urlsplit(target.url)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure)
    try:
        where = _base(parts.path) + ("" if root else "/v1") + path
        key = f"authorization: Bearer {target.key}\r\n" if target.key else ""
        writer.write(
            f"{method} {where} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\naccept: */*\r\n{key}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        response = _Response(take)
        while not response.ended and (data := await reader.read(READ_BYTES)):
            response.parser.feed_data(data)
        if not response.status:
            raise EOFError("the server closed the connection without an answer")
        return response.status, bytes(response.body)
    finally:
        writer.close()
        if secure:
            with suppress(OSError):
                await writer.wait_closed()


def _is_server(url: str) -> bool:
    """Whether this can be the address of a server."""
    try:
        parts = urlsplit(url)
        name = (parts.hostname or "").encode("idna")  # as whoever looks it up does: it fails for what is no name
        return parts.scheme in ("http", "https") and bool(name) and parts.port != 0
    except ValueError:
        return False


def _base(path: str) -> str:
    return path.rstrip("/").removesuffix("/v1")


def _refusal(status: int, text: bytes) -> str:
    """One line of an error answer."""
    try:
        error = json.loads(text)["error"]
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError):
        said = text.decode("utf-8", "replace")
    return f"{status} {' '.join(str(said).split())}"[:300]
