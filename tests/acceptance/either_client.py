"""The sync and the async OpenAI client behind one way of calling, so that one test drives both, unmodified."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import openai

_END = object()


class InThread:
    """The sync client for async tests: `await` its methods, `async for` over what they return.

    Every call and every step of an iteration runs in a thread, as it would in a program without a loop.
    """

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return (lambda *args, **kwargs: _Call(found, args, kwargs)) if inspect.ismethod(found) else InThread(found)

    async def __aenter__(self) -> InThread:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._target.close)


class _Call:
    """One call that has not been made yet."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._begin = lambda: asyncio.to_thread(function, *args, **kwargs)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._made().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for each in _steps(await self._begin()):
            yield each

    async def _made(self) -> Any:
        result = await self._begin()
        return _Stream(result) if isinstance(result, openai.Stream) else result


class _Stream:
    def __init__(self, stream: openai.Stream[Any]) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[Any]:
        return _steps(self._stream)

    async def close(self) -> None:
        await asyncio.to_thread(self._stream.close)


async def _steps(iterable: Any) -> AsyncIterator[Any]:
    iterator = iter(iterable)
    while (each := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield each


def client_of(kind: str, base_url: str, key: str) -> Any:
    """A client of the kind "sync" or "async". Close it with `async with`."""
    options: dict[str, Any] = {"base_url": base_url, "api_key": key, "max_retries": 0, "timeout": 60}
    return InThread(openai.OpenAI(**options)) if kind == "sync" else openai.AsyncOpenAI(**options)
