"""`frontdesk chat`: talk to a model in the terminal, or in a pipe with one line a turn.

Answers go to stdout, everything else to stderr, so `frontdesk chat < questions > answers` writes the answers alone.
Knows the terminal; the turns and their connection are `cli/conversation`.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Annotated, Any

import typer

from frontdesk.cli import options
from frontdesk.cli.conversation import Conversation, ReplyFailed, ServerUnreachable, Stats
from frontdesk.cli.own_server import own_server
from frontdesk.cli.serve import load_settings
from frontdesk.errors import ConfigError

HELP = """\
/clear         forget the conversation
/system TEXT   give the model other instructions; without TEXT, its own again
/help          this list
/quit          leave (Ctrl-D too)
Ctrl-C stops an answer, twice leaves; Alt-Enter begins a new line"""

Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="A running server. Unset: start one for this talk.")
]
Text = Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="Ask this, print the answer, leave.")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="API key of the server at --url.")]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="Instructions instead of the persona's.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", metavar="N", min=1, help="Longest answer.")]
Temperature = Annotated[
    float | None, typer.Option("--temperature", metavar="X", min=0, max=2, help="0 = always the likeliest word.")
]


def chat(
    message: Text = None,
    url: Url = None,
    key: Key = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    model: options.Model = None,
    ctx: options.Ctx = None,
    threads: options.Threads = None,
    persona: options.Persona = None,
    config: options.ConfigFile = None,
) -> None:
    """Talk to a model. Ctrl-C stops an answer, Ctrl-D or /quit leaves, /help lists the rest.

    Without --url a server of its own is started, with the settings that `frontdesk serve` would take, and stopped at
    the end.
    """
    wanted = {"model": model if url else None, "max_output_tokens": max_tokens, "temperature": temperature}
    request = {name: value for name, value in wanted.items() if value is not None}
    arguments = {"model": model, "ctx": ctx, "threads": threads, "persona": persona}
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    with contextlib.ExitStack() as stack:
        address = url or stack.enter_context(own_server(load_settings(config, arguments)))
        try:
            talk = Talk(address, request, instructions=system, key=key, keep=message is None)
        except ConfigError as error:
            options.fail(error.message)
        stack.callback(talk.conversation.close)
        code = talk.once(message) if message is not None else talk.loop()
    raise typer.Exit(code)


class Talk:
    """Turns of one person. Every method that returns an int returns an exit code. Raises `ConfigError` for a wrong
    `url`."""

    def __init__(
        self, url: str, request: dict[str, Any], instructions: str | None, *, key: str | None, keep: bool
    ) -> None:
        self.conversation = Conversation(url, request, self._trouble, key=key, keep=keep)
        self.conversation.instructions = instructions
        self._mid_line = False  # half an answer stands on stdout

    def once(self, text: str) -> int:
        return self._turn(text)

    def loop(self) -> int:
        """Read and answer until the input ends. In a pipe, the exit code tells whether every turn was answered."""
        from frontdesk.cli.typing_line import lines_of_pipe, lines_of_terminal  # `serve` starts sooner without

        terminal = sys.stdin.isatty()
        if terminal:
            _note("Ask something. /help lists the commands; Ctrl-D leaves.")
        worst = 0
        for text in lines_of_terminal() if terminal else lines_of_pipe():
            if text in ("/quit", "/exit"):
                break
            if text.startswith("/"):
                self._command(text)
            elif text:
                worst = max(worst, self._turn(text))
        return 0 if terminal else worst

    def _command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        if name == "/clear":
            self._clear()
        elif name == "/system":
            self.conversation.instructions = rest.strip() or None
            _note("instructions set" if rest.strip() else "the persona's own instructions again")
        else:
            _note(HELP if name == "/help" else f"{name} is no command\n{HELP}")

    def _clear(self) -> None:
        try:
            self.conversation.clear()
        except (ReplyFailed, ServerUnreachable) as error:
            options.notes.print(f"forgotten here, but not at the server: {error.message}", style="red", markup=False)
        else:
            _note("forgotten")

    def _turn(self, text: str) -> int:
        try:
            with interruptible() as interrupted:
                for piece in self.conversation.ask(text, interrupted):
                    self._mid_line = True
                    print(printable(piece), end="", flush=True)
        except ReplyFailed as error:
            options.notes.print(error.message, style="red", markup=False)
            return 1
        except ServerUnreachable as error:
            options.fail(error.message, 1)
        finally:
            self._end_line()
        stats = self.conversation.stats
        if stats:
            _note(summary(stats))
            if stats.context:
                _note(meter(stats.context))
        return 130 if stats and stats.status == "cancelled" else 0

    def _trouble(self, line: str) -> None:
        self._end_line()
        _note(line)

    def _end_line(self) -> None:
        if self._mid_line:
            print(flush=True)
        self._mid_line = False


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C inside raises nothing: the function that this yields then returns True."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def printable(text: str) -> str:
    """Without control characters: what a model says must not move the cursor or retitle the terminal."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))


def summary(stats: Stats) -> str:
    cached = f" ({stats.cached_tokens} cached)" if stats.cached_tokens else ""
    ending = {"completed": "", "cancelled": " · stopped", "incomplete": " · cut at the token limit"}.get(
        stats.status, ""
    )
    return (
        f"{stats.prompt_tokens}{cached} + {stats.tokens} tokens · first after {stats.first_after:.2f} s · "
        f"{stats.tokens_per_second:.0f} tokens/s{ending}"
    )


def meter(context: Mapping[str, Any]) -> str:
    """What the model was shown of the conversation, in tokens, and how many messages it was not shown."""
    parts = [f"{kind} {tokens}" for kind, tokens in (context.get("parts") or {}).items() if tokens]
    counts = {name: len(context.get(name) or ()) for name in ("dropped", "summarised")}
    left = [f"{name} {number} message{'s' * (number > 1)}" for name, number in counts.items() if number]
    cut = [f"cut {context['cut']} out of the middle"] if context.get("cut") else []
    whole = f"context {context.get('prompt_tokens', 0)} of {context.get('window', 0)}"
    return " · ".join([whole, *parts, *left, *cut])


def _note(line: str) -> None:
    options.notes.print(line, style="dim", markup=False)


def _leave(number: int, frame: FrameType | None) -> Any:
    sys.exit(128 + number)
