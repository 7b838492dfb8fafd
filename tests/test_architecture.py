"""The cuts of the house, held by tests: who may import whom, who may read the environment, how long a file may be."""

from __future__ import annotations

import ast
from itertools import permutations
from pathlib import Path

import grimp
import pytest
from importlinter import cli as import_linter

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "backend" / "frontdesk"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 450
EXCUSE = f"Over {MOST_LINES} lines because"  # with its reason, in the docstring at the head of the file


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("frontdesk", include_external_packages=True, cache_dir=None)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_imports_run_one_way() -> None:
    """A lower layer would know an upper one (the contracts stand in pyproject.toml), or a new package has no layer."""
    assert import_linter.lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == import_linter.EXIT_STATUS_SUCCESS


def test_wire_formats_know_nothing_of_each_other(graph: grimp.ImportGraph) -> None:
    """One format would be translated through another, and changing one would break both."""
    formats = {name for name in graph.find_children("frontdesk.wire") if not name.rpartition(".")[2].startswith("_")}
    assert len(formats) > 2
    for importer, imported in permutations(sorted(formats), 2):
        assert not graph.chain_exists(importer, imported), graph.find_shortest_chain(importer, imported)


@pytest.mark.parametrize("leaf", ["frontdesk.engine.request", "frontdesk.errors"])
def test_leaves_import_nothing_of_ours(graph: grimp.ImportGraph, leaf: str) -> None:
    """The words that every layer may use would bring a layer along."""
    assert not {name for name in graph.find_modules_directly_imported_by(leaf) if name.startswith("frontdesk")}


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("llama_cpp", "frontdesk.llamacpp"),
        ("sse_starlette", "frontdesk.server"),
        ("starlette", "frontdesk.server"),
        ("uvicorn", "frontdesk.server"),
        ("typer", "frontdesk.cli"),
        ("rich", "frontdesk.cli"),
        ("pydantic_settings", "frontdesk.config"),
        ("sqlalchemy", "frontdesk.store"),
        ("alembic", "frontdesk.store"),
        ("jwt", "frontdesk.access"),
    ],
)
def test_a_library_is_known_in_one_place(graph: grimp.ImportGraph, library: str, where: str) -> None:
    """Replacing a library would touch the whole house; llama_cpp would be loaded where a crash is not survived."""
    importers = graph.find_modules_that_directly_import(library)
    assert importers
    assert not {name for name in importers if name != where and not name.startswith(where + ".")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_config_reads_the_environment(path: Path) -> None:
    """A setting would exist that no page lists and no file can set."""
    if path == PACKAGE / "config.py":
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("environ", "environb", "getenv", "getenvb"), f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {alias.name for alias in node.names} & {"environ", "environb", "getenv", "getenvb"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    """A reader would have to guess what a file is for."""
    assert (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").strip()


@pytest.mark.parametrize("path", MODULES + sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_no_file_grows_without_a_reason(path: Path) -> None:
    """A file with two reasons to change would stay one file."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES or EXCUSE in (ast.get_docstring(ast.parse(text)) or "")


def test_every_test_says_what_breaks() -> None:
    """A failing test would not tell what a user loses."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent
