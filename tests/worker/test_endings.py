"""How a process ended is told to whoever has to do something about it. Real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest
from tests.worker.conftest import Asking, load, prompt

from frontdesk.config import engine_environment
from frontdesk.errors import EngineDied, ModelLoadFailed
from frontdesk.worker.client import EngineClient
from frontdesk.worker.lab_client import laboratory
from frontdesk.worker.spawn import how_it_ended

StartEngine = Callable[..., Awaitable[Asking]]
WRONG_BUILD = "SIGILL; llama.cpp was compiled for another processor.*requirements/install.py runtime"


@pytest.mark.parametrize(
    ("code", "told"), [(0, "exit code 0; or so"), (255, "exit code 255; or so"), (-signal.SIGSEGV, "SIGSEGV; or so")]
)
def test_signals_have_names(code: int, told: str) -> None:
    """Whoever reads "exit code -11" would have to know that this was a signal, and which."""
    assert how_it_ended(code, "or so") == told


async def test_an_engine_that_cannot_run_here_says_so(start_engine: StartEngine) -> None:
    """Whoever asks would read that the request was at fault, each after two engines had died for it, in turn."""
    asking = await start_engine(chunk=4, slots=1, window=2048, kv_cells=2048)
    replies = [asking.ask(prompt(i, 1990), 5, tenant=i) for i in range(3)]
    await asyncio.sleep(0.01)
    assert asking.client.pid
    os.kill(asking.client.pid, signal.SIGILL)
    for reply in replies:
        assert isinstance((await reply.end()).error, EngineDied)
        assert not reply.tokens
        with pytest.raises(EngineDied, match=WRONG_BUILD):
            raise reply.error or AssertionError
    assert asking.client.restarts == 1
    assert len((await asking.ask(prompt(9, 20), 5).end()).tokens) == 5


async def test_where_others_were_answered_one_request_is_at_fault(start_engine: StartEngine) -> None:
    """Where a rare instruction is missing, the one request that needs it would end all the others."""
    asking = await start_engine(slots=1)
    speaking, waiting = asking.ask(prompt(1, 20), 300), asking.ask(prompt(2, 20), 5)
    await asking.until(lambda: len(speaking.tokens) > 5)
    assert asking.client.pid
    os.kill(asking.client.pid, signal.SIGILL)
    assert len((await speaking.end()).tokens) == 300
    assert len((await waiting.end()).tokens) == 5


async def test_it_is_told_while_a_model_loads() -> None:
    """A good model would be taken for damaged, and fetched again in vain."""
    client = EngineClient(load(), engine_environment())
    starting = asyncio.create_task(client.start())
    await Asking(client).until(lambda: client.pid is not None)
    assert client.pid
    os.kill(client.pid, signal.SIGILL)
    with pytest.raises(ModelLoadFailed, match=WRONG_BUILD) as told:
        await starting
    assert "damaged" not in str(told.value)


async def test_it_is_told_while_a_model_is_measured() -> None:
    """The same, where `frontdesk tune` or the first start with a large model comes upon it."""
    async with laboratory(engine_environment()) as lab:
        os.kill(lab._child.process.pid, signal.SIGILL)
        with pytest.raises(ModelLoadFailed, match=WRONG_BUILD):
            await lab.open(load().path)


async def test_stopping_is_left_to_the_service(start_engine: StartEngine) -> None:
    """systemd and terminals signal all processes of a service at once: every reply that is to finish would wait for
    another engine to load the model, and nothing would be parked."""
    asking = await start_engine(slots=1)
    reply = asking.ask(prompt(1, 20), 300)
    await asking.until(lambda: len(reply.tokens) > 5)
    assert asking.client.pid
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(asking.client.pid, number)
    assert len((await reply.end()).tokens) == 300
    assert asking.client.restarts == 0
