"""The API's description, made from what the server really uses: the formats' pydantic models and this route table.

OpenAPI 3.1. It describes requests exactly; answers are described in words, as OpenAI's reference is their schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frontdesk import __version__
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

FAILURES = {
    "400": "The request is wrong; the message says where.",
    "404": "No such model.",
    "413": "The body is too large.",
    "429": "The waiting line is full; see Retry-After.",
    "503": "The model is loading or the server is stopping; see Retry-After.",
}

READ_ONLY = {
    "/v1/models": ("List the models", "Every model of this server with its context window."),
    "/v1/models/{model}": ("One model", "404 when it is not served here."),
    "/livez": ("Is the process alive?", "200 as soon as the server listens."),
    "/readyz": ("Does it take requests?", "200 when the model is loaded, else 503; counts of running and waiting."),
    "/health": ("Health in llama-server's words", '`{"status": "ok"}`, or 503 while loading.'),
    "/openapi.json": ("This description", "OpenAPI 3.1."),
}

SOCKET = """Also a WebSocket: connect to the same path and send `{"type": "response.create", ...}` with the fields of
the POST body (without `stream`), any number of turns on one socket; the answers are the same events, one a message.
`"generate": false` only warms the prompt up. `{"type": "response.cancel"}` stops the running answer."""


def document(formats: Sequence[HttpFormat]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Error": ERROR}
    paths: dict[str, Any] = {path: {"get": _reading(path, *texts)} for path, texts in READ_ONLY.items()}
    for format in formats:
        schema = format.request.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[format.request.__name__] = schema
        paths[format.path] = {"post": _posting(format)}
    info = {
        "title": "Frontdesk",
        "version": __version__,
        "description": "Chat inference for local models, compatible with OpenAI's clients.",
    }
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _posting(format: HttpFormat) -> dict[str, Any]:
    lines = (format.__doc__ or format.name).strip().splitlines()
    description = "With `stream: true` the answer is an event stream (`text/event-stream`), else one JSON object."
    if format.path == "/v1/responses":
        description += "\n\n" + SOCKET
    return {
        "operationId": format.name,
        "summary": lines[0] if len(lines) > 1 else _title(format.path),
        "description": description,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(format.request.__name__)}}},
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{status: _failure(text) for status, text in FAILURES.items()},
        },
    }


def _reading(path: str, summary: str, description: str) -> dict[str, Any]:
    answer = {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}
    operation: dict[str, Any] = {"summary": summary, "description": description, "responses": {"200": answer}}
    if "{model}" in path:
        operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
        operation["responses"]["404"] = _failure(FAILURES["404"])
    if path in ("/readyz", "/health"):
        operation["responses"]["503"] = {"description": "Not yet, or not any more."}
    return operation


def _failure(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref("Error")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _title(path: str) -> str:
    return path.removeprefix("/v1/").replace("/", " ").capitalize()
