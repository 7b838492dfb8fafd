"""A Frontdesk server for one GGUF file, for as long as an evaluation asks it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipe import paths

URL = re.compile(r"http://[\d.]+:\d+")


def command() -> str:
    """The installed `frontdesk`: on the PATH, or in the project's own environment."""
    own = paths.WEIGHTS.parent / ".venv" / "bin" / "frontdesk"
    found = shutil.which("frontdesk") or (str(own) if own.exists() else None)
    if found is None:
        sys.exit("no `frontdesk` command: install the product first (README.md, two commands)")
    return found


@contextmanager
def served(file: Path) -> Iterator[str]:
    """The URL of a running server, once it answers."""
    arguments = [command(), "serve", "--model", str(file), "--persona", "none", "--port", "0"]
    arguments += ["--database", "memory", "--log-level", "error"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout
            printed = ""
            for line in process.stdout:
                printed += line
                if line.startswith("ready"):
                    break
            match = URL.search(printed)
            if match is None:
                sys.exit(f"the server did not start:\n{printed}")
            yield match[0]
        finally:
            process.terminate()
