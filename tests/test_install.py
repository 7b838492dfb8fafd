"""The installer on checkouts that are moved, copied and changed: real environments, but nothing is downloaded."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As much of one as the installer reads; the compiled wheel is in the cache already."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["install.py", "runtime"])
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "requirements", folder / "requirements", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    wheels = installer(folder).wheel_folder()
    wheels.mkdir(parents=True)
    (wheels / "llama_cpp_python-0-py3-none-any.whl").touch()
    return folder


def installer(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", folder / "requirements/install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install(folder: Path) -> list[str]:
    """What `install.py runtime` does there, by the labels of its commands."""
    labels: list[str] = []

    def run(command: list[str], label: str, *_: object, **__: object) -> None:
        labels.append(label)
        if label == "venv":
            subprocess.run([*command[:-1], "--without-pip", command[-1]], check=True)
            next(Path(command[-1]).glob("lib/python*/site-packages")).joinpath("pip.py").touch()
        elif label == "installing frontdesk":
            (folder / ".venv/bin/frontdesk").touch()

    module = installer(folder)
    vars(module)["run"] = run
    module.main()
    return labels


@pytest.mark.parametrize("displace", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_a_checkout_elsewhere_gets_an_environment_of_its_own(checkout: Path, displace, tmp_path: Path) -> None:
    """`make serve` would fail for ever, since the first lines of the programs name a Python that is not there; or it
    would serve the other checkout's code. Or llama.cpp would be compiled again."""
    first = install(checkout)
    assert first[0] == "venv"
    elsewhere = tmp_path / "elsewhere"
    displace(checkout, elsewhere)
    assert install(elsewhere) == first
    assert f"{elsewhere}/.venv" in (elsewhere / ".venv/bin/activate").read_text()
    assert install(elsewhere) == []


def test_a_right_environment_is_kept(checkout: Path, tmp_path: Path) -> None:
    """Every start, or every new version, would make `.venv` anew and download all packages again; also one that
    another program made, or that is a link to another checkout's."""
    first = install(checkout)
    assert install(checkout) == []
    shutil.move(checkout, tmp_path / "away")
    shutil.move(tmp_path / "away", checkout)
    assert install(checkout) == []
    requirements = checkout / "requirements/runtime.txt"
    requirements.write_text(requirements.read_text() + "# changed\n")
    assert install(checkout) == first[1:]
    second = tmp_path / "second"
    shutil.copytree(checkout, second, ignore=shutil.ignore_patterns(".venv"))
    (second / ".venv").symlink_to(checkout / ".venv")
    assert install(second) == first[1:]
    configuration = checkout / ".venv/pyvenv.cfg"
    lines = configuration.read_text().splitlines(keepends=True)
    configuration.write_text("".join(line for line in lines if not line.startswith("command")))
    assert install(checkout) == first[1:]


def for_a_xeon(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The C++ compiler as llama.cpp is compiled with it on a processor that has AMX and adds 16-bit floats."""
    module = installer(checkout)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("CXXFLAGS", "-O3 -march=sapphirerapids")
    if not module.works([*module.cxx(), "-march=sapphirerapids", "-fsyntax-only", "-x", "c++", "/dev/null"]):
        pytest.skip("!! NOT TESTED: this compiler makes no code for such a processor")
    return [*module.cxx(), *shlex.split(module.compiler_flags())]


@pytest.mark.parametrize(
    "reads", ["_tile_loadconfig(&memory)", "_tile_loadd(0, memory, 64)"], ids=["configuration", "tile"]
)
def test_what_amx_reads_is_written(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reads: str
) -> None:
    """On a processor that has AMX every reply would end with a dead engine, or be wrong without a word, where the
    compiler (Debian 12's, say) believes that nobody reads what it was to write."""
    command = [*for_a_xeon(checkout, monkeypatch), "-x", "c++", "-S", "-o", "-"]

    def code(byte: int) -> str:
        source = tmp_path / "tiles.cpp"
        source.write_text(
            "#include <immintrin.h>\nvoid act() { alignas(64) unsigned char memory[1024] = {1};\n"
            f"for (int i = 48; i < 56; i++) memory[i] = {byte}; {reads}; }}\n"
        )
        return subprocess.run([*command, str(source)], capture_output=True, text=True, check=True).stdout

    assert code(0x33) != code(0x5A), "the bytes that the instruction reads are nowhere in the code"


def test_halves_are_not_computed_as_such(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor that adds 16-bit floats, llama.cpp's flash attention takes 128 numbers at once and what is less
    one by one: heads of 64, as most small models have, took five times as long."""
    command = [*for_a_xeon(checkout, monkeypatch), "-dM", "-E", "-x", "c++", "/dev/null"]
    defined = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "__AVX512BF16__" in defined
    assert "__AVX512FP16__" not in defined


def test_a_compiler_that_does_not_understand_is_asked_for_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A compiler of another make would end with an error where it could make a slower program."""
    module = installer(checkout)
    other = tmp_path / "other-c++"
    other.write_text('#!/bin/sh\nfor flag; do case $flag in -include | -mno-*) exit 1;; esac; done\nexec c++ "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("CXX", str(other))
    monkeypatch.setenv("CXXFLAGS", "-O2")
    assert module.compiler_flags() == "-O2"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert module.compiler_flags() == "-O2"


def test_a_compiler_by_another_name_makes_amx_right(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is g++ and no c++, CMake would find it and the header would be left out, for good: the wheel is kept
    as one that has it."""
    module = installer(checkout)
    (tmp_path / "g++").symlink_to(shutil.which("c++") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "")
    monkeypatch.delenv("CXXFLAGS", raising=False)
    assert module.cxx() == ["g++"]
    assert "amx.h" in module.compiler_flags()
