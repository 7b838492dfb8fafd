"""Whether replies depend on what else the server computes: 32 replies at once against the same 32 alone.

    python bench/equal.py --url http://127.0.0.1:8000

Greedy replies to prompts of 10 to 1,500 tokens. The exit code is 1 when any differs; `cached` tells how much of a
prompt the second time found in the KV cache.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path

from report import show

from frontdesk.bench.client import Target

STREAMS = 32
SHORTEST, LONGEST = 10, 1500  # tokens of the prompts


async def equal(target: Target, new: int) -> tuple[list[dict[str, object]], bool]:
    sizes, rng = await target.sizes(), random.Random(7)
    lengths = [round(SHORTEST + (LONGEST - SHORTEST) * i / (STREAMS - 1)) for i in range(STREAMS)]
    rng.shuffle(lengths)
    messages = [sizes.messages(rng, length) for length in lengths]
    together = await asyncio.gather(*(target.chat(each, new) for each in messages))
    print(f"  together: done, {sum(bool(a.error) for a in together)} errors", flush=True)
    alone = [await target.chat(each, new) for each in messages]
    found: list[dict[str, object]] = [
        {
            "prompt": a.prompt_tokens,
            "cached": b.cached_tokens,
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
    parser = argparse.ArgumentParser(description="Compare 32 replies at once with the same ones alone.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", help="unset: the server's default")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--json", type=Path, help="write the JSON here")
    options = parser.parse_args()
    found, ok = asyncio.run(equal(Target(options.url, options.model), options.new_tokens))
    show(f"{STREAMS} streams against alone: {'all equal' if ok else 'DIFFERENT'}", found, found, options.json)
    raise SystemExit(not ok)


if __name__ == "__main__":
    main()
