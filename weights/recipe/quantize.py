"""Quantizes the exported F16 file with llama.cpp, and puts the results in place of the shipped models.

python -m recipe.quantize            build/model-q8_0.gguf, build/model-q5_k_m.gguf
python -m recipe.quantize --ship     and weights/frontdesk-small-*.gguf, with hashes and sizes in the manifest
"""

import argparse
import hashlib
import re
import shutil
from pathlib import Path

from frontdesk.fleet.quantizing import FORMATS
from frontdesk.llamacpp import quantize as llamacpp
from recipe import paths


def quantize(source: Path, target: Path, kind: str) -> None:
    if reason := llamacpp.quantize(str(source), str(target), FORMATS[kind], 1, False, lambda _: None):
        raise RuntimeError(f"llama.cpp could not quantize {source.name} as {kind}: {reason}")
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB")


def ship(source: Path, target: Path) -> None:
    """Replaces a shipped file, then the two lines of the manifest that describe it.

    The file is replaced, not written over: a server may have the old one mapped into memory.
    """
    unfinished = target.with_suffix(".tmp")
    shutil.copyfile(source, unfinished)
    unfinished.replace(target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    manifest = paths.MANIFEST.read_text(encoding="utf-8")
    entry = rf'(file = "{re.escape(target.name)}"\nsha256 = )"\w*"(\nsize = )\d+'
    updated, count = re.subn(entry, rf'\g<1>"{digest}"\g<2>{target.stat().st_size}', manifest)
    if count != 1:
        raise RuntimeError(f"{paths.MANIFEST.name} has no entry for {target.name}")
    paths.MANIFEST.write_text(updated, encoding="utf-8")
    print(f"{target.name}: sha256 {digest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(paths.QUANTS), help="as llama.cpp calls them: q8_0 q4_k_m …")
    parser.add_argument("--ship", action="store_true", help="replace the shipped models and update the manifest")
    options = parser.parse_args()
    for kind in options.kinds:
        quantize(paths.F16, paths.quantized(kind), kind)
        if options.ship:
            ship(paths.quantized(kind), paths.shipped(kind))


if __name__ == "__main__":
    main()
