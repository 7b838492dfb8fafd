"""The application: the one place where settings become objects and objects are wired together.

Everything it builds is handed what it needs; nothing below looks anything up in globals or in the environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from frontdesk.chat.prompts import Persona, load_personas
from frontdesk.chat.service import ChatService
from frontdesk.config import Settings, prompts_folder, weights_folder
from frontdesk.errors import FrontdeskError
from frontdesk.fleet.pool import Pool
from frontdesk.fleet.registry import ModelCard, card_for_file, read_manifest
from frontdesk.server.errors import on_frontdesk_error, on_http_exception
from frontdesk.server.generate import Generate, Limits
from frontdesk.server.info import Info
from frontdesk.server.lifetime import Lifetime, Watch
from frontdesk.server.middleware import Envelope, Gate, is_loopback
from frontdesk.server.openapi import document
from frontdesk.server.plan import plan
from frontdesk.server.reference import Reference
from frontdesk.server.websocket import Conversation
from frontdesk.wire import HTTP_FORMATS

REQUEST_HEADERS = ("authorization", "content-type", "idempotency-key", "x-request-id", "openai-organization")
ANSWER_HEADERS = ("x-request-id", "retry-after")


def build_app(settings: Settings, pool: Pool | None = None, watch: Watch | None = None) -> Starlette:
    """The ASGI application. Its lifespan loads the model in the background; `app.state.lifetime` drains and stops it.

    `pool` replaces the one that the settings describe. Raises `ConfigError` when they name no usable model or persona.
    """
    personas = load_personas(prompts_folder())
    pool = pool or Pool(model_card(settings, personas))
    card = pool.cards[0]
    lifetime = Lifetime(pool, plan(settings, card), settings.drain_seconds, watch or Watch())
    service = ChatService(pool, personas, max_waiting=settings.max_waiting)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        lifetime.start()
        try:
            yield
        finally:
            await lifetime.stop()

    app = Starlette(
        routes=_routes(settings, service, lifetime),
        middleware=_middleware(settings),
        exception_handlers={FrontdeskError: on_frontdesk_error, HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would build an absolute address from the Host header
    app.state.lifetime = lifetime
    return app


def model_card(settings: Settings, personas: Mapping[str, Persona]) -> ModelCard:
    """The model that the settings name: a GGUF file, or a name in the manifest. Raises `ConfigError`."""
    name = settings.model
    if name is not None and (name.endswith(".gguf") or "/" in name):
        card = card_for_file(Path(name).expanduser())
    else:
        card = read_manifest(weights_folder() / "manifest.toml").card(name)
    if settings.persona is not None:
        card = replace(card, persona=None if settings.persona == "none" else settings.persona)
    if card.persona is not None:
        personas[card.persona]  # an unknown one is an error now, not at the first request
    return card


def _routes(settings: Settings, service: ChatService, lifetime: Lifetime) -> list[BaseRoute]:
    limits = Limits(settings.max_body_bytes, settings.ping_seconds, settings.send_timeout)

    async def responses(socket: WebSocket) -> None:
        await Conversation(socket, service, lifetime, settings.send_timeout).run()

    return [
        *(Generate(format, service, limits).route for format in HTTP_FORMATS),
        WebSocketRoute("/v1/responses", responses, name="responses_socket"),
        *Info(lifetime).routes,
        *Reference(document(HTTP_FORMATS)).routes,
    ]


def _middleware(settings: Settings) -> list[Middleware]:
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=("GET", "POST"),
        allow_headers=REQUEST_HEADERS,
        expose_headers=ANSWER_HEADERS,
    )
    gate = Middleware(Gate, origins=settings.origins, loopback=is_loopback(settings.host))
    return [Middleware(Envelope), *([cors] if settings.origins else []), gate]
