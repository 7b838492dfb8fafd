"""Read-only routes: the models, and how the server is doing. No secret, no text of any user, no work for the engine.

`/livez`: the process answers; every page may read that, as the widget does to tell this server from a proxy that speaks
in its place. `/readyz`: it takes requests, also while the database fails: what is not stored needs none, and no other
server can take its place. `/health`: the same in llama-server's words.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.errors import ModelNotFound
from frontdesk.fleet.registry import ModelCard
from frontdesk.server.lifetime import Lifetime
from frontdesk.store.store import Store
from frontdesk.store.writer import Health
from frontdesk.wire._frames import json_bytes


class Info:
    def __init__(self, lifetime: Lifetime, store: Store) -> None:
        self._lifetime = lifetime
        self._store = store
        self._pool = lifetime.pool

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models, methods=["GET"], name="models"),
            Route("/v1/models/{model:path}", self.model, methods=["GET"], name="model"),
            Route("/livez", self.livez, methods=["GET"], name="livez"),
            Route("/readyz", self.readyz, methods=["GET"], name="readyz"),
            Route("/health", self.health, methods=["GET"], name="health"),
        ]

    async def models(self, request: Request) -> Response:
        return _json({"object": "list", "data": [self._model(card) for card in self._pool.cards]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        for card in self._pool.cards:
            if card.name == name:
                return _json(self._model(card))
        known = ", ".join(card.name for card in self._pool.cards)
        raise ModelNotFound(f"model {name[:100]!r} is not served here; known: {known}", param="model")

    async def livez(self, request: Request) -> Response:
        answer = _json({"status": "alive"})
        answer.headers["access-control-allow-origin"] = "*"
        return answer

    async def readyz(self, request: Request) -> Response:
        state = self._lifetime.state
        body: dict[str, Any] = {"status": state, "progress": self._lifetime.progress}
        body["storage"] = _storage(self._store.health)
        if backend := self._pool.backend:
            body["open"] = backend.engine.open_requests
            body |= {"restarts": backend.engine.restarts, "preempted": backend.engine.preempted}
            if stats := backend.engine.stats:  # as of the engine's last step; before the first there are none
                body |= {"running": stats.running, "waiting": stats.waiting}
                body["kv"] = {"used": stats.kv_used, "cells": stats.kv_cells}
                body["parked"] = {"conversations": stats.parked, "bytes": stats.parked_bytes}
        return _json(body, 200 if state == "ready" else 503)

    async def health(self, request: Request) -> Response:
        if (state := self._lifetime.state) == "ready":
            return _json({"status": "ok"})
        return _json({"status": state, "progress": self._lifetime.progress}, 503)

    def _model(self, card: ModelCard) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": card.name,
            "object": "model",
            "created": card.created,
            "owned_by": "frontdesk",
        }
        if (backend := self._pool.backend) and backend.card is card:
            entry["context_window"] = backend.engine.window
            entry["meta"] = {"n_ctx": backend.engine.window, "n_vocab": backend.tokenizer.n_vocab}
        return entry


def _storage(health: Health) -> dict[str, Any]:
    """In whole seconds since 1970."""
    return {
        "status": "failing" if health.failing else "ok",
        "failing_since": health.failing and int(health.failing),
        "written_at": health.written and int(health.written),
    }


def _json(body: dict[str, Any], status: int = 200) -> Response:
    headers = {"retry-after": "2"} if status == 503 else None
    return Response(json_bytes(body), status, headers, media_type="application/json")
