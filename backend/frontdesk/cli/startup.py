"""The lines that a starting server shows: where it listens, how far loading is, what was opened, how to ask.

On a terminal loading is a bar, elsewhere a line every quarter. The line `listening on URL` always comes first and keeps
its form: programs read the port from it when `--port 0` chose one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from frontdesk import __version__

if TYPE_CHECKING:  # importing it for real would make `--help` wait for the whole server
    from frontdesk.fleet.pool import Backend

QUESTION = "When are you open?"
LONG = 2.0  # seconds of loading after which lines without a terminal say how far it is


class StartUp:
    """What `server/serve` calls while it starts. A context manager, so that a failure never leaves half a bar."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True, markup=False)
        self._bar: Progress | None = None
        self._tuned = False
        self._quarter = 0
        self._url = ""
        self._began = time.monotonic()

    def __enter__(self) -> StartUp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()

    def say(self, line: str) -> None:
        with contextlib.suppress(SystemExit):  # rich's answer to a reader who has left, as in `frontdesk serve | head`
            self._console.print(line)

    def bound(self, url: str) -> None:
        self._url = url
        self.say(f"frontdesk {__version__}")
        self.say(f"listening on {url}")
        if self._console.is_terminal:
            columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task("loading", total=1.0)
            self._bar.start()

    def tuning(self, what: str, progress: float) -> None:
        """The model is being measured, which happens once; `progress` is 0..1."""
        if not self._tuned:
            self._tuned = True
            self.say("tuning    measuring this model on this machine, once, for about 20 s; `--tune off` skips it")
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=progress, description=what)

    def progress(self, progress: float) -> None:
        """`progress` is 0..1."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=progress, description="loading")
        elif int(progress * 4) > self._quarter and time.monotonic() - self._began > LONG:
            self._quarter = int(progress * 4)
            self.say(f"loading   {self._quarter * 25} %")

    def ready(self, backend: Backend) -> None:
        self._end_bar()
        for name, value in described(backend):
            self.say(f"{name:<9} {value}")
        self.say(f"ask       {curl(self._url)}")
        self.say(f"ready     {self._url}/docs lists every route; Ctrl-C stops")

    def _end_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def described(backend: Backend) -> list[tuple[str, str]]:
    """What was really opened, which may be less than what was asked for."""
    ready = backend.engine.ready
    assert ready is not None
    load = backend.engine.load
    form = f"{load.kv_type}, {'unified' if load.unified else 'a stream for each slot'}"
    lines = [
        ("model", f"{backend.card.name} · {ready.description} · loaded in {ready.load_seconds:.1f} s"),
        (
            "context",
            f"{ready.window:,} tokens a conversation, {ready.kv_cells:,} for all (KV cache {form})",
        ),
        ("slots", f"{ready.slots} replies at once on {ready.threads} {'thread' if ready.threads == 1 else 'threads'}"),
        ("tokenizer", f"{backend.tokenizer.kind}, {ready.n_vocab:,} tokens"),
    ]
    return [*lines, *(("warning", text) for text in _warnings(backend))]


def _warnings(backend: Backend) -> Iterator[str]:
    """What somebody might not expect of this model."""
    ready = backend.engine.ready
    if ready and ready.window > ready.n_ctx_train:
        yield f"this model was trained for {ready.n_ctx_train:,} tokens; beyond, answers get worse"
    if backend.template_assumed:
        yield "the file has no chat template; ChatML is assumed, which may not suit this model"
    if backend.cuts_assumed:
        yield (
            "the file does not say how text is cut into tokens (tokenizer.ggml.pre); the usual way may not suit this "
            "model, and make its answers worse: a file that is converted anew says it"
        )
    if "[THINK]" in backend.template_source and "[THINK]" in backend.tokenizer.special:
        yield "this model may think ([THINK]) before it answers; that is shown as a part of the answer, unmarked"
    if fault := _template_fault(backend):
        yield f"chats are refused, only raw completions (/v1/completions) work: {fault}"


def _template_fault(backend: Backend) -> str:
    """Why every chat with this model will fail, in one line; empty when its template can be used."""
    from frontdesk.chat.template import ChatTemplate
    from frontdesk.errors import TemplateFailed

    try:
        ChatTemplate(backend.template_source, backend.tokenizer)
    except TemplateFailed as error:  # it quotes the file, which may hold what a terminal would obey
        return " ".join("".join(c if c.isprintable() else " " for c in error.message).split())
    return ""


def curl(url: str) -> str:
    """A command that asks the server something, to be pasted into a shell."""
    body = json.dumps({"messages": [{"role": "user", "content": QUESTION}], "stream": True})
    return f"curl -N {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
