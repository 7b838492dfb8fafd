"""Log lines on stderr: for people (console) or for machines (one JSON object a line).

Everything goes through structlog, also what uvicorn and other libraries say through `logging`. The rule for callers:
ids, counts, times and codes only, never text of a prompt, an answer, a header or a query. Knows no request.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

# What these say at info level is said better elsewhere, or holds URL queries (uvicorn's WebSocket lines).
QUIET = (
    "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio", "websockets", "sse_starlette", "httptools", "alembic",
)  # fmt: skip

_llama = structlog.stdlib.get_logger("llama.cpp")


def set_up(level: Level = "info", format: Format = "auto") -> None:
    """Send every log line of this process to stderr. May be called again; the last call counts."""
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def llama_line(text: str) -> None:
    """One line of llama.cpp's own log; seen at debug level only."""
    if line := text.rstrip():
        _llama.debug("llama.cpp", line=line)


def where(error: BaseException) -> str:
    """Type and stack of an exception without its message, which may quote what a user sent."""
    frames = "".join(traceback.format_tb(error.__traceback__)[-12:])
    return f"{frames}{type(error).__module__}.{type(error).__qualname__}"


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(as_json: bool) -> logging.Formatter:
    tail: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        tail += [_without_message_of_exception, structlog.processors.JSONRenderer()]
    else:
        tail += [_without_message_of_exception, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_shared(), processors=tail)


def _without_message_of_exception(logger: object, name: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by `where`, for libraries that log exceptions themselves."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else None
    if error is not None:
        event["stack"] = where(error)
    return event
