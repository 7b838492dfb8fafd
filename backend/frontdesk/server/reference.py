"""The reference page at /docs: the OpenAPI document as one HTML page, made once at start.

No script, no font, no request to anywhere: it works offline and under a strict content security policy, which allows
exactly this page's style by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from jinja2 import Environment, select_autoescape
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.wire._frames import json_bytes

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-top: 1px solid #8886; padding-top: 1.5rem }
code, pre { font: 14px/1.45 ui-monospace, monospace }
pre { background: #8882; padding: .8rem; overflow-x: auto; border-radius: .4rem }
.verb { font-weight: 700; margin-right: .5rem }
table { border-collapse: collapse; width: 100%; font-size: 15px }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8883 }
td:first-child { white-space: nowrap }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ info.title }} API</title><style>{{ style|safe }}</style></head><body>
<h1>{{ info.title }} {{ info.version }}</h1>
<p>{{ info.description }} The same as data: <a href="/openapi.json">/openapi.json</a>.</p>
<pre>curl -N {{ base }}/v1/chat/completions -H 'content-type: application/json' \\
  -d '{"stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'</pre>
<ul>{% for op in operations %}
<li><a href="#{{ op.anchor }}"><code>{{ op.verb }} {{ op.path }}</code></a> {{ op.summary }}</li>{% endfor %}</ul>
{% for op in operations %}
<h2 id="{{ op.anchor }}"><span class="verb">{{ op.verb }}</span><code>{{ op.path }}</code></h2>
<p><strong>{{ op.summary }}</strong></p>
{% for paragraph in op.description.split("\n\n") %}<p>{{ paragraph|code }}</p>{% endfor %}
{% if op.fields %}<table><thead><tr><th>Field</th><th>Type</th><th>Meaning</th></tr></thead><tbody>
{% for f in op.fields %}
<tr><td><code>{{ f.name }}</code>{% if f.required %} (required){% endif %}</td><td>{{ f.type }}</td>
<td>{{ f.description|code }}</td></tr>{% endfor %}</tbody></table>{% endif %}
<p>Answers: {% for status, text in op.responses %}<code>{{ status }}</code> {{ text|code }} {% endfor %}</p>
{% endfor %}</body></html>
"""


class Reference:
    """Routes that serve the document as JSON and as a page."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._json = json_bytes(document)
        self._page = render(document)
        digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"
        self._headers = {"content-security-policy": policy, "cache-control": "no-cache"}

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self.openapi, methods=["GET"], name="openapi"),
            Route("/docs", self.docs, methods=["GET"], name="docs"),
        ]

    async def openapi(self, request: Request) -> Response:
        return Response(self._json, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        return Response(self._page, headers=self._headers, media_type="text/html")


def render(document: dict[str, Any], base: str = "http://127.0.0.1:8000") -> str:
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True)
    environment.filters["code"] = _code
    template = environment.from_string(PAGE)
    return template.render(info=document["info"], operations=_operations(document), style=STYLE, base=base)


def _code(text: str) -> Markup:
    """Backticks as <code>; everything else is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    schemas = document["components"]["schemas"]
    return [
        {
            "verb": verb.upper(),
            "path": path,
            "anchor": f"{verb}{path}".replace("/", "-").replace("{", "").replace("}", ""),
            "summary": operation["summary"],
            "description": operation["description"],
            "fields": _fields(operation, schemas),
            "responses": [(status, answer["description"]) for status, answer in operation["responses"].items()],
        }
        for path, operations in sorted(document["paths"].items(), key=lambda item: ("post" not in item[1], item[0]))
        for verb, operation in operations.items()
    ]


def _fields(operation: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if "requestBody" not in operation:
        return []
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = schemas[reference.rsplit("/", 1)[1]]
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "required": name in required,
            "type": _type(field),
            "description": field.get("description", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _type(field: dict[str, Any]) -> str:
    """A few words: `number, 0 to 2`, `array of ChatMessage`, `string or array of string`."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(part) for part in field["anyOf"] if part.get("type") != "null"))
    if "$ref" in field:
        return field["$ref"].rsplit("/", 1)[1]
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"array of {_type(field.get('items', {}))}"
    low, high = field.get("minimum"), field.get("maximum")
    limits = f", {low} to {high}" if low is not None and high is not None else ""
    return f"{field.get('type', 'any')}{limits}"
