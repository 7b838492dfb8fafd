"""The wheel serves without a checkout: it is built, unpacked elsewhere and run from there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

if TYPE_CHECKING:
    from tests.conftest import Server

ROOT = Path(__file__).parents[1]
SHARE = "frontdesk/_share"
PAGES = (
    "index.html", "demo.js", "theme.js", "style.css", "widget.js", "widget.mjs", "shop.html", "shop.js", "shop.css",
    "admin.html", "admin.js", "admin.css",
)  # fmt: skip
PROMPTS = ("demo_shop.md", "plain.md", "summary.md")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("frontdesk-*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def needed() -> set[str]:
    """What travels beside the code."""
    manifest = tomllib.loads((ROOT / "weights/manifest.toml").read_text())
    files = {f"{SHARE}/weights/{model['file']}" for model in manifest["models"]}
    files |= {f"{SHARE}/prompts/{name}" for name in PROMPTS}
    files |= {f"{SHARE}/web_demo/dist/{name}" for name in PAGES}
    return files | {f"{SHARE}/weights/manifest.toml", "frontdesk/py.typed"}


def test_everything_that_serving_needs_travels(unpacked: Path) -> None:
    """`pip install frontdesk` would give a server without its model, its prompts or its types."""
    assert not {name for name in needed() if not (unpacked / name).is_file()}


def test_nothing_else_travels(unpacked: Path) -> None:
    """Training data, tests, or a developer's own models and prompts would be published."""
    code = {path.relative_to(ROOT / "backend") for path in (ROOT / "backend/frontdesk").rglob("*.py")}
    found = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    other = {str(path) for path in found - code if not path.parts[0].endswith(".dist-info")}
    assert not other - needed()


def test_the_unpacked_wheel_answers(
    unpacked: Path, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed Frontdesk would look for its files in a checkout that is not there."""
    monkeypatch.setenv("PYTHONPATH", str(unpacked))
    server = start_server()
    files = Path(f"/proc/{server.engine_pid}/maps").read_text()
    assert f"{unpacked}/{SHARE}/weights/" in files
    question = {"messages": [{"role": "user", "content": "When are you open?"}]}
    answer = httpx2.post(server.url + "/v1/chat/completions", json=question, timeout=60).json()
    assert answer["choices"][0]["message"]["content"].strip()
