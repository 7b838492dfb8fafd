"""Where the recipe keeps what it makes. Everything under `build/` can be made again and is never committed."""

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent.parent
BUILD = WEIGHTS / "build"
TOKENIZER = BUILD / "tokenizer.json"
F16 = BUILD / "model-f16.gguf"
MANIFEST = WEIGHTS / "manifest.toml"
PROMPTS = WEIGHTS.parent / "prompts"
QUANTS = ("q8_0", "q5_k_m")  # what ships: the default, and a smaller one


def quantized(kind: str) -> Path:
    return BUILD / f"model-{kind}.gguf"


def shipped(kind: str) -> Path:
    return WEIGHTS / f"frontdesk-small-{kind}.gguf"


def dataset(kind: str) -> Path:
    return BUILD / f"{kind}.npz"


def checkpoint(name: str) -> Path:
    return BUILD / f"{name}.pt"
