"""The API's description against the routes that are really there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest
from starlette.routing import Route

from frontdesk.server.conversations import Conversations
from frontdesk.server.feedback import Feedback
from frontdesk.server.handoffs import Handoffs
from frontdesk.server.keys import Keys
from frontdesk.server.openapi import document
from frontdesk.server.operations import OPERATIONS, Operation
from frontdesk.server.responses import Responses
from frontdesk.server.usage import Usage
from frontdesk.server.visitors import Visitors
from frontdesk.server.watching import Watching
from frontdesk.server.widget import Widgets
from frontdesk.store.store import open_store
from frontdesk.wire import HTTP_FORMATS

if TYPE_CHECKING:
    from tests.conftest import Server

NOTHING = cast("Any", None)  # routes are only looked at here, never called


async def test_every_route_is_described() -> None:
    """If this fails, somebody built a route that no reader of the reference can find."""
    store = await open_store("memory")
    routes: list[Route] = [
        *Conversations(store, NOTHING, 0, NOTHING).routes,
        *Responses(NOTHING, NOTHING).routes,
        *Usage(store.ledger).routes,
        *Feedback(store, 0, NOTHING).routes,
        *Watching(NOTHING, NOTHING).routes,
        *Keys(store).routes,
        *Visitors(NOTHING, b"", NOTHING).routes,
        *Widgets(NOTHING, b"", NOTHING, ()).routes,
        *Handoffs(NOTHING, 0, NOTHING).routes,
    ]
    await store.close()
    served = {(verb.lower(), route.path) for route in routes for verb in route.methods or () if verb != "HEAD"}
    assert served <= {(operation.verb, operation.path) for operation in OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.verb} {operation.path}")
def test_every_description_has_its_route(server: Server, operation: Operation) -> None:
    """If this fails, the reference describes what is not there."""
    path = re.sub(r"{\w+}", "x", operation.path)
    answer = httpx2.request(operation.verb.upper(), server.url + path, json={} if operation.body else None)
    if answer.status_code in (404, 405):
        assert answer.json()["error"]["param"] is not None, answer.text  # a thing is missing, not the route


def test_the_document_is_whole() -> None:
    """If this fails, tools that read OpenAPI stumble: over a name that is there twice, or an undeclared parameter."""
    described = document(HTTP_FORMATS)
    operations = [(path, operation) for path, verbs in described["paths"].items() for operation in verbs.values()]
    names = [operation["operationId"] for _, operation in operations]
    assert len(names) == len(set(names))
    for path, operation in operations:
        declared = {entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
