#!/usr/bin/env python3
"""Makes `.venv` and installs Frontdesk into it: `python3 requirements/install.py runtime` (or `test`).

Standard library only, since it runs before anything is installed. llama-cpp-python is compiled once for this CPU; its
wheel is kept outside the checkout, so the next checkout needs no compiler time. Every download is held to the hashes
beside this file; where packages come from is pip's own configuration, which is not touched. When nothing changed since
the last run (a stamp in `.venv` says so) it does nothing, in milliseconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
VENV = ROOT / ".venv"
STAMP = VENV / "frontdesk-stamp"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frontdesk"
OLDEST = (3, 11)
CMAKE_ARGS = ("-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF " + os.environ.get("CMAKE_ARGS", "")).strip()
TILES = REQUIREMENTS / "amx.h"  # without it what Debian 12's compiler makes of AMX dies in the first step
HALVES = "-mno-avx512fp16"  # with it flash attention takes heads of fewer than 128 numbers one number at a time
BYTES_PER_COMPILER = 1.5e9  # llama.cpp's largest files need about this much


def main() -> None:
    goal = sys.argv[1] if len(sys.argv) == 2 else ""
    if goal not in ("runtime", "test"):
        stop("usage: python3 requirements/install.py runtime|test", 2)
    restart_with_a_newer_python()
    if is_current(goal):
        return
    with exclusive():
        if is_current(goal):  # another run may just have done it
            return
        make_venv()
        install(goal)
        write_stamp(goal)
    say("ready")


def restart_with_a_newer_python() -> None:
    if sys.version_info >= OLDEST:
        return
    for minor in range(20, OLDEST[1] - 1, -1):
        if found := shutil.which(f"python3.{minor}"):
            os.execv(found, [found, *sys.argv])
    stop(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; {sys.executable} is {platform.python_version()}")


# --- what is there already ---------------------------------------------------------------------------------------


def digest(goal: str) -> str:
    """Changes when anything that decides about the contents of `.venv` does: they hold the checkout's place too."""
    found = hashlib.sha256(f"{sys.version_info[:2]} {ROOT} {wheel_folder()}".encode())
    names = ["install.py", "build.txt", "llama.txt", "runtime.txt", *(["test.txt"] if goal == "test" else [])]
    for file in (ROOT / "pyproject.toml", *(REQUIREMENTS / name for name in names)):
        found.update(file.read_bytes())
    return f"{goal} {found.hexdigest()}"


def is_current(goal: str) -> bool:
    return (VENV / "bin" / "frontdesk").exists() and digest(goal) in stamp_lines()


def stamp_lines() -> list[str]:
    return STAMP.read_text().splitlines() if STAMP.exists() else []


def write_stamp(goal: str) -> None:
    """The test requirements hold everything that serving needs."""
    goals = ("runtime", "test") if goal == "test" else ("runtime",)
    STAMP.write_text("\n".join([f"wheel {wheel_folder()}", *(digest(g) for g in goals)]) + "\n")


# --- the steps ---------------------------------------------------------------------------------------------------


def make_venv() -> None:
    python = VENV / "bin" / "python"
    check = f"import pip, sys; sys.exit(sys.version_info < {OLDEST})"
    if python.exists() and lies_where_it_was_made() and works([str(python), "-c", check]):
        return
    if importlib.util.find_spec("ensurepip") is None:
        install_venv_module()
    say(f"making .venv with Python {platform.python_version()}")
    run([sys.executable, "-m", "venv", "--clear", str(VENV)], "venv")


def lies_where_it_was_made() -> bool:
    """Whether `.venv` was neither moved nor copied: its programs name the place in their first lines, and pip leaves
    those of what is installed already. True where nothing tells the place."""
    configuration = VENV / "pyvenv.cfg"
    text = configuration.read_text("utf-8") if configuration.exists() else ""
    made = re.search(r"^command = .* -m venv (?:.* )?(/.*)$", text, re.MULTILINE)
    return made is None or Path(made[1]).resolve() == VENV.resolve()


def install_venv_module() -> None:
    """Debian ships Python without it."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        stop(f"this Python cannot make virtual environments: install {package} (sudo apt-get install {package})")
    say(f"installing the system package {package}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run(["apt-get", "update"], "apt")
    run(["apt-get", "install", "-y", "--no-install-recommends", package], "apt")


def install(goal: str) -> None:
    wheel = llama_wheel()
    pip_install(VENV, "build")
    pip_install(VENV, goal)
    other_wheel = any(line.startswith("wheel ") and line != f"wheel {wheel.parent}" for line in stamp_lines())
    force = ["--force-reinstall"] if other_wheel else []
    pip(VENV, ["install", "--no-deps", *force, str(wheel)], "installing llama-cpp-python")
    pip(VENV, ["install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)], "installing frontdesk")


def llama_wheel() -> Path:
    """The compiled wheel for this CPU; compiles it when the cache has none."""
    folder = wheel_folder()
    if found := sorted(folder.glob("llama_cpp_python-*.whl")):
        return found[0]
    if not shutil.which(cxx()[0]):
        stop("llama.cpp has to be compiled once, and there is no C++ compiler: install g++ (sudo apt-get install g++)")
    say(f"compiling llama.cpp for this CPU, once: about 8 minutes on two cores. The wheel is kept in {folder}")
    with tempfile.TemporaryDirectory(prefix="frontdesk-") as temporary:
        built = compile_wheel(Path(temporary))
        folder.mkdir(parents=True, exist_ok=True)
        part = shutil.copy(built, folder / f"{built.name}.part")
        return Path(part).rename(folder / built.name)  # whole or not there, even when killed


def compile_wheel(folder: Path) -> Path:
    """Compile in an environment of its own: the tools are large and nothing needs them afterwards."""
    tools = folder / "tools"
    run([sys.executable, "-m", "venv", str(tools)], "venv")
    pip_install(tools, "compile")
    environment = {
        **os.environ,
        "CMAKE_ARGS": CMAKE_ARGS,
        "CXXFLAGS": compiler_flags(),
        "CMAKE_GENERATOR": os.environ.get("CMAKE_GENERATOR", "Ninja"),
        "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(compilers())),
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    # pip's own wheel cache does not know for which CPU a wheel was compiled: --no-cache-dir goes around it.
    options = ["--no-cache-dir", "--no-deps", "--no-build-isolation", "--require-hashes", "-w", str(folder)]
    pip(tools, ["wheel", "-v", *options, "-r", str(REQUIREMENTS / "llama.txt")], "compiling", environment=environment)
    return next(folder.glob("llama_cpp_python-*.whl"))


def compiler_flags() -> str:
    """What CMake reads the C++ compiler's flags from: those of the environment, `TILES` and `HALVES`, where they are
    understood. CMake does not ask for them if `CMAKE_ARGS` sets CMAKE_CXX_FLAGS."""
    wanted = (f"-include {shlex.quote(str(TILES))}", HALVES)
    empty = ("-fsyntax-only", "-x", "c++", os.devnull)
    understood = [flags for flags in wanted if works([*cxx(), *shlex.split(flags), *empty])]
    return " ".join([os.environ.get("CXXFLAGS", ""), *understood]).strip()


def cxx() -> list[str]:
    """The C++ compiler that CMake will take, as a command; "c++" if there is none."""
    given = os.environ.get("CXX", "").split()
    return given or [next(filter(shutil.which, ("c++", "g++", "clang++")), "c++")]


def compilers() -> int:
    """How many compilers may run at once: by cores and by memory."""
    sys.path.insert(0, str(ROOT / "backend"))
    from frontdesk.worker.machine import usable_cores, usable_memory  # standard library only, like this file

    return max(1, min(usable_cores(), int((usable_memory() or 1e12) / BYTES_PER_COMPILER)))


def wheel_folder() -> Path:
    """Where the wheel for this version, CPU, Python and these options is kept."""
    version = re.search(r"llama-cpp-python==(\S+)", (REQUIREMENTS / "llama.txt").read_text())
    assert version
    cpu, options = cpu_flags(), CMAKE_ARGS
    if "amx_tile" in cpu.split():
        options += f" {hashlib.sha256(TILES.read_bytes()).hexdigest()}"
    if "avx512_fp16" in cpu.split():
        options += f" {HALVES}"
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]} {sysconfig.get_platform()} {cpu} {options}"
    return CACHE / "wheels" / f"{version[1]}-{hashlib.sha256(tag.encode()).hexdigest()[:12]}"


def cpu_flags() -> str:
    try:
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return " ".join(sorted(found[1].split())) if found else platform.processor()


# --- running commands --------------------------------------------------------------------------------------------


def pip(venv: Path, arguments: list[str], label: str, environment: dict[str, str] | None = None) -> None:
    command = [str(venv / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    run(command, label, environment=environment)


def pip_install(venv: Path, name: str) -> None:
    """Install exactly what the requirements file `name` lists, by hash."""
    file = REQUIREMENTS / f"{name}.txt"
    packages = len(re.findall(r"^\S+==", file.read_text(), re.MULTILINE))
    command = [str(venv / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
    run([*command, "--require-hashes", "--no-deps", "-r", str(file)], f"installing {name} packages", packages)


def run(command: list[str], label: str, total: int = 0, environment: dict[str, str] | None = None) -> None:
    """Run to the end, showing how far it is; stop with the last lines of its output when it fails."""
    progress = Progress(label)
    log = CACHE / "install.log"
    with (
        log.open("w") as kept,
        subprocess.Popen(command, stdout=-1, stderr=-2, env=environment, text=True, errors="replace") as process,
    ):
        assert process.stdout
        for line in process.stdout:
            kept.write(line)
            progress.read(line, total)
    progress.close()
    if process.returncode:
        tail = "".join(log.read_text().splitlines(keepends=True)[-30:])
        stop(f"{tail}\n{label}: failed (exit code {process.returncode}); all of its output is in {log}")


class Progress:
    """Counts ninja's `[3/200]` lines and pip's lines for each package: a running percentage, or a line every 10 %."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.packages = 0
        self.shown = -1
        self.terminal = sys.stderr.isatty()

    def read(self, line: str, total: int) -> None:
        if step := re.match(r"\s*\[(\d+)/(\d+)\]", line):
            self.show(int(step[1]), int(step[2]))
        elif total and ("(from -r " in line or line.startswith("Ignoring ")):
            self.packages += 1
            self.show(min(self.packages, total), total)

    def show(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if self.terminal and percent != self.shown:
            print(f"\rfrontdesk: {self.label} {percent:3d} %", end="", file=sys.stderr, flush=True)
        elif not self.terminal and percent // 10 != self.shown // 10:
            say(f"{self.label} {percent} %")
        self.shown = percent

    def close(self) -> None:
        if self.terminal and self.shown >= 0:
            print(file=sys.stderr)


def works(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return done.returncode == 0


class exclusive:
    """One installation at a time, also across checkouts: they share the wheel cache."""

    def __enter__(self) -> None:
        try:
            CACHE.mkdir(parents=True, exist_ok=True)
            self.file = (CACHE / "install.lock").open("w")
        except OSError as error:
            stop(f"cannot write to {CACHE} ({error.strerror}): set XDG_CACHE_HOME to a folder that can be written")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another installation is running; waiting for it")
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()


def say(line: str) -> None:
    print(f"frontdesk: {line}", file=sys.stderr, flush=True)


def stop(line: str, code: int = 1) -> NoReturn:
    print(f"frontdesk: {line}" if "\n" not in line else line, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("\nstopped; the same command goes on from here", 130)
