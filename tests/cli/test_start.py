"""What the command says and how it ends when it is asked for help or for the impossible. Real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from frontdesk import __version__
from frontdesk.cli.conversation import websocket_address

BROKEN = """
from frontdesk.cli.main import main
from frontdesk.server import app

async def open_store(place, **_):
    raise PermissionError(13, "Permission denied")

app.open_store = open_store
main()
"""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FRONTDESK_")}


def frontdesk(
    *arguments: str, folder: Path, program: Sequence[str] = ("-m", "frontdesk"), **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, *arguments]
    environment = {**ENVIRONMENT, "COLUMNS": "100", **variables}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=150
    )


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on stderr that holds these words, and exit code 2."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("frontdesk: ")
    assert not [word for word in words if word not in lines[0]], lines[0]


def test_help_is_enough_to_begin(tmp_path: Path) -> None:
    """A newcomer would not find out how to serve, talk, or use another model."""
    result = frontdesk("--help", folder=tmp_path)
    assert result.returncode == 0
    for word in ("frontdesk serve", "frontdesk chat", "--model my.gguf", "http://127.0.0.1:8000/v1", "frontdesk.toml"):
        assert word in result.stdout


def test_only_a_talk_loads_what_reads_a_terminal(tmp_path: Path) -> None:
    """Every start would take a sixth of a second more."""
    said = "import sys, frontdesk.cli.main; print('prompt_toolkit' in sys.modules)"
    assert frontdesk(folder=tmp_path, program=("-c", said)).stdout == "False\n"


@pytest.mark.parametrize("command", ["serve", "chat"])
def test_help_of_a_command_lists_its_flags(tmp_path: Path, command: str) -> None:
    """A flag would exist that nobody can find."""
    result = frontdesk(command, "--help", folder=tmp_path)
    assert result.returncode == 0
    for flag in ("--model", "--ctx", "--threads", "--config"):
        assert flag in result.stdout


def test_version(tmp_path: Path) -> None:
    """A bug report could not say which version it is about."""
    assert frontdesk("--version", folder=tmp_path).stdout == f"frontdesk {__version__}\n"


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    """The bare command would seem to hang or to fail without a word."""
    result = frontdesk(folder=tmp_path)
    assert "frontdesk serve" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "70000"], ["port = '70000'", "--port", "65535"]),
        (["--slots", "many"], ["slots = 'many'", "--slots", "integer"]),
        (["--kv-type", "q2"], ["kv_type = 'q2'", "'q8_0'"]),
        (["--ctx", "1"], ["ctx = '1'", "64"]),
        (["--config", "gone.toml"], ["gone.toml", "No such file"]),
        (["--model", "gpt-5"], ["'gpt-5'", "frontdesk-small"]),
        (["--model", "./gone.gguf"], ["gone.gguf"]),
        (["--persona", "nobody"], ["nobody", "demo_shop"]),
        (["--host", "no.such.host.invalid"], ["no.such.host.invalid"]),
    ],
)
def test_a_wrong_flag_is_one_line_and_code_2(tmp_path: Path, flags: list[str], words: list[str]) -> None:
    """A mistake would give a stack trace, or a server with other settings than asked for."""
    refused(frontdesk("serve", *flags, folder=tmp_path), *words)


def test_a_wrong_variable_names_itself(tmp_path: Path) -> None:
    """Whoever runs a container would not know which of its variables is wrong."""
    refused(frontdesk("serve", folder=tmp_path, FRONTDESK_CHUNK="0"), "chunk = '0'", "FRONTDESK_CHUNK", "16")


def test_a_wrong_file_names_itself(tmp_path: Path) -> None:
    """A misspelt key in frontdesk.toml would be ignored."""
    (tmp_path / "frontdesk.toml").write_text("prot = 80\n")
    refused(frontdesk("serve", folder=tmp_path), "'prot'", "frontdesk.toml")


def test_a_misspelt_variable_is_mentioned(tmp_path: Path) -> None:
    """FRONTDESK_PROT=80 would be ignored in silence."""
    result = frontdesk("serve", "--port", "-1", folder=tmp_path, FRONTDESK_PROT="80")
    assert "FRONTDESK_PROT" in result.stderr


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF" + b"\xff" * 60, b"GGUF\x03\0\0\0" + b"\0" * 16])
def test_a_file_that_is_no_model_is_one_line(tmp_path: Path, content: bytes) -> None:
    """A truncated download would take the server down with a crash of native code."""
    (tmp_path / "broken.gguf").write_bytes(content)
    refused(frontdesk("serve", "--port", "0", "--model", "broken.gguf", folder=tmp_path), "broken.gguf")


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    """A second server would load its whole model before it fails, or fail without naming the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused(frontdesk("serve", "--port", port, folder=tmp_path), port, "in use", "--port")


def test_chat_without_a_server_says_so(tmp_path: Path) -> None:
    """`--url` with a wrong port would hang or show a stack trace."""
    result = frontdesk("chat", "--url", "http://127.0.0.1:9", "-m", "hi", folder=tmp_path)
    assert result.returncode == 1
    assert "no server answers at ws://127.0.0.1:9/v1/responses" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://a..b", "http://", "ftp://x"]
)
def test_chat_with_an_address_that_is_none_is_one_line_and_code_2(tmp_path: Path, url: str) -> None:
    """A typing mistake in `--url` would be a stack trace, or told as a server that is down."""
    refused(frontdesk("chat", "--url", url, "-m", "hi", folder=tmp_path), "--url", repr(url))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost:8000", "ws://localhost:8000/v1/responses"),
        ("http://[::1]:8000/v1/", "ws://[::1]:8000/v1/responses"),
        ("https://x.example./shop", "wss://x.example./shop/v1/responses"),
        ("http://me:secret@bücher.example", "ws://me:secret@bücher.example/v1/responses"),
        ("ws://x/v1/responses", "ws://x/v1/responses"),
    ],
)
def test_chat_takes_every_form_of_an_address(url: str, address: str) -> None:
    """A server that runs could not be talked to."""
    assert websocket_address(url) == address


def test_chat_ends_when_its_own_server_breaks_at_its_start(tmp_path: Path) -> None:
    """It would wait for ever for a server that is dead, at whatever nobody has foreseen."""
    result = frontdesk("chat", "-m", "hi", folder=tmp_path, program=("-c", BROKEN))
    assert (result.returncode, result.stdout) == (2, "")
    assert "PermissionError" in result.stderr  # what went wrong
    assert "frontdesk: the server ended before it was ready" in result.stderr
