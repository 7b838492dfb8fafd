"""Where a person's lines come from: a terminal with history and editing, or a pipe. Knows nothing of what they mean."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from frontdesk.config import state_folder


def lines_of_terminal() -> Iterator[str]:
    """Ends at Ctrl-D. Ctrl-C throws the line that is being typed away."""
    session: PromptSession[str] = PromptSession(
        "> ", history=_history(), key_bindings=_keys(), prompt_continuation="  "
    )
    while True:
        try:
            yield session.prompt().strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def lines_of_pipe() -> Iterator[str]:
    """Bytes that are no text in the pipe's encoding become U+FFFD: they cost one character, not the talk."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    for line in sys.stdin:
        yield line.strip()


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _history() -> History:
    """Readable by its owner alone; where no file can be written, history lasts as long as the talk."""
    try:
        state_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        file = state_folder() / "history"
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))
