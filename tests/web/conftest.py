"""A real browser: Debian's Chromium, driven by Playwright. Without it these tests are skipped, and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Browser, async_playwright
from tests.web.demo import Demo

if TYPE_CHECKING:
    from tests.conftest import Server

NAMES = ("chromium", "chromium-browser", "google-chrome")
OpenDemo = Callable[..., Awaitable[Demo]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("!! NOT TESTED: the web demo needs Chromium (apt-get install chromium)")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=found, args=root)
        yield opened
        await opened.close()


@pytest.fixture
async def open_demo(browser: Browser, server: Server) -> AsyncIterator[OpenDemo]:
    """`await open_demo(...)`: a tab in a browser of its own, with the demo of the shared server unless `url` says
    otherwise. `script` runs before the page's own; the rest goes to Playwright. Fails when the console had errors."""
    demos: list[Demo] = []
    async with AsyncExitStack() as stack:

        async def opened(
            conversation: str = "", *, url: str | None = None, script: str = "", ready: bool = True, **options: Any
        ) -> Demo:
            context = await browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
            stack.push_async_callback(context.close)
            if script:
                await context.add_init_script(script)
            demo = Demo(await context.new_page(), url or server.url)
            demos.append(demo)
            await demo.open(conversation, ready=ready)
            return demo

        yield opened
    assert not [problem for demo in demos for problem in demo.problems]
