"""The first start with a model that is large enough to be worth measuring, on random weights."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
from make_model import Shape, write_model

from frontdesk.config import SMALL

if TYPE_CHECKING:
    from tests.conftest import Server

SHAPE = Shape(4, 1024, 8, 2, 2048, 2048, 20_480, 20_470)


def answers(server: Server) -> bool:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    reply = httpx2.post(server.url + "/v1/chat/completions", json=body, timeout=60)
    return reply.status_code == 200 and reply.json()["usage"]["completion_tokens"] > 0


def test_it_is_measured_once(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    """A model of a user's own would run with settings of another machine, or be measured at every start."""
    model = tmp_path / "own.gguf"
    write_model(model, SHAPE, "q8_0")
    assert model.stat().st_size > SMALL
    first = start_server("--model", str(model))
    assert "measuring this model" in first.log.read_text()
    assert answers(first)
    first.stop()
    second = start_server("--model", str(model))
    assert "measuring this model" not in second.log.read_text()
    assert answers(second)
