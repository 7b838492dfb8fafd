"""What went wrong lately: answers with an error, and replies that failed after they had begun. The newest ones only.

Whoever looks at them sees what the server said, never what a user wrote: `without_words` takes out what a message
quotes. Which request a reply came from is known here (`asking`), as a reply outlives its request and knows none.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from frontdesk.errors import FrontdeskError

MOST: Final = 200
LONGEST: Final = 300  # characters of a message

# Apostrophes within words are no quotes.
_QUOTED: Final = re.compile(r"""(?<!\w)(['"])((?:\\.|(?!\1(?!\w)).)*)(\1(?!\w)|\Z)""", re.S)
_NAME: Final = re.compile(r"[\w.:/\[\]-]{1,64}")
# What looks like a name and is a key or a token of ours, or a number as long as that of a telephone or a card.
_PRIVATE: Final = re.compile(r"\b(?:fd|ek|er)_|\b\d(?:[.:/-]?\d){8,}\b|^[\d.:/-]{7,}$")
# Behind these somebody else speaks, who may quote without quotation marks.
_FOREIGN: Final = re.compile(r"(chat template [^:]*|cannot be filled in):.*", re.S)


@dataclass(slots=True)
class Asked:
    """A request, or a WebSocket with all that is asked on it: `method` is "WS" then. `path` is without query.

    `failed` counts the replies to it that failed: an answer that says so is not a problem of its own.
    """

    request_id: str
    method: str
    path: str
    failed: int = 0


asking: ContextVar[Asked | None] = ContextVar("asking", default=None)


@dataclass(frozen=True, slots=True)
class Problem:
    """`at` is in seconds since 1970. `asked` is None for a reply that a former life of the server began, and for what
    never became a request; `reply` is the id of the reply that failed, None when none had begun."""

    at: float
    asked: Asked | None
    status: int
    code: str | None
    message: str
    reply: str | None = None


class Problems:
    """`clock` gives seconds since 1970; `status_of` says which HTTP status an error has. For one event loop."""

    def __init__(
        self, clock: Callable[[], float], status_of: Callable[[FrontdeskError], int], most: int = MOST
    ) -> None:
        self._clock = clock
        self._status_of = status_of
        self._newest: deque[Problem] = deque(maxlen=most)

    def answered(self, asked: Asked, status: int, code: str | None, message: str) -> None:
        """A request was answered with an error. One whose reply failed is there already."""
        if not asked.failed:
            self._newest.append(Problem(self._clock(), asked, status, code, without_words(message)))

    def refused(self, asked: Asked | None, error: FrontdeskError) -> None:
        """Something was refused that is no request: a turn on a WebSocket, or (None) what never became one."""
        self._add(asked, error, None)

    def failed(self, asked: Asked | None, error: FrontdeskError, reply: str) -> None:
        """A reply failed after it had begun."""
        if asked is not None:
            asked.failed += 1
        self._add(asked, error, reply)

    def newest(self, limit: int = MOST) -> list[Problem]:
        """The newest first."""
        return list(reversed(self._newest))[:limit]

    def _add(self, asked: Asked | None, error: FrontdeskError, reply: str | None) -> None:
        status, message = self._status_of(error), without_words(error.message)
        self._newest.append(Problem(self._clock(), asked, status, error.code, message, reply))


def without_words(message: str) -> str:
    """A message of an error without what it quotes. Quotes stay that hold nothing but a name, such as a field's, and
    neither a key nor a long number."""
    return _QUOTED.sub(_without, _FOREIGN.sub(r"\1", message))[:LONGEST]


def _without(quoted: re.Match[str]) -> str:
    said, closed = quoted[2], quoted[3]
    return quoted[0] if closed and _NAME.fullmatch(said) and not _PRIVATE.search(said) else "'…'"
