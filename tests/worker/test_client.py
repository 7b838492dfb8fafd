"""An engine may die at any instruction: no reader notices more than a pause. Real processes, real kills."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from frontdesk.errors import EngineDied, EngineFailed, EngineNotReady, ModelLoadFailed
from frontdesk.worker.client import STRIKES, EngineClient, Request
from frontdesk.worker.protocol import Load, SamplingParams, Submit
from frontdesk.worker.spawn import Child

if TYPE_CHECKING:
    from tests.worker.conftest import Asking, Heard

StartEngine = Callable[..., Awaitable["Asking"]]
ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "weights" / "frontdesk-small-q8_0.gguf"
POISON = (10**6, 10**6)  # no such tokens: the service refuses them, llama.cpp gives up and the engine's process ends


def prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(300 + (seed * 7919 + i * i * 31) % 1700 for i in range(length))


def sampled(seed: int) -> SamplingParams:
    return SamplingParams(1.0, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 1.0, 64, (), seed)


def kill(asking: Asking) -> None:
    assert asking.client.pid
    os.kill(asking.client.pid, signal.SIGKILL)


def ask_eight(asking: Asking, most: int = 60) -> list[Heard]:
    """Half of them greedy, half drawn; prompts of 5 to 300 tokens."""
    return [
        asking.ask(prompt(i, 5 + 42 * i), most, sampled(i) if i % 2 else None, tenant=i)  # own tenants: nothing cached
        for i in range(8)
    ]


async def tokens_of(replies: list[Heard]) -> list[list[int]]:
    return [(await reply.end()).tokens for reply in replies]


def broken(_: object) -> None:
    raise RuntimeError("a bug")


def test_another_engine_is_told_all_of_a_request() -> None:
    """After a crash a reply would go on under other rules: past its stop tokens, without its logprobs, or with the
    prefix of another customer."""
    request = Request(Submit(7, (300, 301), (302,), 9, (4, 5), sampled(5), 2, 6, 1), broken, broken, [302, 303])
    assert all(getattr(request.submit, field.name) != field.default for field in msgspec.structs.fields(Submit))
    assert request.continuation() == Submit(7, (300, 301), (302, 303), 9, (4, 5), sampled(5), 2, 6, 1)


@pytest.mark.parametrize("spoken", [1, 40, 200])
async def test_a_killed_engine_is_only_a_pause(start_engine: StartEngine, spoken: int) -> None:
    """After a crash readers would see tokens twice, miss some, or read another text."""
    asking = await start_engine()
    undisturbed = await tokens_of(ask_eight(asking, most=150))
    replies = ask_eight(asking, most=150)
    await asking.until(lambda: sum(len(reply.tokens) for reply in replies) >= spoken)
    kill(asking)
    assert await tokens_of(replies) == undisturbed
    assert asking.client.restarts == 1
    assert all(len(reply.cached) == 1 and reply.finish == "length" for reply in replies)


async def test_killed_in_prefill_and_again_while_loading(start_engine: StartEngine) -> None:
    """A second misfortune during recovery would lose the replies that survived the first."""
    asking = await start_engine(chunk=4, slots=1, window=2048, kv_cells=2048)
    undisturbed = await tokens_of([asking.ask(prompt(1, 1990), 10, tenant=1)])
    replies = [asking.ask(prompt(1, 1990), 10, tenant=2)]
    await asyncio.sleep(0.01)
    assert not replies[0].tokens
    first = asking.client.pid
    kill(asking)
    await asking.until(lambda: asking.client.pid != first and not asking.client.alive)
    kill(asking)
    assert await tokens_of(replies) == undisturbed


async def test_requests_that_come_while_the_engine_is_dead_are_answered(start_engine: StartEngine) -> None:
    """Whoever asks during a restart would wait for ever."""
    asking = await start_engine()
    kill(asking)
    await asking.until(lambda: not asking.client.alive)
    replies = [asking.ask(prompt(i, 20), 5) for i in range(5)]
    asking.client.abort(replies[0].ticket)
    asking.client.abort(replies[3].ticket)
    await tokens_of([replies[1], replies[2], replies[4]])
    assert not replies[0].tokens
    assert asking.client.open_requests == 0


async def test_a_request_that_kills_its_engine_fails_alone(start_engine: StartEngine) -> None:
    """One bad request would take the replies of all others down with it, again and again."""
    asking = await start_engine()
    undisturbed = await tokens_of(ask_eight(asking))
    replies = ask_eight(asking)
    await asking.until(lambda: sum(len(reply.tokens) for reply in replies) >= 20)
    poison = asking.ask(POISON)
    late = asking.ask(prompt(50, 20), 5)
    await poison.end()
    assert isinstance(poison.error, EngineDied)
    assert str(poison.error).endswith("every time it worked on this request: exit code 1")
    assert await tokens_of(replies) == undisturbed
    assert len((await late.end()).tokens) == 5
    assert asking.client.restarts == 1 + STRIKES


async def test_the_culprit_is_found_among_the_silent(start_engine: StartEngine) -> None:
    """Innocent requests that never got their turn would fail in place of the one that kills."""
    asking = await start_engine()
    before = [asking.ask(prompt(i, 30), 5) for i in range(3)]
    poison = asking.ask(POISON)
    after = [asking.ask(prompt(i, 30), 5) for i in range(3, 6)]
    assert isinstance((await poison.end()).error, EngineDied)
    assert all(len(tokens) == 5 for tokens in await tokens_of(before + after))


async def test_restarts_back_off(start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that dies as soon as it is up would be started as fast as the machine can, or one that dies once a day
    be waited for longer every time."""
    asking = await start_engine()
    pauses, slept, sleep = (0.01, 0.02, 0.03), list[float](), asyncio.sleep

    async def spied(seconds: float, *more: object) -> None:
        slept.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr("frontdesk.worker.client.BACKOFF", pauses)
    monkeypatch.setattr("asyncio.sleep", spied)
    for restarts in range(1, 5):
        if restarts == 4:
            await asking.ask(prompt(1, 5), 1).end()  # progress
        kill(asking)
        await asking.until(lambda restarts=restarts: asking.client.restarts == restarts and asking.client.alive)
    assert [seconds for seconds in slept if seconds in pauses] == [0.02, 0.03, 0.03, 0.01]


async def test_an_engine_that_cannot_be_started_again(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Open replies, and whoever asks later, would wait for ever; or the server have to be restarted when the model is
    there again."""
    monkeypatch.setattr("frontdesk.worker.client.BACKOFF", (0.0,) * 3)
    asking = await start_engine()
    load = asking.client.load
    asking.client.load = msgspec.structs.replace(load, path=str(tmp_path / "gone.gguf"))
    before = asking.ask(prompt(1, 10), 400)
    kill(asking)
    errors = [(await before.end()).error, (await asking.ask(prompt(2, 10), 5).end()).error]
    assert [type(error) for error in errors] == [EngineDied] * 2
    assert all("cannot be started again" in str(error) for error in errors)
    assert asking.client.open_requests == 0
    asking.client.load = load
    await asking.until(lambda: asking.client.alive)
    assert len((await asking.ask(prompt(3, 10), 5).end()).tokens) == 5


@pytest.mark.parametrize("how", ["renamed", "written", "while the next engine loads"])
async def test_a_replaced_model_is_not_gone_on_with(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """One half of a reply would be another model's, and whoever comes later be answered in a wrong vocabulary."""
    file, other = tmp_path / "model.gguf", tmp_path / "other.gguf"
    for path in (file, other):
        path.write_bytes(SHIPPED.read_bytes())
    asking = await start_engine(path=str(file))
    reply = asking.ask(prompt(1, 50), 400)
    await asking.until(lambda: len(reply.tokens) > 5)
    if how == "renamed":
        other.replace(file)
    elif how == "written":
        os.utime(file, (1, 1))
    else:
        spawn = asking.client._spawn

        async def slow() -> Child:
            other.replace(file)
            return await spawn()

        monkeypatch.setattr(asking.client, "_spawn", slow)
    kill(asking)
    assert isinstance((await reply.end()).error, EngineDied)
    late = (await asking.ask(prompt(2, 10), 5).end()).error
    assert isinstance(late, EngineNotReady)
    assert "has been replaced" in str(reply.error)
    assert "has been replaced" in str(late)
    assert late.retry_after == math.inf
    assert not asking.client.alive
    assert asking.client.open_requests == 0


@pytest.mark.parametrize("chunk", [64, 4000])
async def test_abort_frees_the_slot_of_a_long_prefill(start_engine: StartEngine, chunk: int) -> None:
    """Whoever waits for the slot would wait until a prompt is computed that nobody wants any more."""
    asking = await start_engine(slots=2, window=4096, kv_cells=8192, chunk=chunk)
    long = asking.ask(prompt(1, 3990), 5)
    await asyncio.sleep(0.03)
    asking.client.abort(long.ticket)
    await asking.ask(prompt(2, 10), 5).end()
    assert not long.tokens
    assert asking.client.stats is not None
    assert asking.client.stats.kv_used < 3500  # what was computed stays as a prefix, in a slot that nobody else wanted


async def test_abort_is_final(start_engine: StartEngine) -> None:
    """A cancelled reply would go on to speak, or be computed to its end for nobody."""
    asking = await start_engine(slots=3, window=4096, kv_cells=3 * 4096)
    *replies, beside = [asking.ask(prompt(i, 10), most) for i, most in enumerate((4000, 4000, 200))]
    await asking.until(lambda: len(replies[1].tokens) > 3)
    for reply in replies:
        asking.client.abort(reply.ticket)
        asking.client.abort(reply.ticket)
    heard = [len(reply.tokens) for reply in replies]
    await tokens_of([beside, asking.ask(prompt(3, 10), 50)])
    assert [len(reply.tokens) for reply in replies] == heard
    assert asking.client.stats is not None
    assert asking.client.stats.running == 0


@contextmanager
def bugs_shown() -> Iterator[list[str]]:
    """What asyncio's handler is told meanwhile."""
    shown: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: shown.append(context["message"]))
    try:
        yield shown
    finally:
        loop.set_exception_handler(None)


async def test_a_fault_in_one_reader_harms_no_other(start_engine: StartEngine) -> None:
    """A bug in what is done with one reply's tokens would silence all replies for good."""
    asking = await start_engine()
    failed: list[Exception] = []
    with bugs_shown() as shown:
        asking.client.submit(
            prompt(1, 5), sampling=sampled(1), max_tokens=9, stop_tokens=(), top_logprobs=-1, tenant=0,
            on_output=broken, on_failed=failed.append,
        )  # fmt: skip
        assert len((await asking.ask(prompt(2, 5), 9).end()).tokens) == 9
    assert [type(error) for error in failed] == [EngineFailed]
    assert shown.count("a reply was broken off") == 1
    assert asking.client.restarts == 0


async def test_a_fault_in_what_tells_of_a_fault_harms_no_other(start_engine: StartEngine) -> None:
    """The supervision would end: no engine would be started again, and new requests would wait for ever."""
    asking = await start_engine()
    with bugs_shown() as shown:
        asking.client.submit(
            prompt(1, 5), sampling=sampled(1), max_tokens=9, stop_tokens=(), top_logprobs=-1, tenant=0,
            on_output=broken, on_failed=broken,
        )  # fmt: skip
        assert len((await asking.ask(prompt(2, 5), 9).end()).tokens) == 9
    assert shown.count("a reply was broken off") == 2
    assert len((await asking.ask(prompt(3, 5), 9).end()).tokens) == 9


async def test_after_a_fault_in_the_supervision_nobody_waits(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No engine would ever be started again, and every later request would wait for ever instead of being refused."""
    asking = await start_engine()
    monkeypatch.setattr(asking.client, "_deliver", broken)
    with bugs_shown() as shown:
        assert isinstance((await asking.ask(prompt(1, 5), 9).end()).error, EngineDied)
        assert isinstance((await asking.ask(prompt(2, 5), 9).end()).error, EngineDied)
    assert len(shown) == 1
    assert not asking.client.alive


async def test_as_many_replies_as_there_are_sequences(start_engine: StartEngine) -> None:
    """With a sequence for rows that fill up there is one less for replies: the last would end the engine."""
    asking = await start_engine(slots=256, kv_cells=256 * 32, window=256, pad_rows=True, kv_layout="unified")
    assert asking.client.ready
    assert asking.client.ready.slots == 255
    replies = [asking.ask(prompt(number, 6), 12) for number in range(257)]
    assert [len((await reply.end()).tokens) for reply in replies] == [12] * 257
    assert asking.client.restarts == 0


async def test_closing_fails_what_is_open(start_engine: StartEngine) -> None:
    """A server that stops would leave its readers waiting, or its engine running."""
    asking = await start_engine()
    reply = asking.ask(prompt(1, 10), 400)
    pid = asking.client.pid
    await asking.client.close()
    assert isinstance((await reply.end()).error, EngineNotReady)
    assert pid
    assert not alive(pid)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "missing"])
async def test_a_model_that_cannot_be_opened_is_told(tmp_path: Path, damage: str) -> None:
    """A broken download would look like a server that starts for ever."""
    file = tmp_path / "model.gguf"
    if damage == "garbage":
        file.write_bytes(b"GGUF" + bytes(range(256)) * 40)
    elif damage == "truncated":
        file.write_bytes(SHIPPED.read_bytes()[:3_000_000])
    client = EngineClient(Load(str(file), 512, 512, slots=1, threads=1, threads_least=1, chunk=64, chunk_busy=16))
    with pytest.raises(ModelLoadFailed):
        await client.start()
    assert client.pid
    assert not alive(client.pid)


PARENT = """
import asyncio, sys
from frontdesk.worker.client import EngineClient
from frontdesk.worker.protocol import Load, SamplingParams

async def main(path, busy):
    client = EngineClient(Load(path, 512, 512, slots=1, threads=1, threads_least=1, chunk=64, chunk_busy=16))
    await client.start()
    if busy:
        params = SamplingParams(0, 0, 1, 0, 1, 0, 0, 1, 0, (), 0)
        client.submit(tuple(range(300, 310)), sampling=params, max_tokens=500, stop_tokens=(), top_logprobs=-1,
                      tenant=0, on_output=lambda _: None, on_failed=lambda _: None)
    print(client.pid, flush=True)
    import time; time.sleep(60)  # reads nothing any more

asyncio.run(main(sys.argv[1], sys.argv[2] == "busy"))
"""


@pytest.mark.parametrize("state", ["busy", "idle"])
def test_no_engine_outlives_its_service(state: str) -> None:
    """Every crash of a server would leave a process behind that holds the model's memory."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(SHIPPED), state], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        engine = int(parent.stdout.readline())
        if state == "busy":
            time.sleep(1.0)  # let it finish, with its answers unread
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(engine):
        assert time.monotonic() < deadline, "the engine lives on"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A zombie that nobody collects is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
