#!/usr/bin/env bash
# Builds what Frontdesk is compared with: bench/build_peers.sh
#
# llama-server and llama-batched-bench from the llama.cpp source inside the very llama-cpp-python sdist that Frontdesk's
# own wheel is compiled from (requirements/llama.txt names it by hash), with the options of that wheel; and an
# environment with llama-cpp-python's two servers, which gets Frontdesk's own wheel, so that all compute with the same
# kernels, and the library for pictures, without which its example server does not start. It is kept in ${XDG_CACHE_HOME:-~/.cache}/frontdesk/peers/, never in the checkout, and made only once: about
# 10 minutes on two cores. The last line printed is that folder.
set -euo pipefail
cd -P "$(dirname "$0")/.."
say() { printf 'build_peers: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

command -v c++ >/dev/null || command -v g++ >/dev/null || die "no C++ compiler: sudo apt-get install g++"
version=$(sed -n 's/^llama-cpp-python==\([0-9.]*\).*/\1/p' requirements/llama.txt)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/frontdesk
options=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF)
cpu=$(sed -n 's/^flags[^:]*: //p' /proc/cpuinfo | head -1 | tr ' ' '\n' | sort | tr '\n' ' ')
CXXFLAGS=$(PYTHONPATH=requirements python3 -c 'import install; print(install.compiler_flags())')
export CXXFLAGS
home=$cache/peers/$version-$(printf '%s' "$cpu ${options[*]} ${CXXFLAGS//"$PWD"/} $(cat requirements/amx.h)" | sha256sum | cut -c1-12)
mkdir -p "$home"
exec 9>"$home/lock"
flock 9 # a second run waits for the first

tools=$home/tools
if [ ! -e "$tools/done" ]; then
    say "installing the build tools"
    python3 -m venv --clear "$tools"
    "$tools/bin/pip" install -q --require-hashes --no-deps -r requirements/compile.txt
    touch "$tools/done"
fi
export PATH=$tools/bin:$PATH

if [ ! -e "$home/src/done" ]; then
    say "fetching the source of llama-cpp-python $version"
    rm -rf "$home/sdist" "$home/src" && mkdir -p "$home/sdist" "$home/src"
    "$tools/bin/pip" download -q --no-deps --no-binary :all: --no-build-isolation --require-hashes \
        -r requirements/llama.txt -d "$home/sdist"
    tar -xzf "$home"/sdist/*.tar.gz -C "$home/src" --strip-components 1
    touch "$home/src/done"
fi

if [ ! -e "$home/build/done" ]; then
    jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
    say "compiling llama-server and llama-batched-bench with $jobs compilers"
    rm -rf "$home/build" # what was left undone may name another checkout's header
    cmake -S "$home/src/vendor/llama.cpp" -B "$home/build" -G Ninja "${options[@]}" >"$home/cmake.log" 2>&1 ||
        { tail -20 "$home/cmake.log" >&2; die "cmake failed; all of its output is in $home/cmake.log"; }
    ninja -C "$home/build" -j "$jobs" llama-server llama-batched-bench >&2
    touch "$home/build/done"
fi

if [ ! -e "$home/venv/done" ]; then
    say "installing llama-cpp-python's servers"
    wheel=$(PYTHONPATH=requirements python3 -c 'import install
with install.exclusive(): print(install.llama_wheel())')
    python3 -m venv --clear "$home/venv"
    # The second list stands at the head of examples/server/server.py.
    "$home/venv/bin/pip" install -q "$wheel[server]" fastapi jinja2 numpy openai pydantic safetensors uvicorn websockets
    library=$("$home/venv/bin/python" -c 'import llama_cpp, pathlib; print(pathlib.Path(llama_cpp.__file__).parent / "lib")')
    c++ -shared -o "$library/libmtmd.so" -Wl,--no-undefined \
        -Wl,--whole-archive "$home/build/tools/mtmd/libmtmd.a" -Wl,--no-whole-archive "$home/build/vendor/hash/libvendor-hash.a" \
        -L"$library" -lllama -lggml -lggml-base -lpthread -lm '-Wl,-rpath,$ORIGIN'
    touch "$home/venv/done"
fi
printf '%s\n' "$home"
