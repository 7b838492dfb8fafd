#!/bin/sh
# Writes the hash-locked requirements files anew from pyproject.toml. Needs uv: `pip install uv`.
# llama-cpp-python stands in a file of its own because it is compiled once for a CPU and kept as a wheel.
set -eu
cd "$(dirname "$0")/.."
lock="uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command requirements/lock.sh"
$lock --no-emit-package llama-cpp-python pyproject.toml -o requirements/runtime.txt
$lock --no-emit-package llama-cpp-python --extra test pyproject.toml -o requirements/test.txt
printf 'llama-cpp-python==0.3.36\n' | $lock --no-deps - -o requirements/llama.txt
printf 'hatchling==1.33.0\neditables\n' | $lock - -o requirements/build.txt
printf 'scikit-build-core[pyproject]\ncmake\nninja\n' | $lock - -o requirements/compile.txt
