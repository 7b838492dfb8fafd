"""The API's description, made from what the server really uses: the pydantic models of its bodies, and the words of
`server/operations`.

OpenAPI 3.1. It describes requests exactly; answers are described in words, as OpenAI's reference is their schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from frontdesk import __version__
from frontdesk.server.operations import ALWAYS, FAILURES, OPERATIONS, Failure, Operation
from frontdesk.wire._format import HttpFormat

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "One sentence: the field and the limit."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault, e.g. messages.0.content."},
                "code": {"type": ["string", "null"], "description": "Stable name, e.g. context_length_exceeded."},
            },
        }
    },
}

GENERATING: tuple[Failure, ...] = ("400", "404", "409", "413", "429")
SOCKET = """Also a WebSocket: connect to the same path and send `{"type": "response.create", ...}` with the fields of
the POST body (without `stream`), any number of turns on one socket; the answers are the same events, one a message.
Turns with different `stream_id` run beside each other, those with the same one after another. `"generate": false` only
warms the prompt up. `{"type": "response.cancel"}` stops the running answer of a stream, or the one that `response_id`
names. `{"type": "response.resume", "response_id": ..., "starting_after": ...}` reads a kept response from any event on.
`{"type": "response.place", "response_id": ...}` asks where a running one stands: `"place"` of the event of the same
type is its number in the waiting line, 0 when the engine works on it.
"""


def document(formats: Sequence[HttpFormat]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Error": ERROR}
    paths: dict[str, Any] = {}
    for format in formats:
        paths[format.path] = {"post": _generating(format)}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.verb] = _described(operation)
    for model in _bodies(formats):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    info = {
        "title": "Frontdesk",
        "version": __version__,
        "description": "Chat inference for local models, compatible with OpenAI's clients.",
    }
    key = {"type": "http", "scheme": "bearer", "description": "A key or a visitor's token, where the server asks."}
    return {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": key}},
        "security": [{"key": []}, {}],
    }


def _bodies(formats: Sequence[HttpFormat]) -> Iterable[type[BaseModel]]:
    yield from (format.request for format in formats)
    yield from (operation.body for operation in OPERATIONS if operation.body is not None)


def _generating(format: HttpFormat) -> dict[str, Any]:
    lines = (format.__doc__ or format.name).strip().splitlines()
    description = "With `stream: true` the answer is an event stream (`text/event-stream`), else one JSON object."
    if format.path == "/v1/responses":
        description += "\n\n" + SOCKET.strip()
    return {
        "operationId": format.name,
        "summary": lines[0] if len(lines) > 1 else _title(format.path),
        "description": description,
        "requestBody": _body(format.request),
        "responses": _responses(("application/json", "text/event-stream"), (*GENERATING, *ALWAYS)),
    }


def _described(operation: Operation) -> dict[str, Any]:
    failures = operation.failures if operation.open else (*operation.failures, *ALWAYS)
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "description": operation.description,
        "responses": _responses(operation.kinds, failures),
    }
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    asked = [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in operation.query
    ]
    if named or asked:
        described["parameters"] = named + asked
    if operation.body is not None:
        described["requestBody"] = _body(operation.body)
    if operation.open:
        described["security"] = []
    if operation.path in ("/readyz", "/health"):
        described["responses"]["503"] = {"description": "Not yet, or not any more."}
    return described


def _operation_id(operation: Operation) -> str:
    words = re.sub(r"\W+", "_", operation.path.removeprefix("/v1")).strip("_")
    return f"{operation.verb}_{words}"


def _responses(kinds: Sequence[str], failures: Iterable[Failure]) -> dict[str, Any]:
    types = {kind: "object" if kind == "application/json" else "string" for kind in kinds}
    answer = {"description": "The answer.", "content": {kind: {"schema": {"type": t}} for kind, t in types.items()}}
    return {"200": answer, **{status: _failure(FAILURES[status]) for status in sorted(failures)}}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _ref(model.__name__)}}}


def _failure(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref("Error")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _title(path: str) -> str:
    return path.removeprefix("/v1/").replace("/", " ").capitalize()
