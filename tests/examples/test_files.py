"""What can be said of the examples without running them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
PACKAGES = sorted(EXAMPLES.glob("*/package.json"))
PAGES = sorted([*EXAMPLES.glob("*.md"), *EXAMPLES.glob("*/*.md")])


@pytest.mark.parametrize("file", PACKAGES, ids=lambda file: file.parent.name)
def test_packages_are_pinned_and_locked_without_addresses(file: Path) -> None:
    """A reader would install other packages than the tested ones, or from the registry of whoever locked them."""
    package = json.loads(file.read_text())
    lock = json.loads(file.with_name("package-lock.json").read_text())
    entries = {name: entry for name, entry in lock["packages"].items() if name}
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["dependencies"].values())
    assert not [name for name, entry in entries.items() if "resolved" in entry]
    assert all("integrity" in entry for entry in entries.values())


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("*/")), ids=lambda folder: folder.name)
def test_every_example_says_how_it_is_run(folder: Path) -> None:
    """A reader would have to guess, or would not find the example at all."""
    assert "```sh" in (folder / "README.md").read_text("utf-8")
    assert f"({folder.name}/README.md)" in (EXAMPLES / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(EXAMPLES)))
def test_links_lead_somewhere(page: Path) -> None:
    """A reader of the page would meet a dead link."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target
