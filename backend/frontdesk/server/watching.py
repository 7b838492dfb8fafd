"""What the operator's page shows: the last hour in numbers, the replies that run now, and what went wrong lately.

Everything is in memory and ends with the process. Nothing here holds a text of a user; every route needs the scope
`admin`, as the answers tell of everybody. Levels (requests that run, KV, memory) are sampled every second and whenever
somebody looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from frontdesk.fleet.pool import Pool
from frontdesk.server.generate import json_response
from frontdesk.server.query import check_names, seconds, whole_number
from frontdesk.telemetry.histogram import Histogram
from frontdesk.telemetry.problems import MOST, Problem
from frontdesk.telemetry.recent import SLOT_SECONDS, Level, Meter, Recent, Slot
from frontdesk.worker.machine import resident_memory

SAMPLE_SECONDS = 1.0


class Watching:
    """The endpoints."""

    def __init__(self, recent: Recent, pool: Pool) -> None:
        self._recent = recent
        self._pool = pool

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/metrics/recent", self.metrics, methods=["GET"], name="recent_metrics"),
            Route("/v1/replies/live", self.replies, methods=["GET"], name="live_replies"),
            Route("/v1/errors/recent", self.errors, methods=["GET"], name="recent_errors"),
        ]

    async def metrics(self, request: Request) -> Response:
        check_names(request, "since")
        self._recent.level(level(self._pool))  # so that what is shown is of now
        slots = self._recent.slots(seconds(request, "since"))
        answer = {
            "object": "metrics",
            "slot_seconds": SLOT_SECONDS,
            "now": round(self._recent.now(), 3),
            "data": [_slot(slot) for slot in slots],
        }
        return json_response(answer)

    async def replies(self, request: Request) -> Response:
        check_names(request)
        return json_response({"object": "list", "data": [_reply(meter) for meter in self._recent.live()]})

    async def errors(self, request: Request) -> Response:
        check_names(request, "limit")
        newest = self._recent.problems.newest(whole_number(request, "limit", MOST, 1, MOST))
        return json_response({"object": "list", "data": [_error(problem) for problem in newest]})


@asynccontextmanager
async def sampling(recent: Recent, pool: Pool) -> AsyncIterator[None]:
    """Takes a sample every second."""
    task = asyncio.create_task(_sample(recent, pool))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _sample(recent: Recent, pool: Pool) -> None:
    while True:
        recent.level(level(pool))
        await asyncio.sleep(SAMPLE_SECONDS)


def level(pool: Pool) -> Level:
    """How much there is now. Counts are as of the engine's last step, 0 before the first one."""
    memory = resident_memory("self")
    engine = pool.backend.engine if pool.backend else None
    if engine is None:
        return Level(memory=memory)
    if engine.pid is not None:
        memory += resident_memory(engine.pid)
    if (stats := engine.stats) is None:
        return Level(kv_cells=engine.ready.kv_cells if engine.ready else 0, memory=memory)
    return Level(stats.running, stats.waiting, stats.kv_used, stats.kv_cells, memory)


def _slot(slot: Slot) -> dict[str, Any]:
    return {
        "at": slot.at,
        "started": slot.started,
        "finished": slot.finished,
        "cancelled": slot.cancelled,
        "failed": slot.failed,
        "refused": slot.refused,
        "prompt_tokens": slot.prompt_tokens,
        "tokens": slot.tokens,
        "ttft": _durations(slot.ttft),
        "itl": _durations(slot.itl),
        "running": slot.level.running,
        "waiting": slot.level.waiting,
        "kv_used": slot.level.kv_used,
        "kv_cells": slot.level.kv_cells,
        "memory_bytes": slot.level.memory,
    }


def _durations(histogram: Histogram) -> dict[str, Any]:
    """In seconds."""
    p50, p95 = (round(histogram.quantile(share), 6) for share in (0.5, 0.95))
    return {"count": histogram.count, "p50": p50, "p95": p95}


def _reply(meter: Meter) -> dict[str, Any]:
    state, place = meter.state()
    return {
        "id": f"resp_{meter.id}",
        "object": "reply",
        "state": state,
        "place": place,
        "model": meter.order.model,
        "prompt_tokens": meter.order.prompt_tokens,
        "tokens": meter.tokens,
        "age": round(meter.age, 3),
        "ttft": None if meter.ttft is None else round(meter.ttft, 6),
        "payer": meter.order.payer,
    }


def _error(problem: Problem) -> dict[str, Any]:
    asked = problem.asked
    return {
        "object": "error",
        "at": round(problem.at, 3),
        "request_id": asked.request_id if asked else None,
        "method": asked.method if asked else None,
        "path": asked.path if asked else None,
        "status": problem.status,
        "code": problem.code,
        "message": problem.message,
        "response": None if problem.reply is None else f"resp_{problem.reply}",
    }
