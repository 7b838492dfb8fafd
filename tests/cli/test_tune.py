"""`frontdesk tune` and `frontdesk quantize` as a user meets them: real processes, the shipped model."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from tests.cli.test_start import frontdesk, refused

from frontdesk.cli.tune import tune

if TYPE_CHECKING:
    from tests.conftest import Server

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
SHIPPED = WEIGHTS / "frontdesk-small-q8_0.gguf"


def test_it_is_measured_shown_and_forgotten(tmp_path: Path) -> None:
    """The command's three ways of use: one of them would not work, or the others would not see what it did."""
    home = {"XDG_STATE_HOME": str(tmp_path)}
    refused_code = frontdesk("tune", "--show", folder=tmp_path, **home)
    assert refused_code.returncode == 1
    assert "nothing is remembered of frontdesk-small" in refused_code.stderr
    measured = frontdesk("tune", "--seconds", "3", "--json", folder=tmp_path, **home)
    assert measured.returncode == 0, measured.stderr
    found = json.loads(measured.stdout)
    assert found["threads"] >= 1
    assert json.loads(frontdesk("tune", "--show", "--json", folder=tmp_path, **home).stdout) == found
    table = frontdesk("tune", "--show", folder=tmp_path, **home).stdout
    for word in ("threads", "chunk_busy", "decode 16", "tokens/s"):
        assert word in table
    assert "forgotten" in frontdesk("tune", "--forget", folder=tmp_path, **home).stderr
    assert "nothing is remembered" in frontdesk("tune", "--forget", folder=tmp_path, **home).stderr


def test_a_wrong_model(tmp_path: Path) -> None:
    """Somebody with a typing error would wait for twenty seconds."""
    refused(frontdesk("tune", "--model", "nothing.gguf", folder=tmp_path), "nothing.gguf")
    refused(frontdesk("tune", "--model", "nothing", folder=tmp_path), "nothing", "frontdesk-small")


def test_what_contradicts_itself_is_refused(tmp_path: Path) -> None:
    """A cache that needs flash attention would be opened with it, although it was switched off."""
    variables = {"FRONTDESK_FLASH": "off", "FRONTDESK_KV_TYPE": "q8_0", "XDG_STATE_HOME": str(tmp_path)}
    refused(frontdesk("tune", folder=tmp_path, **variables), "flash", "FRONTDESK_FLASH", "q8_0")


def test_a_hung_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The command would end in a traceback, or as if all were well; here, in this process, as a hang takes minutes."""

    class Hanging:
        async def run(self) -> None:
            raise TimeoutError("the measuring process does not answer")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("frontdesk.server.opening.tuning", lambda *_: Hanging())
    with pytest.raises(typer.Exit) as ended:
        tune(model=str(SHIPPED))
    assert ended.value.exit_code == 1
    assert "small-q8_0 could not be measured: the measuring process does not answer" in capsys.readouterr().err


def test_a_server_uses_what_was_measured(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    """Measuring would change nothing, or `--tune off` could not undo it."""
    model = tmp_path / "tuned-by-hand.gguf"
    shutil.copyfile(SHIPPED, model)
    home = os.environ["XDG_STATE_HOME"]  # of the servers that tests start
    measured = frontdesk("tune", "--model", str(model), "--seconds", "1", folder=tmp_path, XDG_STATE_HOME=home)
    assert measured.returncode == 0, measured.stderr
    (file,) = (Path(home) / "frontdesk" / "tuned").glob("tuned-by-hand-*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "threads": 1, "kv_layout": "streams"}))
    tuned = said(start_server("--model", str(model), "--slots", "5", "--ctx", "512"))
    assert "replies at once on 1 thread" in tuned
    assert "a stream for each slot" in tuned
    off = said(start_server("--model", str(model), "--slots", "5", "--ctx", "512", "--tune", "off"))
    assert "unified" in off


def said(server: Server) -> str:
    """All that a server says when it starts: its last line comes a moment after it is ready."""
    deadline = time.monotonic() + 30
    while "Ctrl-C stops" not in (text := server.log.read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
    return text


def test_quantize(tmp_path: Path) -> None:
    """A newcomer could not make a model smaller, or would not learn which of the files to take."""
    result = frontdesk(
        "quantize", str(SHIPPED), "--to", "q4_0,q5_k_m", "--folder", str(tmp_path), "--requantize", folder=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "fastest" in result.stdout
    names = {"frontdesk-small-q4_0.gguf", "frontdesk-small-q5_k_m.gguf"}
    assert {path.name for path in tmp_path.glob("*.gguf*")} == names
    told = frontdesk(
        "quantize", str(SHIPPED), "--to", "q4_0", "--folder", str(tmp_path), "--requantize", "--overwrite",
        "--no-measure", "--json", folder=tmp_path,
    )  # fmt: skip
    assert json.loads(told.stdout)["q4_0"]["bytes"] == (tmp_path / "frontdesk-small-q4_0.gguf").stat().st_size


def test_quantize_refuses(tmp_path: Path) -> None:
    """A file would be overwritten, or a wrong word would be told as a traceback."""
    refused(frontdesk("quantize", str(SHIPPED), folder=tmp_path), "quantized already", "--requantize")
    refused(frontdesk("quantize", str(SHIPPED), "--to", "q9", folder=tmp_path), "--to", "q9", "q4_k_m")
    refused(frontdesk("quantize", str(SHIPPED), "--to", ",", folder=tmp_path), "--to")
    refused(frontdesk("quantize", "none.gguf", folder=tmp_path), "none.gguf")
    refused(
        frontdesk("quantize", str(SHIPPED), "--to", "q8_0", "--requantize", "--overwrite", folder=tmp_path),
        "the source itself",
    )
    nowhere = str(tmp_path / "nowhere")
    refused(frontdesk("quantize", str(SHIPPED), "--requantize", "--folder", nowhere, folder=tmp_path), "--folder")
