"""The stream of chunks that OpenAI's two completion formats share: head, usage, failure and end. What an entry of
`choices` looks like is theirs to know.
"""

from __future__ import annotations

from typing import Any

from frontdesk.errors import FrontdeskError
from frontdesk.generation import ContextReport, Usage
from frontdesk.wire._context import context_field
from frontdesk.wire._errors import error_body
from frontdesk.wire._fields import StreamOptions
from frontdesk.wire._frames import DONE, json_bytes, sse
from frontdesk.wire._values import completion_usage

HOLE = "\x00"


class ChunkStream:
    """Frames of the replies to one call. After a failure it says nothing more. `context` goes with the usage, or where
    none is wanted with the last chunk of each reply."""

    def __init__(self, head: dict[str, Any], options: StreamOptions | None, context: ContextReport | None) -> None:
        self.failed = False
        self._context = context_field(context)
        self._head = head
        self._with_usage = bool(options and options.include_usage)
        self._usages: dict[int, Usage] = {}

    def chunk(self, entry: dict[str, Any], more: dict[str, Any] | None = None) -> bytes:
        usage = {"usage": None} if self._with_usage else {}
        return sse({**self._head, "choices": [entry], **usage, **(more or {})})

    def around(self, entry: dict[str, Any]) -> tuple[bytes, bytes]:
        """The bytes before and after the one `HOLE` of `entry`, so that a delta costs one small encode."""
        before, _, after = self.chunk(entry).rpartition(json_bytes(HOLE))
        return before, after

    def last(self, choice: int, entry: dict[str, Any], usage: Usage) -> bytes:
        self._usages[choice] = usage
        return self.chunk(entry, None if self._with_usage else self._context)

    def fail(self, error: FrontdeskError) -> bytes:
        self.failed = True
        return sse(error_body(error))

    def end(self) -> bytes:
        if self.failed:
            return b""
        if not self._with_usage:
            return DONE
        usages = [self._usages[i] for i in sorted(self._usages)]
        return sse({**self._head, "choices": [], "usage": completion_usage(usages), **self._context}) + DONE
