"""How to open a model: as was measured of it on this machine, measured now if that was never done.

A small model is not measured unasked: it starts in less time than that would take.
"""

from __future__ import annotations

import asyncio

import structlog

from frontdesk.config import SMALL, Settings, engine_environment, tuned_folder
from frontdesk.errors import ModelLoadFailed
from frontdesk.fleet.registry import ModelCard
from frontdesk.fleet.tuned import TunedFolder
from frontdesk.fleet.tuning import SECONDS, Telling, Tuning
from frontdesk.server.plan import plan
from frontdesk.worker.machine import usable_cores
from frontdesk.worker.protocol import Load

log = structlog.stdlib.get_logger("frontdesk.server")


async def opening(settings: Settings, card: ModelCard, tell: Telling) -> Load:
    """`tell` hears what is being measured, and how far that is (0..1)."""
    if settings.tune == "off":
        return plan(settings, card)
    folder = TunedFolder(tuned_folder())
    tuned = await asyncio.to_thread(folder.recall, card)
    if tuned is None and card.path.stat().st_size > SMALL:
        try:
            tuned = await tuning(settings, card, tell).run()
        except ModelLoadFailed as error:  # the engine will say it again, if it is the model's fault
            log.warning("the model could not be measured; the usual settings are used", reason=error.message)
        else:
            if not await asyncio.to_thread(folder.keep, card, tuned):
                log.warning("what was measured cannot be remembered", folder=str(tuned_folder()))
    return plan(settings, card, tuned)


def tuning(settings: Settings, card: ModelCard, tell: Telling, seconds: float = SECONDS) -> Tuning:
    """Of this model on this machine, for about so long."""
    return Tuning(card, usable_cores(), settings.exactly(card.exact), engine_environment, tell, seconds)
