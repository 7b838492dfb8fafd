"""The routes that only tell: models, health, the API's description."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from frontdesk.wire import HTTP_FORMATS

if TYPE_CHECKING:
    from tests.conftest import Server


def get(server: Server, path: str) -> Any:
    response = httpx2.get(server.url + path)
    assert response.status_code == 200, response.text
    return response.json()


def test_models(server: Server) -> None:
    """If this fails, clients that look up the model before they use it (Open WebUI, LibreChat) see none."""
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id).id == model.id == "frontdesk-small"
    assert model.owned_by
    assert model.created > 1_600_000_000
    assert get(server, "/v1/models")["data"][0]["context_window"] == 4096


def test_health(server: Server) -> None:
    """If this fails, a supervisor restarts a healthy server."""
    assert get(server, "/livez") == {"status": "alive"}
    assert get(server, "/health") == {"status": "ok"}
    assert get(server, "/readyz")["status"] == "ready"
    assert httpx2.head(server.url + "/livez").status_code == 200


def test_readyz_tells_how_the_database_does(start_server: Callable[..., Server]) -> None:
    """If this fails, an operator hears of a lost database from customers, or a load balancer takes away a server that
    could still answer."""
    server = start_server()
    storage = get(server, "/readyz")["storage"]
    assert storage["status"] == "ok"
    assert storage["failing_since"] is None
    assert abs(time.time() - storage["written_at"]) < 60
    Path(server.database).unlink()
    body = {"input": "Hello", "max_output_tokens": 5}
    refused = httpx2.post(server.url + "/v1/responses", json=body, timeout=60)
    assert refused.status_code == 503
    assert server.database not in refused.text
    assert httpx2.post(server.url + "/v1/responses", json={**body, "store": False}, timeout=60).status_code == 200
    ready = get(server, "/readyz")
    assert ready["status"] == "ready"
    assert ready["storage"]["status"] == "failing"
    assert ready["storage"]["failing_since"] >= ready["storage"]["written_at"]


def test_any_page_may_read_that_the_server_lives(server: Server) -> None:
    """If this fails, a widget cannot tell this server from a proxy that answers while it restarts."""
    page = {"origin": "https://any.example"}
    assert httpx2.get(server.url + "/livez", headers=page).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in httpx2.get(server.url + "/readyz", headers=page).headers


def test_description_covers_what_is_served(server: Server) -> None:
    """If this fails, the reference page lies about a route, or a reference in it leads nowhere."""
    document = get(server, "/openapi.json")
    assert document["openapi"].startswith("3.1")
    for format in HTTP_FORMATS:
        assert "post" in document["paths"][format.path]
    for path, operations in document["paths"].items():
        if "{" not in path and "get" in operations:
            get(server, path)
    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    fields = schemas["ChatRequest"]["properties"]
    assert all("description" in field or "anyOf" in field for field in fields.values())


def test_index_is_a_page(server: Server) -> None:
    """If this fails, a person who opens the printed address sees an error."""
    response = httpx2.get(server.url + "/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []
