"""Untrusted JSON to a validated pydantic body, or one `InvalidRequest` that names the user's field and its limit.

Everything a body could break later is refused here: text that is not Unicode, nesting without end. Knows no format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from frontdesk.errors import InvalidRequest

MAX_DEPTH = 32  # objects and lists within each other, the body itself included
PLAIN = {"type": "text"}  # the form of an answer that every route has
MAX_PARAM = 200  # characters; a key of the user's own may be part of a param

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], body: object) -> M:
    """Check `body` against `model`; a top-level `null` counts as absent."""
    if not isinstance(body, dict):
        raise InvalidRequest("the request body must be a JSON object", code="invalid_type")
    check_text(body)
    try:
        return model.model_validate({key: value for key, value in body.items() if value is not None})
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)[0]) from None


def unsupported(param: str, why: str) -> InvalidRequest:
    """A field whose silent loss would change what the user gets."""
    return InvalidRequest(f"'{param}': {why}", param=param, code="unsupported_parameter")


def refuse_unsupported(body: BaseModel, reasons: dict[str, str]) -> None:
    """Refuse every field of `reasons` that says something: null, false and empty values do not, but an empty object
    switches some things on."""
    for param, why in reasons.items():
        if ((value := getattr(body, param)) or value == {}) and value != PLAIN:
            raise unsupported(param, why)


def refuse_misplaced(body: object, names: Mapping[str, str]) -> None:
    """Refuse fields of other routes, whose loss would change the answer, unless what `names` calls them here is sent
    too."""
    for param, here in names.items():
        value = body.get(param) if isinstance(body, dict) else None
        form = value.get("format", PLAIN) if param == "text" and isinstance(value, dict) else value
        if (form or form == {}) and form != PLAIN and here not in cast("dict[str, object]", body):
            raise unsupported(param, f"not a field of this route, which calls it {here!r}")


def too_deep() -> InvalidRequest:
    return InvalidRequest(f"the JSON is nested deeper than {MAX_DEPTH} levels", code="invalid_json")


def check_text(body: object) -> None:
    """Refuse lone surrogates in any string or key, and nesting beyond `MAX_DEPTH`.

    Level by level, never recursive: depth is the attack, and a body may hold a million small lists.
    """
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            _check_strings(body, container if type(container) is list else (*container, *container.values()), below)
        if not below:
            return
        level = below
    raise too_deep()


def _check_strings(body: object, values: Iterable[Any], below: list[Any]) -> None:
    for value in values:
        kind = type(value)
        if kind is str:
            if not (value.isascii() or _is_unicode(value)):
                param = dotted(_path_to(value, body))
                raise InvalidRequest(
                    f"'{param}' contains a lone surrogate, which is not valid text", param=param or None
                )
        elif kind is list or kind is dict:
            below.append(value)


def _path_to(text: str, body: object) -> tuple[str | int, ...]:
    """Where the first string identical to `text` is: the path to a value, or to the object that has it as a key."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), body)]
    while stack:
        path, container = stack.pop()
        children = list(container.items()) if isinstance(container, dict) else list(enumerate(container))
        for key, value in children:
            if key is text:
                return path
            if value is text:
                return (*path, key)
        stack.extend(((*path, key), value) for key, value in children if isinstance(value, dict | list))
    return ()


def dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))[:MAX_PARAM]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(error: ErrorDetails) -> InvalidRequest:
    # Branches of a union are tagged `<like this>`, failing keys are marked `[key]`: neither is the user's word.
    path = tuple(part for part in error["loc"] if not (isinstance(part, str) and part[:1] in "<["))
    param = dotted(path)
    return InvalidRequest(_sentence(param, error), param=param or None, code=_code(error["type"]))


def _sentence(param: str, error: ErrorDetails) -> str:
    message = error["msg"].replace("dictionary", "object").split(" or instance of ")[0]
    if error["type"] == "missing":
        return f"'{param}' is required"
    if message.startswith("Input should"):
        return f"'{param}' should{message.removeprefix('Input should')}"
    return f"'{param}': {message[:1].lower()}{message[1:]}"


def _code(kind: str) -> str:
    if kind == "unsupported_parameter":
        return kind
    if kind == "missing":
        return "missing_required_parameter"
    return "invalid_type" if kind.endswith("_type") else "invalid_value"
