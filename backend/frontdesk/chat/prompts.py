"""Personas: the system prompts in prompts/*.md, one file each, with front matter and a body.

The front matter holds `name`, `version`, `description` and `variables` (defaults for `{{ name }}` in the body), which
are filled in when the file is read, through the same sandbox as chat templates. Knows no model and no conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import frontmatter
import jinja2

from frontdesk.chat.sandbox import Refused, Sandbox, TemplateRaised, TooSlow, limits
from frontdesk.errors import ConfigError

FIELDS: Final = frozenset(["name", "version", "description", "variables"])
MAX_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Persona:
    """A system prompt with a name. `text` is final: its variables are filled in."""

    name: str
    version: int
    description: str
    text: str


class Personas(dict[str, Persona]):
    """Personas by name. Asking for an unknown one raises `ConfigError` that lists the known ones."""

    def __missing__(self, name: str) -> Persona:
        known = ", ".join(sorted(self)) or "none"
        raise ConfigError(f"there is no persona {name!r}; known: {known}")


def load_personas(folder: Path | str) -> Personas:
    """Every `*.md` of a folder. Raises `ConfigError` naming the file and the fault."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"the folder of personas {folder} does not exist")
    personas = Personas()
    for path in sorted(folder.glob("*.md")):
        persona = read_persona(path)
        if persona.name in personas:
            raise ConfigError(f"{path}: the persona name {persona.name!r} is taken by another file")
        personas[persona.name] = persona
    return personas


def read_persona(path: Path) -> Persona:
    """One file. Raises `ConfigError`."""
    fields, body = _parts(path)
    if unknown := fields.keys() - FIELDS:
        raise ConfigError(
            f"{path}: unknown front matter {', '.join(sorted(unknown))} (known: {', '.join(sorted(FIELDS))})"
        )
    variables = fields.get("variables") or {}
    if not isinstance(variables, dict) or not all(isinstance(key, str) for key in variables):
        raise ConfigError(f"{path}: 'variables' must map names to default values")
    version = fields.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError(f"{path}: 'version' must be a whole number from 1")
    name, description = _text(fields, "name", path), _text(fields, "description", path)
    return Persona(name, version, description, _filled(body, variables, path))


def _parts(path: Path) -> tuple[Mapping[str, object], str]:
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes")
        source = data.decode("utf-8")
        if not frontmatter.checks(source):
            raise ConfigError(f"{path} has no front matter: it must begin with '---', name and description, '---'")
        post = frontmatter.loads(source)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except ConfigError:
        raise
    except Exception as error:  # the YAML reader has several families of errors
        raise ConfigError(f"{path}: the front matter is not valid YAML: {error}") from None
    return post.metadata, post.content.strip()


def _text(fields: Mapping[str, object], field: str, path: Path) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{path}: {field!r} is missing or not text")
    return value.strip()


def _filled(body: str, variables: Mapping[str, object], path: Path) -> str:
    sandbox = Sandbox()
    sandbox.undefined = jinja2.StrictUndefined
    try:
        template = sandbox.load(body)
        with limits(1.0):
            text = template.render(variables).strip()
    except (Refused, TemplateRaised, TooSlow, jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
        reason = "it takes too long" if isinstance(error, TooSlow) else str(error)
        raise ConfigError(f"{path}: the variables cannot be filled in: {reason}") from None
    if not text:
        raise ConfigError(f"{path}: the prompt is empty")
    return text
