"""How to open a model: as was measured of it on this machine, measured now if that was never done.

A small model is not measured unasked: it starts in less time than that would take. Whatever goes wrong with measuring,
the model is opened all the same.
"""

from __future__ import annotations

import asyncio

import structlog

from frontdesk.config import SMALL, Settings, engine_environment, state_folder
from frontdesk.errors import ModelLoadFailed
from frontdesk.fleet.gguf import read_metadata
from frontdesk.fleet.registry import ModelCard
from frontdesk.fleet.tuned import Tuned, TunedFolder
from frontdesk.fleet.tuning import SECONDS, Telling, Tuning, candidates
from frontdesk.server.plan import cell_bytes, first, plan, weighing_bytes, weight_bytes
from frontdesk.telemetry.logs import where
from frontdesk.worker.machine import usable_cores
from frontdesk.worker.protocol import Load

log = structlog.stdlib.get_logger("frontdesk.server")


async def opening(settings: Settings, card: ModelCard, tell: Telling) -> Load:
    """`tell` hears what is being measured, and how far that is (0..1)."""
    if settings.tune == "off":
        return plan(settings, card)
    folder = remembered(settings, card)
    tuned = await asyncio.to_thread(folder.recall, card)
    if tuned is None and weight_bytes(card) > SMALL:
        try:
            tuned = await _measure(settings, card, tell, folder)
        except (ModelLoadFailed, TimeoutError) as error:  # the engine will say it again, if it is the model's fault
            log.warning("the model could not be measured; the usual settings are used", reason=str(error))
        except Exception as error:  # no mistake in measuring may keep a server from starting
            log.error("unexpected exception while measuring; the usual settings are used", stack=where(error))
    return plan(settings, card, tuned)


def tuning(settings: Settings, card: ModelCard, tell: Telling, seconds: float = SECONDS) -> Tuning:
    """Of this model on this machine, for about so long. What settings say is not asked for."""

    def environment(spin: int) -> dict[str, str]:
        return engine_environment(first(settings.spin, spin))

    threads = (settings.threads,) if settings.threads else candidates(usable_cores())
    metadata = read_metadata(card.path)
    cell = cell_bytes(metadata, "f16")
    without = cell + weighing_bytes(metadata)
    exact, weights = settings.exactly(card.exact), weight_bytes(card)
    return Tuning(card, threads, exact, environment, tell, seconds, weights, cell, without)


def remembered(settings: Settings, card: ModelCard) -> TunedFolder:
    """What was measured with these settings."""
    spin = engine_environment(settings.spin)["GOMP_SPINCOUNT"]
    return TunedFolder(state_folder() / "tuned", (settings.exactly(card.exact), settings.threads, spin))


async def _measure(settings: Settings, card: ModelCard, tell: Telling, folder: TunedFolder) -> Tuned:
    async with folder.alone(card, tell):
        if (tuned := await asyncio.to_thread(folder.recall, card)) is not None:  # by the process that was waited for
            return tuned
        tuned = await tuning(settings, card, tell).run()
        if tuned.given_up:
            log.warning("not everything could be measured", reason=tuned.given_up)
        if not await asyncio.to_thread(folder.keep, card, tuned):
            log.warning("what was measured cannot be remembered", folder=str(folder.path))
        return tuned
