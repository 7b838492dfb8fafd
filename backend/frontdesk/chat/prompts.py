"""Personas: the system prompts in prompts/*.md, one file each, with front matter and a body.

The front matter holds `name`, `version`, `description` and `variables` (defaults for `{{ name }}` in the body), which
are filled in when the file is read, through the same sandbox as chat templates. A request may give other values: they
are data, put into the body once, and never read as a template themselves. Knows no model and no conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import frontmatter
import jinja2

from frontdesk.chat.sandbox import Refused, Sandbox, TemplateRaised, TooSlow, limits
from frontdesk.errors import ConfigError, FrontdeskError, InvalidRequest
from frontdesk.fleet.tokenizer import check_text
from frontdesk.generation import PromptReference

FIELDS: Final = frozenset(["name", "version", "description", "variables"])
MAX_BYTES: Final = 1_000_000
MAX_VALUE: Final = 20_000  # characters of one variable that a request gives


@dataclass(frozen=True, slots=True)
class Persona:
    """A system prompt with a name. `text` is final: its variables are filled in with their defaults.

    `source` is the body as it was written, `variables` its defaults; a number stays a number there.
    """

    name: str
    version: int
    description: str
    text: str
    source: str = field(default="", repr=False)
    variables: Mapping[str, object] = field(default_factory=dict, hash=False)

    def fill(self, variables: Mapping[str, str], version: str | None = None) -> str:
        """The text with other values for some variables. Raises `InvalidRequest` naming `prompt.variables.<name>` or
        `prompt.version`: for a version that is not there, and for a variable that is unknown, a list, or too long."""
        if version is not None and version != str(self.version):
            raise InvalidRequest(
                f"prompt {self.name!r} has no version {version!r}; known: {self.version}", param="prompt.version"
            )
        for name, value in variables.items():
            self._check(name, value)
        if not variables:
            return self.text
        try:
            return _rendered(self.source, {**self.variables, **variables})
        except FrontdeskError as error:
            raise InvalidRequest(f"prompt {self.name!r}: {error.message}", param="prompt.variables") from None

    def _check(self, name: str, value: str) -> None:
        param = f"prompt.variables.{name}"
        known = sorted(name for name, default in self.variables.items() if isinstance(default, str | int | float))
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InvalidRequest(f"prompt {self.name!r} has no variable {name!r}; known: {listed}", param=param)
        if len(value) > MAX_VALUE:
            raise InvalidRequest(f"{param} has {len(value)} characters (at most {MAX_VALUE})", param=param)
        check_text(value, param)


class Personas(dict[str, Persona]):
    """Personas by name. Asking for an unknown one raises `ConfigError` that lists the known ones."""

    def __missing__(self, name: str) -> Persona:
        known = ", ".join(sorted(self)) or "none"
        raise ConfigError(f"there is no persona {name!r}; known: {known}")

    def text(self, reference: PromptReference) -> str:
        """The prompt that a request names, filled in. Raises `InvalidRequest` naming the field at fault."""
        if reference.id not in self:
            known = ", ".join(sorted(self)) or "none"
            raise InvalidRequest(f"there is no prompt {reference.id!r}; known: {known}", param="prompt.id")
        return self[reference.id].fill(dict(reference.variables), reference.version)


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
    try:
        text = _rendered(body, variables)
    except FrontdeskError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    return Persona(name, version, description, text, body, variables)


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


def _rendered(source: str, variables: Mapping[str, object]) -> str:
    """Raises `FrontdeskError` with the reason alone."""
    sandbox = Sandbox()
    sandbox.undefined = jinja2.StrictUndefined
    try:
        template = sandbox.load(source)
        with limits(1.0):
            text = template.render(variables).strip()
    except (Refused, TemplateRaised, TooSlow, jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
        reason = "it takes too long" if isinstance(error, TooSlow) else str(error)
        raise FrontdeskError(f"the variables cannot be filled in: {reason}") from None
    if not text:
        raise FrontdeskError("the prompt is empty")
    return text
