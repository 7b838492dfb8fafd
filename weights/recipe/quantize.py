"""Quantizes the exported F16 file to Q8_0 with llama.cpp, and puts it in place of the shipped model.

python -m recipe.quantize            build/model-q8_0.gguf
python -m recipe.quantize --ship     and weights/frontdesk-small-q8_0.gguf, with its hash and size in the manifest
"""

import argparse
import ctypes
import hashlib
import re
import shutil
from pathlib import Path

import llama_cpp

from recipe import paths


def quantize(source: Path, target: Path) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    params.nthread = 1
    result = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if result != 0:
        raise RuntimeError(f"llama.cpp could not quantize {source.name} (code {result})")
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB")


def ship(source: Path) -> None:
    """Replaces the shipped file, then the two lines of the manifest that describe it."""
    shutil.copyfile(source, paths.SHIPPED)
    digest = hashlib.sha256(paths.SHIPPED.read_bytes()).hexdigest()
    manifest = paths.MANIFEST.read_text(encoding="utf-8")
    entry = rf'(file = "{re.escape(paths.SHIPPED.name)}"\nsha256 = )"\w*"(\nsize = )\d+'
    updated, count = re.subn(entry, rf'\g<1>"{digest}"\g<2>{paths.SHIPPED.stat().st_size}', manifest)
    if count != 1:
        raise RuntimeError(f"{paths.MANIFEST.name} has no entry for {paths.SHIPPED.name}")
    paths.MANIFEST.write_text(updated, encoding="utf-8")
    print(f"{paths.SHIPPED.name}: sha256 {digest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ship", action="store_true", help="replace the shipped model and update the manifest")
    options = parser.parse_args()
    quantize(paths.F16, paths.Q8)
    if options.ship:
        ship(paths.Q8)


if __name__ == "__main__":
    main()
