"""Many replies at once: the same text as alone, tokens that keep flowing, and nobody refused when KV is short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import openai
from tests.acceptance.asking import Answer, ask, async_client, chat_stream, conversation
from tests.conftest import Server

LINES = [0, 2, 5, 10, 20, 40, 80, 105]  # facts in the system prompt: about 10 to 1,500 tokens


async def test_32_streams_say_what_they_say_alone(client: openai.AsyncOpenAI) -> None:
    """Breaks if batching, chunked prefill, prefix reuse or slot moves change a single token of anybody's answer."""
    prompts = [conversation(i, LINES[i % len(LINES)]) for i in range(32)]
    alone = [await ask(client, prompt) for prompt in prompts]
    together = await asyncio.gather(*(ask(client, prompt) for prompt in prompts))
    lengths = [answer.prompt_tokens for answer in alone]
    assert min(lengths) < 400
    assert max(lengths) > 1300, lengths
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.finish for a in together] == [a.finish for a in alone]
    assert [a.completion_tokens for a in together] == [a.completion_tokens for a in alone]


async def test_streams_flow_beside_a_long_prompt(client: openai.AsyncOpenAI) -> None:
    """Breaks if running streams get fewer tokens than one per chunk of the newcomer's prompt (chunks of 128)."""
    arrivals: list[float] = []
    loop = asyncio.get_running_loop()

    begun = [asyncio.Event() for _ in range(3)]

    async def watch(index: int) -> None:
        options = {"max_tokens": 2500, "logprobs": True, "extra_body": {"ignore_eos": True}}
        async for chunk in chat_stream(client, conversation(200 + index, 2), **options):
            for choice in chunk.choices:  # one chunk may bring several tokens
                for _ in (choice.logprobs and choice.logprobs.content) or []:
                    arrivals.append(loop.time())
                    begun[index].set()

    streams = [asyncio.create_task(watch(i)) for i in range(3)]
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in begun)), 60)
    sent = loop.time()
    long = await ask(client, conversation(204, 110), max_tokens=2)
    running = [task for task in streams if not task.done()]
    for task in streams:
        task.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    between = [at for at in arrivals if sent < at < long.arrivals[0]]
    assert running, "the streams ended before the long prompt was there: nothing was shown"
    assert len(between) >= len(running) * (long.prompt_tokens - long.cached_tokens) // 128 // 2


async def test_leaving_in_mid_prefill_stops_the_work(start_server: Callable[..., Server]) -> None:
    """Breaks if a prompt is computed to its end although its reader has gone: the cache would hold all of it."""
    server = start_server(chunk="16", chunk_busy="16")
    prompt = conversation(7, 250)  # so long that it is left in the middle of it
    async with async_client(server) as client:
        task = asyncio.create_task(ask(client, prompt))
        await asyncio.to_thread(server.wait_for, "running", 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(server.wait_idle)
        again = await ask(client, prompt, max_tokens=1)
    assert again.prompt_tokens > 3000
    assert again.cached_tokens < again.prompt_tokens - 16


async def test_kv_smaller_than_the_load(start_server: Callable[..., Server]) -> None:
    """Breaks if a full KV cache gives anybody an error or another text: somebody must step back and finish later.

    In a shared pool the order of cells, and with it the last bits of a sum, depends on who else is there; so answers
    are only compared where no token was a near tie (less than 0.1 in log-probability to the second best), and up to
    where the model would have ended its turn: the replies go on beyond that only to fill the cache.
    """
    server = start_server("--ctx", "640", "--kv-tokens", "768", "--slots", "8")
    options = {"max_tokens": 120, "logprobs": True, "top_logprobs": 2}
    prompts = [conversation(300 + i, 12) for i in range(8)]
    async with async_client(server) as client:
        alone = [await ask(client, prompt, **options) for prompt in prompts]
        longer = options | {"extra_body": {"ignore_eos": True}}
        together = await asyncio.gather(*(ask(client, prompt, **longer) for prompt in prompts))
    state = server.ready()
    assert sum(a.prompt_tokens + a.completion_tokens for a in together) > 2 * 768
    assert state["preempted"] > 0, "nobody had to step back: the test shows nothing"
    assert [(a.finish, a.completion_tokens) for a in together] == [("length", 120)] * 8
    compared = [same_until_tie(a, b) for a, b in zip(alone, together, strict=True)]
    assert sum(compared) >= 40, "too few clear tokens to compare"


def same_until_tie(alone: Answer, other: Answer) -> int:
    """Compare two answers up to the first near tie; returns how many tokens were compared."""
    clear = next((i for i, margin in enumerate(alone.margins) if margin < 0.1), len(alone.margins))
    prefix = alone.text[: int(len(alone.text) * clear / max(1, len(alone.margins)) * 0.8)]
    assert other.text.startswith(prefix), (prefix, other.text)
    return clear
