"""Throughput and latency of a server under N streams at once, or whether its replies depend on what else it computes.

    python bench/load.py --url http://127.0.0.1:8000 --streams 1,8 --prompt-tokens 128 --new-tokens 128 --repeat 3
    python bench/load.py --url http://127.0.0.1:8000 --equal

All streams of a round start together, are greedy, ignore the end of turn and have distinct prompts. The numbers of
streams take turns (1 8 1 8 ...), so that a slow minute of the machine hits all of them. With `--pid`, the server's
process id, it also tells the CPU time of a token, which a busy machine changes little.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

from report import cpu_seconds, percentile, show, spread
from sized_prompts import Prompts, calibrate
from sse_client import Answer, Client

EQUAL_STREAMS = 32
SHORTEST, LONGEST = 10, 1500  # tokens of the prompts in --equal


@dataclass(frozen=True, slots=True)
class Round:
    """`streams` replies at once. `total` is tokens by the time from the first request to the last token, prefill
    included; `steady` counts only while all streams were writing. Times in milliseconds."""

    streams: int
    prompt_tokens: float
    tokens: int
    total: float
    steady: float
    first_p50: float
    first_p95: float
    gap_p50: float
    gap_p99: float
    errors: int
    service_cpu: float = 0.0  # microseconds per token
    engine_cpu: float = 0.0


async def measure(client: Client, prompts: Prompts, n: int, prompt: int, new: int, rng: random.Random) -> Round:
    messages = [prompts.messages(rng, prompt) for _ in range(n)]
    began = perf_counter()
    answers = await asyncio.gather(*(client.chat(each, new) for each in messages))
    good = [answer for answer in answers if not answer.error]
    for answer in answers:
        if answer.error:
            print(f"error: {answer.error}")
    if not good:
        raise SystemExit("no reply succeeded")
    return _round(n, began, good, errors=n - len(good))


def _round(n: int, began: float, answers: list[Answer], errors: int) -> Round:
    first = [1000 * (answer.first - answer.sent) for answer in answers]
    gaps = [1000 * gap for answer in answers for gap in answer.gaps]
    tokens = sum(answer.tokens for answer in answers)
    return Round(
        streams=n,
        prompt_tokens=statistics.mean(answer.prompt_tokens for answer in answers),
        tokens=tokens,
        total=tokens / (max(answer.last for answer in answers) - began),
        steady=_steady(answers),
        first_p50=percentile(first, 50),
        first_p95=percentile(first, 95),
        gap_p50=percentile(gaps, 50),
        gap_p99=percentile(gaps, 99),
        errors=errors,
    )


def _steady(answers: list[Answer]) -> float:
    """Tokens a second while every stream was writing; 0 if they never all were. A frame counts its stream's mean."""
    begin, end = max(answer.first for answer in answers), min(answer.last for answer in answers)
    if end <= begin:
        return 0.0
    each = [sum(begin < t <= end for t in a.arrivals) * a.tokens / len(a.arrivals) for a in answers]
    return sum(each) / (end - begin)


async def load(
    client: Client, streams: list[int], prompt: int, new: int, repeat: int, pid: int | None = None
) -> list[Round]:
    prompts = await calibrate(client)
    rng = random.Random(perf_counter())
    await measure(client, prompts, max(streams), prompt, min(new, 16), rng)  # warm up
    rounds = []
    for _ in range(repeat):
        for n in streams:
            before = cpu_seconds(pid) if pid else (0.0, 0.0)
            done = await measure(client, prompts, n, prompt, new, rng)
            after = cpu_seconds(pid) if pid else (0.0, 0.0)
            service, engine = (1e6 * (b - a) / done.tokens for a, b in zip(before, after, strict=True))
            rounds.append(replace(done, service_cpu=service, engine_cpu=engine))
            print(f"  {n} streams: {rounds[-1].total:.1f} tokens/s, steady {rounds[-1].steady:.1f}", flush=True)
    return rounds


def rows(rounds: list[Round], streams: list[int]) -> list[dict[str, object]]:
    found = []
    for n in streams:
        own = [r for r in rounds if r.streams == n]
        found.append(
            {
                "streams": n,
                "prompt": f"{statistics.mean(r.prompt_tokens for r in own):.0f}",
                "tokens/s": spread([r.total for r in own]),
                "while all write": spread([r.steady for r in own]),
                "TTFT P50 ms": spread([r.first_p50 for r in own], 0),
                "TTFT P95 ms": spread([r.first_p95 for r in own], 0),
                "gap P50 ms": spread([r.gap_p50 for r in own]),
                "gap P99 ms": spread([r.gap_p99 for r in own]),
                "CPU us/token, service": spread([r.service_cpu for r in own], 0),
                "CPU us/token, engine": spread([r.engine_cpu for r in own], 0),
                "errors": sum(r.errors for r in own),
            }
        )
    return found


def ratios(rounds: list[Round], streams: list[int]) -> dict[str, list[float]]:
    """Largest against smallest number of streams, a ratio for each pair of neighbouring rounds."""
    few = [r for r in rounds if r.streams == min(streams)]
    many = [r for r in rounds if r.streams == max(streams)]
    pairs = list(zip(few, many, strict=True))
    return {
        "tokens/s": [b.total / a.total for a, b in pairs],
        "while all write": [b.steady / a.steady for a, b in pairs if a.steady],
    }


async def equal(client: Client, new: int) -> tuple[list[dict[str, object]], bool]:
    """32 replies at once against the same 32 one after the other."""
    prompts, rng = await calibrate(client), random.Random(7)
    sizes = [round(SHORTEST + (LONGEST - SHORTEST) * i / (EQUAL_STREAMS - 1)) for i in range(EQUAL_STREAMS)]
    rng.shuffle(sizes)
    messages = [prompts.messages(rng, size) for size in sizes]
    together = await asyncio.gather(*(client.chat(each, new) for each in messages))
    print(f"  together: done, {sum(bool(a.error) for a in together)} errors", flush=True)
    alone = []
    for each in messages:
        alone.append(await client.chat(each, new))
    found: list[dict[str, object]] = [
        {
            "prompt": a.prompt_tokens,
            "cached": a.cached_tokens,
            "error": a.error or b.error,
            "same": _same(a.text, b.text),
        }
        for a, b in zip(together, alone, strict=True)
    ]
    ok = all(row["same"] == "yes" and not row["error"] for row in found)
    return sorted(found, key=lambda row: int(str(row["prompt"]))), ok


def _same(a: str, b: str) -> str:
    if a == b:
        return "yes"
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"no, from character {at}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a running server under several streams at once.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", help="unset: the server's default")
    parser.add_argument("--streams", default="1,8", help="numbers of streams, separated by commas")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pid", type=int, help="the server's process id, to tell its CPU time")
    parser.add_argument("--equal", action="store_true", help="compare 32 replies at once with the same ones alone")
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    client = Client(options.url, options.model)
    if options.equal:
        found, ok = asyncio.run(equal(client, options.new_tokens))
        show(f"{EQUAL_STREAMS} streams against alone: {'all equal' if ok else 'DIFFERENT'}", found, found, options.json)
        raise SystemExit(not ok)
    streams = [int(n) for n in options.streams.split(",")]
    rounds = asyncio.run(load(client, streams, options.prompt_tokens, options.new_tokens, options.repeat, options.pid))
    told = ratios(rounds, streams)
    title = f"{max(streams)} : {min(streams)} streams, " + ", ".join(f"{k} x{spread(v, 2)}" for k, v in told.items())
    show(title, rows(rounds, streams), {"rounds": [asdict(r) for r in rounds], "ratios": told}, options.json)


if __name__ == "__main__":
    main()
