"""The written pages say what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from frontdesk import __version__
from frontdesk.config import Settings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "backend" / "frontdesk"
LAYERS = sorted(file.parent.name for file in PACKAGE.glob("*/__init__.py"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["settings.md", "cli.md"])
def test_generated_pages_are_current(generator: ModuleType, page: str) -> None:
    """A setting or flag was changed and the page that describes it was not: run `python docs/generate.py`."""
    assert (ROOT / "docs" / page).read_text("utf-8") == generator.PAGES[page]()


def test_every_setting_is_documented() -> None:
    """A setting exists that nobody can find."""
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/settings.md").read_text("utf-8"), re.MULTILINE)
    assert headings == list(Settings.model_fields)


def test_every_command_is_documented(generator: ModuleType) -> None:
    """A command exists that nobody can find."""
    page = (ROOT / "docs/cli.md").read_text("utf-8")
    for command in generator._commands():
        assert f"## frontdesk {command}\n" in page


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A reader of the page would meet a dead link."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_files_that_pages_name_exist(page: str) -> None:
    """The page would send a reader to a file that was moved, or to a class or function that has another name now."""
    text = (ROOT / page).read_text("utf-8")
    files = re.findall(r"`((?:backend|prompts|weights|docs|tests|requirements|\.ci)/[\w./-]*)`", text)
    for name in files:
        assert (ROOT / name).exists(), name
    modules = re.findall(rf"`((?:{'|'.join(LAYERS)})/\w+)(?:\.(?!py`)(\w+))?`", text)
    for name, member in modules:
        file = (PACKAGE / name).with_suffix(".py")
        assert file.exists() or (PACKAGE / name).is_dir(), name
        assert not member or re.search(rf"^(?:class |def )?{member}\b", file.read_text("utf-8"), re.MULTILINE), member
    assert files or modules


def test_the_changelog_knows_this_version() -> None:
    """A release would go out without a word on what changed."""
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
