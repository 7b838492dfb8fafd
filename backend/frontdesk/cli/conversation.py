"""One conversation with a server, over its WebSocket `/v1/responses`; knows no terminal.

The conversation is kept by the server, where it can be asked for again, and a reply whose connection broke is read on
from where it was. Servers that keep nothing get all turns with each request. Either way the turns are remembered here
too, so that any connection, and a server that lost its memory, can carry the next one.

Synchronous on purpose: a terminal does one thing at a time, and Ctrl-C then is a flag that is looked at between frames.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from frontdesk.bench.processes import is_local
from frontdesk.errors import ConfigError, FrontdeskError

ENDS = {"response.completed", "response.incomplete"}
LOOK = 0.1  # seconds between two looks at the cancel flag while nothing arrives
NOT_READY = 2.0  # seconds until a server that still loads is asked again
ATTEMPTS = 5  # to connect again, with waits of 0.25, 0.5, 1, 2 and 4 seconds
FINAL_CODES = {1002, 1003, 1007, 1008, 1009}  # and 4000 to 4999: connecting again would end the same way


class ServerUnreachable(FrontdeskError):
    """No connection, or none any more."""


class ReplyFailed(FrontdeskError):
    """The server answered this turn with an error; the next turn may work."""


@dataclass(frozen=True, slots=True)
class Stats:
    """How a reply went; seconds. `status` is completed, incomplete (cut at a limit) or cancelled."""

    status: str
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    first_after: float
    tokens_per_second: float
    context: Mapping[str, Any] = field(default_factory=dict)  # the response's own: what the model was shown


class Conversation:
    """Turns, and the connection that carries them. `on_trouble` is told in one line what happens to the connection.

    `options` are sent with every turn: model, temperature, …; `key` is the server's API key. With `keep` the server is
    asked to keep the conversation; `id` is its name there, once it does.

    Raises `ConfigError` when `url` is no address.
    """

    def __init__(
        self,
        url: str,
        options: dict[str, Any],
        on_trouble: Callable[[str], None],
        *,
        key: str | None = None,
        keep: bool = True,
    ) -> None:
        self.address = websocket_address(url)
        self.options = options
        self.instructions: str | None = None
        self.turns: list[dict[str, str]] = []
        self.stats: Stats | None = None
        self.id: str | None = None
        self._there = 0  # how many of the turns the server's conversation holds
        self._keep = keep
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._on_trouble = on_trouble
        self._socket: ClientConnection | None = None
        self._response: str | None = None  # the reply that is being read, if it can be resumed
        self._seen = -1  # sequence_number of its last event
        self._answer = ""  # its text so far

    def connect(self) -> None:
        """Raises `ServerUnreachable`."""
        try:
            self._socket = connect(
                self.address, max_size=None, compression=None, open_timeout=10, additional_headers=self._headers,
                proxy=None if is_local(self.address) else True,  # True: as the environment says
                legacy=True,  # to be closed by `close`, not at the end of a block
            )  # fmt: skip
        except InvalidStatus as error:
            status = error.response.status_code
            needs = "it needs a valid --key" if status in (401, 403) else f"status {status}"
            raise ServerUnreachable(f"the server at {self.address} refuses the connection: {needs}") from None
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as error:
            raise ServerUnreachable(f"no server answers at {self.address} ({error})") from None
        except (InvalidProxy, ImportError, ValueError) as error:
            reason = getattr(error, "msg", error)  # all of InvalidProxy has the proxy's password in it
            raise ServerUnreachable(f"the environment's proxy for {self.address} is unusable ({reason})") from None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def ask(self, text: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Pieces of the answer as they come; `stats` is set after the last. A turn that brought no answer is forgotten.

        Raises `ReplyFailed`, `ServerUnreachable`. When the connection breaks, a new one brings the rest of the reply,
        or all of it again where the server does not keep it.
        """
        kept = len(self.turns)
        self.turns.append({"role": "user", "content": text})
        self._answer = ""
        self._response = None
        try:
            for attempt in (1, 2):
                try:
                    for piece in self._when_loaded(cancelled):
                        self._answer += piece
                        yield piece
                    break
                except ConnectionClosed as closed:
                    self._reconnect(closed, last=attempt == 2)
        except (ReplyFailed, ServerUnreachable):
            self._answer = ""
            raise
        finally:
            self.turns[kept + 1 :] = [{"role": "assistant", "content": self._answer}]
            del self.turns[kept if not self._answer else kept + 2 :]
            self._there = len(self.turns) if self.id else 0

    def clear(self) -> None:
        """Forget the conversation, here and at the server; here even where the server cannot be told."""
        self.turns.clear()
        gone, self.id, self._there = self.id, None, 0
        if gone is not None:
            self._call("DELETE", f"/conversations/{gone}")

    def _when_loaded(self, cancelled: Callable[[], bool]) -> Iterator[str]:
        """`_attempt`, once the server has its model. What it has forgotten, or another one in its place never knew,
        is told again."""
        told_again = False
        while True:
            try:
                yield from self._attempt(cancelled)
                return
            except ReplyFailed as error:
                if error.code == "not_found" and self._response is not None:
                    self._response = None
                    self._on_trouble("the server has lost this answer; asking again")
                    continue
                if error.code == "not_found" and self.id is not None and not told_again:
                    self.id, self._there, told_again = None, 0, True
                    continue
                if error.code != "engine_not_ready" or cancelled():
                    raise
                self._on_trouble(f"the server is not ready ({error.message}); waiting …")
                time.sleep(NOT_READY)

    def _attempt(self, cancelled: Callable[[], bool]) -> Iterator[str]:
        """One try at the last turn, or at the rest of its reply. Raises `ConnectionClosed`, `ReplyFailed`."""
        if self._socket is None:
            self.connect()
        assert self._socket is not None
        began = time.monotonic()
        first = 0.0
        if self._response is not None:
            resume = {"response_id": self._response, "starting_after": self._seen}
            self._send({"type": "response.resume", **resume})
        else:
            self._answer, self._seen = "", -1
            self._send({"type": "response.create", **self._body()})
        for event in self._events(cancelled):
            if event["type"] == "response.output_text.delta":
                first = first or time.monotonic()
                yield event["delta"]
            elif event["type"] in ENDS:
                self.stats = _stats(event["response"], began, first or time.monotonic(), time.monotonic())

    def _events(self, cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Events up to the reply's last. Sends one cancel, as soon as it is both wanted and possible."""
        response = self._response
        cancel_sent = False
        while True:
            if response and cancelled() and not cancel_sent:
                self._send({"type": "response.cancel", "response_id": response})
                cancel_sent = True
            if (event := self._receive()) is None:
                continue
            if event["type"] == "response.created":
                response = event["response"]["id"]
                self._response = response if self.id else None
            _raise_failure(event)
            self._seen = event.get("sequence_number", self._seen)
            yield event
            if event["type"] in ENDS:
                return

    def _receive(self) -> dict[str, Any] | None:
        """The next event, or `None` when it is time to look at the cancel flag again."""
        assert self._socket is not None
        try:
            return json.loads(self._socket.recv(timeout=LOOK))
        except TimeoutError:
            return None

    def _body(self) -> dict[str, Any]:
        """What is not at the server yet, or everything. Old turns may leave: a talk never ends because it is long."""
        if self._keep and self.id is None:
            self._begin()
        kept = {"conversation": self.id} if self.id else {"store": False}
        instructions = {"instructions": self.instructions} if self.instructions else {}
        return {"input": self.turns[self._there :], "truncation": "auto", **kept, **instructions, **self.options}

    def _begin(self) -> None:
        """Have the server keep the conversation, if it can. Raises `ReplyFailed`."""
        self._there = 0
        if (made := self._call("POST", "/conversations")) is None:
            self._keep = False
        else:
            self.id = made["id"]

    def _call(self, method: str, path: str) -> dict[str, Any] | None:
        """One request beside the WebSocket; None when the server does not know what it asks for."""
        parts = urlsplit(self.address)
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        address = urlunsplit((scheme, parts.netloc, parts.path.removesuffix("/responses") + path, "", ""))
        data = b"{}" if method == "POST" else None
        headers = {"Content-Type": "application/json", **self._headers}
        request = urllib.request.Request(address, data, headers, method=method)
        try:
            direct = [urllib.request.ProxyHandler({})] if is_local(address) else []
            with urllib.request.build_opener(*direct).open(request, timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (404, 405, 501):
                    return None
                raise ReplyFailed(f"the server refuses to keep the conversation ({_reason(error)})") from None
        except (OSError, ValueError) as error:
            raise ServerUnreachable(f"no server answers at {address} ({error})") from None

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        self._socket.send(json.dumps(message))

    def _reconnect(self, closed: ConnectionClosed, last: bool) -> None:
        """Raises `ServerUnreachable` when there is no use in trying, or nobody answers any more."""
        code = closed.rcvd.code if closed.rcvd else 1006
        reason = f"{code} {closed.rcvd.reason}".rstrip() if closed.rcvd else str(code)
        if last or code in FINAL_CODES or 4000 <= code < 5000:
            raise ServerUnreachable(f"the server closed the connection ({reason})")
        self._on_trouble(f"connection lost ({reason}); connecting again …")
        for attempt in range(ATTEMPTS):
            time.sleep(0.25 * 2**attempt)
            try:
                self.connect()
            except ServerUnreachable:
                continue
            self._on_trouble("connected; reading on" if self._response else "connected; asking again")
            return
        raise ServerUnreachable(f"no server answers at {self.address} any more")


def websocket_address(url: str) -> str:
    """`http://host:8000`, with or without `/v1`, as the address of the WebSocket. Raises `ConfigError`."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        path = parts.path.rstrip("/").removesuffix("/responses").removesuffix("/v1")
        address = urlunsplit((scheme, parts.netloc, f"{path}/v1/responses", "", ""))
        parse_uri(address).host.encode("idna")  # as whoever looks the name up does: it fails for what is no name
    except (InvalidURI, ValueError):
        raise ConfigError(f"--url {url!r} should be the address of a server, as http://127.0.0.1:8000") from None
    return address


def _raise_failure(event: dict[str, Any]) -> None:
    """A refusal is one `error` with a status. A reply that fails sends an `error` without, then `response.failed`."""
    refused = event["type"] == "error" and "status" in event
    if not refused and event["type"] != "response.failed":
        return
    error = (event if refused else event["response"]).get("error") or {}
    if error.get("code") != "response_not_active":  # a cancel that met the reply's end
        message = str(error.get("message") or "the reply failed")
        raise ReplyFailed(message, code=error.get("code"), param=error.get("param"))


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (OSError, ValueError, LookupError, TypeError):
        return f"{error.code} {error.reason}"


def _stats(response: dict[str, Any], began: float, first: float, ended: float) -> Stats:
    usage = response.get("usage") or {}
    tokens = usage.get("output_tokens", 0)
    rate = (tokens - 1) / (ended - first) if tokens > 1 and ended > first else 0.0
    return Stats(
        status=response.get("status", "completed"),
        prompt_tokens=usage.get("input_tokens", 0),
        cached_tokens=(usage.get("input_tokens_details") or {}).get("cached_tokens", 0),
        tokens=tokens,
        first_after=first - began,
        tokens_per_second=rate,
        context=response.get("context") or {},
    )
