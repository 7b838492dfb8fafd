"""What the start says of a model that can be served, but not as somebody might expect. The real command."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from tests.conftest import Server, running_server
from tests.fleet.conftest import write_gguf

from frontdesk.cli.startup import described
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.pool import Backend
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tokenizer import open_tokenizer

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


def test_a_template_that_leaves_out_what_is_said(tmp_path: Path) -> None:
    """Every answer would be to nothing, and nobody know why."""
    (warning,), (chat, raw) = started(tmp_path, b"{{ message['content'] }}", b"{{ message['cOntent'] }}")
    assert "chats are refused" in warning
    assert "leaves out what the user says" in warning
    assert (chat[0], chat[1]["error"]["code"], raw[0]) == (500, "template_failed", 200)


def test_a_file_that_does_not_say_how_text_is_cut(tmp_path: Path) -> None:
    """Poor answers of a model that was trained on other tokens would be a riddle; llama.cpp says so, but to nobody."""
    (warning,), (chat, raw) = started(tmp_path, b"tokenizer.ggml.pre", b"tokenizer.ggml.prX")
    assert "tokenizer.ggml.pre" in warning
    assert (chat[0], raw[0]) == (200, 200)


@pytest.mark.parametrize(("template", "warned"), [("[THINK]", True), ("", False)])
def test_a_model_that_thinks_where_it_cannot_be_told_apart(tmp_path: Path, template: str, warned: bool) -> None:
    """Visitors would read Magistral's reasoning as its answer, and the operator not know that others do not."""
    metadata: dict[str, Any] = read_metadata(SHIPPED)
    metadata["tokenizer.ggml.tokens"] += ["[THINK]", "[/THINK]"]
    metadata["tokenizer.ggml.token_type"] += [3, 3]
    file = write_gguf(tmp_path / "vocab.gguf", metadata)
    ready: Any = SimpleNamespace(
        description="", load_seconds=0.0, window=1, kv_cells=1, slots=1, threads=1, n_vocab=1, n_ctx_train=1
    )
    engine: Any = SimpleNamespace(ready=ready, load=SimpleNamespace(kv_type="f16", unified=True))
    source = f"{{{{ messages[0].content }}}}{template}"
    lines = described(Backend(card_for_file(file), open_tokenizer(file), source, engine))
    assert any(name == "warning" and "[THINK]" in text for name, text in lines) == warned


def test_nothing_is_said_of_a_model_that_is_whole(server: Server) -> None:
    """Warnings that always come are not read."""
    assert "warning " not in server.log.read_text()
