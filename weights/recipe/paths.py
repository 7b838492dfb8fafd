"""Where the recipe keeps what it makes. Everything under `build/` can be made again and is never committed."""

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent.parent
BUILD = WEIGHTS / "build"
TOKENIZER = BUILD / "tokenizer.json"
F16 = BUILD / "model-f16.gguf"
Q8 = BUILD / "model-q8_0.gguf"
SHIPPED = WEIGHTS / "frontdesk-small-q8_0.gguf"
MANIFEST = WEIGHTS / "manifest.toml"
PROMPTS = WEIGHTS.parent / "prompts"


def dataset(kind: str) -> Path:
    return BUILD / f"{kind}.npz"


def checkpoint(name: str) -> Path:
    return BUILD / f"{name}.pt"
