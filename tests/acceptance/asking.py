"""What the acceptance tests send, and what a streaming client saw of the answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import openai
from tests.conftest import ROOT, Server

MODEL = "frontdesk-small"
FACTS = (
    "Our shop is called Brindle Garden.",
    "We are open from 9:30 to 18:30, Monday to Saturday.",
    "The phone number is 555-0147.",
    "Returns are accepted within 34 days.",
    "Standard shipping costs $6.40 and takes 3-5 business days.",
    "The warranty is 27 months.",
    "The folding chair costs $58.",
    "Gift wrapping costs $3.20.",
)
QUESTIONS = (
    "When are you open?",
    "What is your phone number?",
    "How long can I return things?",
    "What does shipping cost?",
    "How long is the warranty?",
    "What does the folding chair cost?",
    "Can you gift wrap my order?",
    "Can you tell me a joke?",
)


def conversation(index: int, lines: int) -> list[dict[str, str]]:
    """A conversation of its own for each index; `lines` facts make its system prompt about 13 tokens longer each."""
    facts = "\n".join(f"{number}. {FACTS[(number + index) % len(FACTS)]}" for number in range(1, lines + 1))
    system = [{"role": "system", "content": f"Customer {index}.\n{facts}"}] if lines else []
    return [*system, {"role": "user", "content": QUESTIONS[index % len(QUESTIONS)]}]


@dataclass
class Answer:
    """What a streaming client saw."""

    text: str = ""
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    margins: list[float] = field(default_factory=list)  # log-probability between the best two tokens, per token
    arrivals: list[float] = field(default_factory=list)  # seconds of the loop's clock, per chunk with text


async def ask(client: openai.AsyncOpenAI, messages: list[dict[str, str]], **options: Any) -> Answer:
    """Stream one greedy chat completion to its end."""
    answer = Answer()
    async for chunk in chat_stream(client, messages, **options):
        if chunk.usage:
            answer.prompt_tokens = chunk.usage.prompt_tokens
            answer.completion_tokens = chunk.usage.completion_tokens
            answer.cached_tokens = chunk.usage.prompt_tokens_details.cached_tokens
        for choice in chunk.choices:
            answer.finish = choice.finish_reason or answer.finish
            if choice.delta.content:
                answer.text += choice.delta.content
                answer.arrivals.append(asyncio.get_running_loop().time())
            for token in (choice.logprobs and choice.logprobs.content) or []:
                best = [entry.logprob for entry in token.top_logprobs]
                answer.margins.append(best[0] - best[1])
    return answer


async def chat_stream(client: openai.AsyncOpenAI, messages: list[dict[str, str]], **options: Any) -> AsyncIterator[Any]:
    settings: dict[str, Any] = {"model": MODEL, "max_tokens": 60, "temperature": 0, **options}
    create: Any = client.chat.completions.create  # plain dicts, where its types want one class for each role
    async with await create(
        messages=messages, stream=True, stream_options={"include_usage": True}, **settings
    ) as stream:
        async for chunk in stream:
            yield chunk


def async_client(server: Server) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def loose_client(server: Server, key: str = "none") -> Any:
    """The same for tests that send plain dicts and our own fields, which the package's types do not know."""
    return openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=120)


def create_key(server: Server, name: str, *flags: str) -> str:
    """A new API key in a running server's database, as an operator makes one: `frontdesk keys create`."""
    command = [sys.executable, "-m", "frontdesk", "keys", "create", name, "--database", server.database, *flags]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "backend")]))
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": path})
    key = made.stdout.strip()
    assert key.startswith("fd_"), made.stdout + made.stderr
    return key


@dataclass(frozen=True)
class Shop:
    """A server that asks for keys, and the keys of two owners."""

    server: Server
    alice: str
    bob: str


def said(text: str, role: str = "user") -> dict[str, str]:
    """A message as the Responses API takes it."""
    return {"type": "message", "role": role, "content": text}


async def first_id(client: Any, conversation: str) -> str:
    """Id of a conversation's oldest item."""
    return (await client.conversations.items.list(conversation, order="asc", limit=1)).data[0].id
