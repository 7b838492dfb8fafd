"""What one token costs outside llama.cpp, part by part, in microseconds; and the engine loop's own share of a step.

    python bench/profile_tokens.py --model bench/models/qwen2.5-0.5b-q8_0.gguf

The parts are the product's own objects, fed with what they get in a server, each timed alone. Logits rotate over more
memory than the caches hold, since a decode leaves them cold. The loop's share is measured in a real engine process.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import uvloop
from msgspec.structs import replace
from report import show

from frontdesk.bench.figures import percentile, spread
from frontdesk.chat.decoder import Decoder
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.sampling import DEFAULTS
from frontdesk.chat.streams import StreamLog
from frontdesk.config import engine_environment, prompts_folder
from frontdesk.config import load as load_settings
from frontdesk.engine.batch import Sampled
from frontdesk.engine.kv_cache import KVCache
from frontdesk.engine.request import SamplingParams, SequenceOutput
from frontdesk.engine.scheduler import Scheduler
from frontdesk.engine.sequence import Sequence
from frontdesk.errors import FrontdeskError
from frontdesk.fleet.tokenizer import Tokenizer, open_tokenizer
from frontdesk.generation import Delta, Started
from frontdesk.llamacpp.rows import Rows
from frontdesk.llamacpp.sampler import Sampler
from frontdesk.server.app import model_card
from frontdesk.server.plan import plan
from frontdesk.server.sse import EventStream
from frontdesk.wire._format import Identity
from frontdesk.wire.openai_chat import OpenAIChat
from frontdesk.worker import protocol
from frontdesk.worker.client import EngineClient
from frontdesk.worker.protocol import Load, Stepped, StepStats
from frontdesk.worker.spawn import receive

STREAMS: Final = (1, 8, 16)
PROMPT: Final = 256  # tokens of each sequence before it decodes
VOCABULARIES: Final = (4_096, 151_936)
COLD_BYTES: Final = 96 * 1024 * 1024  # more than a last-level cache
GREEDY: Final = replace(DEFAULTS, temperature=0.0)
SAMPLED: Final = replace(DEFAULTS, seed=11)
STATS: Final = StepStats(8, 0, 2048, 32_768, 0, 8, 0, 0.1, 0.099)

Costs = dict[str, list[float]]  # part -> microseconds per token, one value per round


def per_token(work: Callable[[], object], tokens: int, rounds: int) -> list[float]:
    """Microseconds per token of each call; the first tenth warms up."""
    times = []
    for _ in range(rounds + rounds // 10):
        began = perf_counter()
        work()
        times.append(1e6 * (perf_counter() - began) / tokens)
    return times[rounds // 10 :]


# --- the engine's parts -----------------------------------------------------------------------------------------------


def sequences(n: int, sampling: SamplingParams) -> list[Sequence]:
    rng = random.Random(3)
    return [
        Sequence(
            i, [rng.randrange(4000) for _ in range(PROMPT)], PROMPT, 1_000_000, 1_000_000, frozenset([2]), sampling
        )
        for i in range(n)
    ]


def scheduling(n: int, rounds: int) -> Costs:
    """A step of n decoding sequences: plan, batch fill, update."""
    scheduler = Scheduler(KVCache(n, n * 65_536, unified=False), slots=n, chunk=512, chunk_busy=128)
    for sequence in sequences(n, GREEDY):
        scheduler.add(sequence)
    rows = Rows(n + 512)
    while len((batch := scheduler.plan()).chunks) < n or batch.rows > n:
        scheduler.update(batch, [Sampled(7)] * sum(chunk.sample for chunk in batch.chunks))
    found: Costs = {"scheduler: plan": [], "batch fill": [], "scheduler: update": []}
    scheduler.update(batch, [Sampled(7)] * n)
    for _ in range(rounds):
        batch = _timed(found["scheduler: plan"], n, scheduler.plan)
        _timed(found["batch fill"], n, lambda batch=batch: rows.fill(batch.chunks))
        _timed(found["scheduler: update"], n, lambda batch=batch: scheduler.update(batch, [Sampled(7)] * n))
    return found


def _timed(into: list[float], tokens: int, work: Callable[[], Any]) -> Any:
    began = perf_counter()
    result = work()
    into.append(1e6 * (perf_counter() - began) / tokens)
    return result


def sampling(n: int, rounds: int) -> Costs:
    """Greedy, and llama.cpp's default chain, for a small and a large vocabulary."""
    found: Costs = {}
    for n_vocab in VOCABULARIES:
        logits = _cold_logits(n, n_vocab)
        for name, params in {"greedy": GREEDY, "default": SAMPLED}.items():
            sampler, drawing = Sampler(), sequences(n, params)
            part = f"sampling: {name}, V={n_vocab:,}"
            found[part] = per_token(lambda s=sampler, d=drawing, rows=logits: s.sample(next(rows), d), n, rounds)
    return found


def _cold_logits(n: int, n_vocab: int) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(5)
    one = 3 * rng.standard_normal((n, n_vocab), dtype=np.float32)
    copies = [one.copy() for _ in range(max(2, COLD_BYTES // one.nbytes))]
    while True:
        yield from copies


# --- the service's parts ----------------------------------------------------------------------------------------------


async def ipc(n: int, rounds: int) -> Costs:
    """One message of n outputs: built, encoded, sent over a UNIX socket, received by the event loop, decoded."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    whole, encode = [], []
    for _ in range(rounds):
        began = perf_counter()
        frame = protocol.encode(Stepped(tuple(SequenceOutput(i, (1234,)) for i in range(n)), STATS))
        encode.append(1e6 * (perf_counter() - began) / n)
        theirs.sendall(frame)
        await receive(reader)
        whole.append(1e6 * (perf_counter() - began) / n)
    writer.close()
    theirs.close()
    return {"IPC: encode": encode, "IPC: encode, send, receive, decode": whole}


def decoding(n: int, rounds: int, tokenizer: Tokenizer) -> Costs:
    """Token ids to deltas, without and with stop strings."""
    ids = tokenizer.encode("The parcel leaves the garden station before Monday evening. ")
    found: Costs = {}
    for part, stop in {"decoder": (), "decoder, 2 stop strings": ("\n\nUser:", "</answer>")}.items():
        decoders = [Decoder(tokenizer.token_bytes, stop) for _ in range(n)]
        tokens = _forever(ids)
        found[part] = per_token(lambda ds=decoders, ts=tokens: [d.feed((next(ts),)) for d in ds], n, rounds)
    return found


def _forever(ids: list[int]) -> Iterator[int]:
    while True:
        yield from ids


async def waking(n: int, rounds: int) -> Costs:
    """Append to n logs, each with a reader that waits, until all readers have read."""
    logs = [StreamLog() for _ in range(n)]
    for log in logs:
        log.append(Started("model", 0))
    seen = [0] * n

    async def read(i: int) -> None:
        async for batch in logs[i].read():
            seen[i] += len(batch)

    readers = [asyncio.create_task(read(i)) for i in range(n)]
    await asyncio.sleep(0.01)
    times = []
    for done in range(2, rounds + 2):
        began = perf_counter()
        for log in logs:
            log.append(Delta("word", 1))
        while min(seen) < done:  # noqa: ASYNC110
            await asyncio.sleep(0)
        times.append(1e6 * (perf_counter() - began) / n)
    for reader in readers:
        reader.cancel()
    return {"log: append, wake, read": times}


def encoding(n: int, rounds: int) -> Costs:
    """A delta to an SSE frame of Chat Completions."""
    format = OpenAIChat()
    call = format.parse({"messages": [{"role": "user", "content": "x"}], "stream": True})
    encoders = [format.encoder(call, Identity("0" * 32, "model", 0)) for _ in range(n)]
    delta = [Delta(" word", 1)]
    return {"SSE encode": per_token(lambda: [encoder.encode(0, delta) for encoder in encoders], n, rounds)}


async def sending(n: int, rounds: int) -> Costs:
    """A frame through the SSE response to an ASGI server that does nothing."""
    times: list[float] = []

    async def frames() -> AsyncIterator[bytes]:
        last = perf_counter()
        for _ in range(rounds):
            yield b"data: {}\n\n"
            now = perf_counter()
            times.append(1e6 * (now - last))
            last = now

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None: ...

    stream = EventStream(frames(), on_end=lambda: None, comment=lambda: "", ping_seconds=60)
    await stream({"type": "http", "method": "POST", "asgi": {"version": "3.0"}}, receive, send)
    return {"SSE response (null server)": times}


# --- the whole loop ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Steps:
    """What an engine tells of its steps: the statistics, and when they came."""

    engine: EngineClient
    found: list[tuple[float, StepStats]] = field(default_factory=list)
    open: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, output: SequenceOutput) -> None:
        stats = self.engine.stats
        if stats and (not self.found or self.found[-1][1] is not stats):
            self.found.append((perf_counter(), stats))
        self.open -= bool(output.finish)
        if not self.open:
            self.done.set()

    def failed(self, error: FrontdeskError) -> None:
        raise error


@dataclass(frozen=True, slots=True)
class Overhead:
    """Of pure decode steps with `streams` sequences. `step` in milliseconds; shares in percent.

    `inside` is what a step spends outside llama_decode (plan, fill, sample, update); `around` also counts what happens
    between steps (sending, the inbox) as seen from the service: 1 - decode time / wall time.
    """

    streams: int
    step: float
    decode: float
    inside: float
    around: float


async def overhead(load: Load, n: int, steps: int, params: SamplingParams) -> Overhead:
    engine = EngineClient(load, engine_environment())
    await engine.start()
    try:
        watch = Steps(engine, open=n)
        for sequence in sequences(n, params):
            engine.submit(
                tuple(sequence.tokens), sampling=params, max_tokens=steps, stop_tokens=(), top_logprobs=-1, tenant=0,
                on_output=watch.note, on_failed=watch.failed,
            )  # fmt: skip
        await watch.done.wait()
    finally:
        await engine.close()
    return _overhead(n, [(at, s) for at, s in watch.found if s.decode_tokens == n and not s.prompt_tokens])


def _overhead(n: int, steps: list[tuple[float, StepStats]]) -> Overhead:
    """Medians, so that a step during which somebody else had the core does not count."""
    inside = [100 * (1 - s.decode_seconds / s.step_seconds) for _, s in steps]
    around = [100 * (1 - s.decode_seconds / (at - before)) for (before, _), (at, s) in pairwise(steps)]
    return Overhead(
        streams=n,
        step=1e3 * statistics.median(s.step_seconds for _, s in steps),
        decode=1e3 * statistics.median(s.decode_seconds for _, s in steps),
        inside=statistics.median(inside),
        around=statistics.median(around),
    )


async def profile(tokenizer: Tokenizer, rounds: int) -> dict[int, Costs]:
    found: dict[int, Costs] = {}
    for n in STREAMS:
        found[n] = scheduling(n, rounds) | sampling(n, min(rounds, 200)) | await ipc(n, rounds)
        found[n] |= decoding(n, rounds, tokenizer) | await waking(n, rounds) | encoding(n, rounds)
        found[n] |= await sending(n, rounds)
        print(f"  {n} streams: done", flush=True)
    return found


def rows(found: dict[int, Costs]) -> list[dict[str, str]]:
    parts = list(found[STREAMS[0]])
    return [
        {"part, us per token": part}
        | {
            f"N={n}": f"{statistics.median(found[n][part]):.1f} (P95 {percentile(found[n][part], 95):.1f})"
            for n in STREAMS
        }
        for part in parts
    ]


def loop_rows(found: list[list[Overhead]]) -> list[dict[str, object]]:
    return [
        {
            "streams": runs[0].streams,
            "step ms": spread([run.step for run in runs], 2),
            "llama_decode ms": spread([run.decode for run in runs], 2),
            "loop's own %": spread([run.inside for run in runs], 2),
            "all outside llama_decode %": spread([run.around for run in runs], 2),
        }
        for runs in found
    ]


async def loops(
    load: Load, streams: list[int], steps: int, repeat: int, params: SamplingParams
) -> list[list[Overhead]]:
    found: list[list[Overhead]] = [[] for _ in streams]
    for _ in range(repeat):
        for runs, n in zip(found, streams, strict=True):
            runs.append(await overhead(load, n, steps, params))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a token outside llama.cpp.")
    parser.add_argument("--model", help="a name in the manifest or a .gguf file; unset: the shipped model")
    parser.add_argument("--exact", action=argparse.BooleanOptionalAction, help="unset: as the manifest says")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--sampled", action="store_true", help="run the engine with default sampling, not greedy")
    parser.add_argument("--rounds", type=int, default=1000, help="of each part")
    parser.add_argument("--steps", type=int, default=100, help="decode steps of the engine")
    parser.add_argument("--repeat", type=int, default=3, help="runs of the engine")
    parser.add_argument("--only-loop", action="store_true", help="leave out the parts")
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    settings = load_settings(arguments={"model": options.model, "exact": options.exact, "threads": options.threads})
    card = model_card(settings, load_personas(prompts_folder()))
    load = plan(settings, card)
    parts: dict[int, Costs] = {}
    if not options.only_loop:
        parts = uvloop.run(profile(open_tokenizer(card.path), options.rounds))
    params = SAMPLED if options.sampled else GREEDY
    found = uvloop.run(loops(load, list(STREAMS), options.steps, options.repeat, params))
    title = f"{card.name}, exact {load.exact}, threads {load.threads}, {'sampled' if options.sampled else 'greedy'}"
    details = {n: {part: statistics.median(times) for part, times in costs.items()} for n, costs in parts.items()}
    if parts:
        show("Cost of a token outside llama.cpp", rows(parts), details, options.json)
    show(
        f"The engine's loop: {title}", loop_rows(found), [[asdict(run) for run in runs] for runs in found], options.json
    )


if __name__ == "__main__":
    main()
