"""Which models there are: weights/manifest.toml, or any single GGUF file. One frozen card each.

A card is what a server knows of a model before it is opened. Knows no engine and no tokenizer.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from frontdesk.errors import ConfigError, ModelLoadFailed
from frontdesk.fleet.gguf import Value, read_metadata
from frontdesk.generation import Sampling

_NAME: Final = re.compile(r"[a-z0-9._-]{1,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REQUIRED: Final = frozenset(["name", "file", "sha256", "context"])
_KNOWN: Final = _REQUIRED | {"size", "template", "persona", "licence", "description", "exact", "sampling"}
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_k": (0, 1_000_000),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repeat_penalty": (0.01, 10),
    "repeat_last_n": (0, 4096),
}
_WHOLE: Final = frozenset(["top_k", "repeat_last_n"])
# What llama.cpp reads of a file, behind `general.sampling.` (`common_init_sampler_from_model`).
_IN_FILES: Final = {
    "temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "penalty_repeat": "repeat_penalty",
    "penalty_last_n": "repeat_last_n",
}  # fmt: skip
_PARTS: Final = {  # by `general.type`
    "adapter": "a LoRA adapter: merge it into the model that it was made for, and serve that",
    "mmproj": "the projector of pictures or sound that belongs to a model: take the file of the model itself",
    "imatrix": "an importance matrix for quantizing: take the file of the model itself",
}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model. `context` is its window in tokens, `created` the file's time in seconds since 1970.

    `sha256` is "" for a file that is not in a manifest; `sampling` is what it uses where a request says nothing;
    `exact`: its replies are to be the same bit for bit whatever else is computed beside them (docs/decisions/0001).
    """

    name: str
    path: Path
    sha256: str
    context: int
    persona: str | None
    licence: str
    description: str
    sampling: Sampling = field(default_factory=Sampling)
    created: int = 0
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """All models of one manifest, by name."""

    path: Path
    default: str
    cards: Mapping[str, ModelCard]

    def card(self, name: str | None = None) -> ModelCard:
        """The card of a name, or of the default. Raises `ConfigError` listing the known names."""
        name = self.default if name is None else name
        if name not in self.cards:
            raise ConfigError(f"{self.path} has no model {name!r}; known: {', '.join(sorted(self.cards))}")
        return self.cards[name]


def read_manifest(path: Path | str) -> Manifest:
    """Raises `ConfigError` naming the file, the model and the fault; a listed file that is missing is one."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the manifest {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    models = table.get("models")
    if not isinstance(models, list) or not models:
        raise ConfigError(f"{path} lists no models: it needs at least one [[models]] table")
    cards: dict[str, ModelCard] = {}
    for model in models:
        card = _card(model, path)
        if card.name in cards:
            raise ConfigError(f"{path} lists the model {card.name!r} twice")
        cards[card.name] = card
    manifest = Manifest(path, str(table.get("default", next(iter(cards)))), cards)
    manifest.card()
    return manifest


def card_for_file(path: Path | str) -> ModelCard:
    """A card for any GGUF, from the file's own metadata. Raises `ConfigError`, `ModelLoadFailed`."""
    path = Path(path)
    metadata = read_metadata(path)
    architecture = metadata.get("general.architecture")
    kind = "mmproj" if architecture == "clip" else metadata.get("general.type")
    if isinstance(kind, str) and kind in _PARTS:
        raise ModelLoadFailed(f"{path} is no model, but {_PARTS[kind]}")
    context = metadata.get(f"{architecture}.context_length")
    return ModelCard(
        name=model_name(path.stem),
        path=path,
        sha256="",
        context=context if isinstance(context, int) and context > 0 else 4096,
        persona=None,
        licence=str(metadata.get("general.license", "")),
        description=str(metadata.get("general.name", path.stem))[:200],
        sampling=_sampling_in(metadata),
        created=_created(path),
    )


def model_name(stem: str) -> str:
    """A file's stem as a model name: lower case, other characters become '-', at most 64."""
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-")[:64] or "model"


def verify(card: ModelCard) -> None:
    """Read the whole file and compare its checksum. Raises `ConfigError`. Cards without one pass."""
    if not card.sha256:
        return
    try:
        with card.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read the model file {card.path}: {error.strerror or error}") from None
    if found != card.sha256:
        raise ConfigError(
            f"{card.path} is not the file that the manifest lists as {card.name!r}: its sha256 is {found}, "
            f"expected {card.sha256}. Fetch it again, or serve it as a file of your own with --model."
        )


def _card(model: object, manifest: Path) -> ModelCard:
    if not isinstance(model, dict):
        raise ConfigError(f"{manifest}: every entry of 'models' must be a table")
    where = f"{manifest}, model {model.get('name')!r}"
    if missing := _REQUIRED - model.keys():
        raise ConfigError(f"{where}: {', '.join(sorted(missing))} missing")
    if unknown := model.keys() - _KNOWN:
        raise ConfigError(f"{where}: unknown {', '.join(sorted(unknown))}")
    _check_fields(model, where)
    path = manifest.parent / model["file"]
    if not path.is_file():
        raise ConfigError(f"{where}: the file {path} does not exist")
    if model.get("size", size := path.stat().st_size) != size:
        raise ConfigError(f"{where}: {path} has {size} bytes, expected {model['size']} (is the download complete?)")
    return ModelCard(
        name=model["name"],
        path=path,
        sha256=model["sha256"],
        context=model["context"],
        persona=model.get("persona"),
        licence=model.get("licence", ""),
        description=model.get("description", ""),
        sampling=_sampling(model.get("sampling", {}), where),
        created=_created(path),
        exact=model.get("exact", False),
    )


def _check_fields(model: Mapping[str, object], where: str) -> None:
    for name in ("name", "file", "sha256", "template", "persona", "licence", "description"):
        if not isinstance(model.get(name, ""), str):
            raise ConfigError(f"{where}: {name!r} must be text")
    if not isinstance(model.get("exact", False), bool):
        raise ConfigError(f"{where}: 'exact' must be true or false")
    if not _NAME.fullmatch(str(model["name"])):
        raise ConfigError(f"{where}: the name must match {_NAME.pattern}")
    if not _SHA256.fullmatch(str(model["sha256"])):
        raise ConfigError(f"{where}: 'sha256' must be 64 hexadecimal digits")
    context = model["context"]
    if not isinstance(context, int) or isinstance(context, bool) or context < 1:
        raise ConfigError(f"{where}: 'context' must be a whole number of tokens from 1")
    if model.get("template", "gguf") != "gguf":
        raise ConfigError(f"{where}: 'template' must be \"gguf\" (the chat template inside the file)")


def _sampling(values: object, where: str) -> Sampling:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: 'sampling' must be a table")
    for name, value in values.items():
        if name not in _BOUNDS:
            raise ConfigError(f"{where}: unknown sampling.{name} (known: {', '.join(sorted(_BOUNDS))})")
        low, high = _BOUNDS[name]
        number = isinstance(value, int if name in _WHOLE else int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ConfigError(f"{where}: sampling.{name} must be a number from {low:g} to {high:g}")
    numbers: dict[str, Any] = {name: value if name in _WHOLE else float(value) for name, value in values.items()}
    return Sampling(**numbers)


def _sampling_in(metadata: Mapping[str, Value]) -> Sampling:
    """What a file says of it, brought within the bounds; for llama.cpp whole numbers below 0 mean all tokens."""
    found: dict[str, Any] = {}
    for key, name in _IN_FILES.items():
        value = metadata.get(f"general.sampling.{key}")
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            continue
        low, high = _BOUNDS[name]
        kept = high if name in _WHOLE and value < 0 else min(max(value, low), high)
        found[name] = int(kept) if name in _WHOLE else float(kept)
    return Sampling(**found)


def _created(path: Path) -> int:
    return int(path.stat().st_mtime)
