"""The application: the one place where settings become objects and objects are wired together.

Everything it builds is handed what it needs; nothing below looks anything up in globals or in the environment.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from frontdesk.access.budgets import Budgets
from frontdesk.access.gatekeeper import Gatekeeper
from frontdesk.access.origins import Origins
from frontdesk.chat.prompts import Persona, Personas, load_personas
from frontdesk.chat.service import ChatService, Rules
from frontdesk.chat.spending import Spending
from frontdesk.config import Settings, prompts_folder, web_folder, weights_folder
from frontdesk.errors import FrontdeskError
from frontdesk.fleet.pool import Pool
from frontdesk.fleet.registry import ModelCard, card_for_file, read_manifest
from frontdesk.server.access import Access, is_private, key_required, nobody_in_particular, require_key
from frontdesk.server.body import ClientGone
from frontdesk.server.conversations import Conversations
from frontdesk.server.cors import Cors
from frontdesk.server.errors import on_client_gone, on_frontdesk_error, on_http_exception, status_of
from frontdesk.server.feedback import Feedback
from frontdesk.server.generate import Generate, RequestLimits
from frontdesk.server.handoffs import Handoffs
from frontdesk.server.info import Info
from frontdesk.server.keys import Keys
from frontdesk.server.lifetime import Lifetime, Watch
from frontdesk.server.middleware import Apology, Envelope, Gate, is_loopback
from frontdesk.server.openapi import document
from frontdesk.server.opening import opening
from frontdesk.server.pacing import Writes
from frontdesk.server.pages import Pages
from frontdesk.server.reference import Reference
from frontdesk.server.responses import Responses
from frontdesk.server.retention import retention
from frontdesk.server.usage import Usage
from frontdesk.server.visitors import Visitors
from frontdesk.server.watching import Watching, sampling
from frontdesk.server.websocket import Connection
from frontdesk.server.widget import Widgets
from frontdesk.store.store import Store, open_store
from frontdesk.telemetry.problems import Problems
from frontdesk.telemetry.recent import Recent
from frontdesk.wire import HTTP_FORMATS


def build_app(settings: Settings, pool: Pool | None = None, watch: Watch | None = None) -> Starlette:
    """The ASGI application. Its lifespan opens the database, goes on with what a former life left unfinished and loads
    the model in the background; `app.state.lifetime` drains and stops it, `app.state.problems` hears of requests that
    never reach it.

    `pool` replaces the one that the settings describe. Raises `ConfigError` when they name no usable model or persona;
    what is wrong with the database is told to `watch.failed`.
    """
    personas = load_personas(prompts_folder())
    pool = pool or Pool(model_card(settings, personas))
    watch = watch or Watch()
    lifetime = Lifetime(pool, partial(opening, settings, pool.cards[0]), settings.drain_seconds, watch)
    door = Door()
    origins = Origins(settings.origins)
    recent = Recent(time.time, Problems(time.time, status_of))

    async def open_house(app: Starlette, stack: AsyncExitStack) -> None:
        store = await open_store(settings.database_place, hurry=lifetime.stopping.is_set)
        stack.push_async_callback(store.close)
        origins.open(store.widgets)
        secret = await store.secrets.get_or_create("visitors", lambda: secrets.token_bytes(32))
        require_key(settings, await store.keys.list())
        door.gatekeeper = Gatekeeper(
            store.keys,
            secret,
            required=key_required(settings),
            visitor_limits=settings.visitor_limits,
            anonymous=nobody_in_particular(settings),
        )
        spending = Spending(Budgets(), store, settings.conversation_limits)
        service = ChatService(pool, personas, store, spending, rules(settings), recent)
        # Only now: routes need the store, and a store belongs to the loop that it was opened on.
        app.router.routes.extend(_routes(settings, personas, service, store, secret, lifetime, recent))
        await stack.enter_async_context(lifetime.running(service))
        await stack.enter_async_context(retention(store, settings.retention_days))
        await stack.enter_async_context(sampling(recent, pool))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await open_house(app, stack)
            except FrontdeskError as error:
                watch.failed(error)
            yield

    app = Starlette(
        middleware=_middleware(settings, door, origins, recent.problems),
        exception_handlers={
            FrontdeskError: on_frontdesk_error,
            HTTPException: on_http_exception,
            ClientGone: on_client_gone,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would build an absolute address from the Host header
    app.state.lifetime = lifetime
    app.state.problems = recent.problems
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


def rules(settings: Settings) -> Rules:
    return Rules(
        max_waiting=settings.max_waiting,
        answer_reserve=settings.answer_reserve,
        summarise=settings.context_policy == "summarise",
        grace={"at_once": 0.0, "grace": settings.abandon_seconds, "never": None}[settings.abandon],
        idempotency_hours=settings.idempotency_hours,
    )


class Door:
    """Holds the gatekeeper, which the middleware needs and the lifespan makes."""

    gatekeeper: Gatekeeper

    def __call__(self) -> Gatekeeper:
        return self.gatekeeper


def _routes(
    settings: Settings,
    personas: Personas,
    service: ChatService,
    store: Store,
    secret: bytes,
    lifetime: Lifetime,
    recent: Recent,
) -> list[BaseRoute]:
    writes = Writes()
    limits = RequestLimits(settings.max_body_bytes, settings.ping_seconds)

    async def responses(socket: WebSocket) -> None:
        await Connection(socket, service, lifetime, recent.problems).run()

    return [
        *(Generate(format, service, limits).route for format in HTTP_FORMATS),
        WebSocketRoute("/v1/responses", responses, name="responses_socket"),
        *Responses(service, limits).routes,
        *Conversations(store, service.stop_conversation, settings.max_body_bytes, writes).routes,
        *Visitors(store, secret, settings).routes,
        *Widgets(store, secret, settings, personas).routes,
        *Handoffs(store.handoffs, settings.max_body_bytes, writes).routes,
        *Usage(store.ledger).routes,
        *Feedback(store, settings.max_body_bytes, writes).routes,
        *Watching(recent, lifetime.pool).routes,
        *Keys(store).routes,
        *Info(lifetime, store).routes,
        *Pages(web_folder()).routes,
        *Reference(document(HTTP_FORMATS)).routes,
    ]


def _middleware(settings: Settings, door: Door, origins: Origins, problems: Problems) -> list[Middleware]:
    trusted = list(settings.trusted_proxies)
    open_loopback = is_loopback(settings.host) and not key_required(settings)
    return [
        *([Middleware(ProxyHeadersMiddleware, trusted_hosts=trusted)] if trusted else []),
        Middleware(Envelope, problems=problems),
        Middleware(Cors, origins=origins),
        Middleware(Apology),
        Middleware(Gate, origins=origins, open_loopback=open_loopback, private=is_private(settings)),
        Middleware(Access, gatekeeper=door),
    ]
