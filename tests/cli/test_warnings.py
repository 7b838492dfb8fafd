"""What the start says of a model that can be served, but not as somebody might expect. The real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
from tests.conftest import Server, running_server

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
CHAT = "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
RAW = "/v1/completions", {"prompt": "Hi", "max_tokens": 1}


def started(folder: Path, old: bytes, new: bytes) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Of a server of the shipped model with `new` for `old` in its file: warnings, and answers to `CHAT` and `RAW`."""
    data = SHIPPED.read_bytes()
    assert old in data
    assert len(old) == len(new)
    (folder / "changed.gguf").write_bytes(data.replace(old, new, 1))
    with running_server(folder / "log.txt", "--model", str(folder / "changed.gguf"), tune="off") as server:
        answers = [httpx2.post(server.url + path, json=body, timeout=60) for path, body in (CHAT, RAW)]
        lines = server.log.read_text().splitlines()
        assert any(line.startswith("ready ") for line in lines)
    return [line for line in lines if line.startswith("warning ")], [(a.status_code, a.json()) for a in answers]


def test_a_template_that_does_not_compile(tmp_path: Path) -> None:
    """The server would say that it is ready, and nobody find out before the first visitor's error."""
    (warning,), (chat, raw) = started(tmp_path, b"{% for message in", b"{% fro \x1b[31mge in")
    assert "chats are refused" in warning
    assert "/v1/completions" in warning
    assert "does not compile" in warning
    assert "\x1b" not in warning
    assert (chat[0], chat[1]["error"]["code"], raw[0]) == (500, "template_failed", 200)


def test_a_file_without_a_template(tmp_path: Path) -> None:
    """Poor answers of a model that was trained on another form would be a riddle."""
    (warning,), (chat, raw) = started(tmp_path, b"tokenizer.chat_template", b"tokenizer.chat_tempXXXX")
    assert "no chat template" in warning
    assert "ChatML" in warning
    assert (chat[0], raw[0]) == (200, 200)


def test_nothing_is_said_of_a_model_that_is_whole(server: Server) -> None:
    """Warnings that always come are not read."""
    assert "warning " not in server.log.read_text()
