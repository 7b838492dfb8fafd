"""A real browser: Debian's Chromium, driven by Playwright. Without it these tests are skipped, and say so."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Browser, async_playwright, expect
from tests.web.demo import Demo
from tests.web.widget import Site, Widget, create_widget, running_site

if TYPE_CHECKING:
    from tests.conftest import Server

NAMES = ("chromium", "chromium-browser", "google-chrome")
expect.set_options(timeout=15_000)  # milliseconds: on a busy machine even what takes no time does
OpenDemo = Callable[..., Awaitable[Demo]]
OpenWidget = Callable[..., Awaitable[Widget]]


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


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The site of somebody else's that embeds the widget."""
    with running_site() as site:
        yield site


@pytest.fixture(scope="module")
def widget_id(server: Server, site: Site) -> str:
    """A widget of the shared server, for the pages of `site`. One a module: a widget takes 30 new visitors a minute."""
    return create_widget(server, site.url)


@pytest.fixture
async def open_widget(browser: Browser, server: Server, site: Site, widget_id: str) -> AsyncIterator[OpenWidget]:
    """`await open_widget(...)`: a tab in a browser of its own, on a page that embeds the widget, strictest policy and
    all. `url`: another page; `chat` and `id`: another server's widget; `data`: attributes of the tag; `script` runs
    before the page's own; the rest goes to Playwright. Fails when the console had errors or warnings that are not
    `forgiven`, by parts of their text."""
    tabs: list[Widget] = []
    names = itertools.count()
    async with AsyncExitStack() as stack:

        async def opened(
            *, url: str | None = None, chat: str | None = None, id: str | None = None, script: str = "",
            data: Mapping[str, str] = MappingProxyType({}), direction: str = "ltr", forgiven: Sequence[str] = (),
            **options: Any,
        ) -> Widget:  # fmt: skip
            context = await browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
            stack.push_async_callback(context.close)
            if script:
                await context.add_init_script(script)
            chat, id = chat or server.url, id or widget_id
            tab = Widget(await context.new_page(), chat, id)
            tab.forgiven.extend(forgiven)
            tabs.append(tab)
            await tab.page.goto(url or site.strict(chat, id, f"/strict-{next(names)}", direction, **data))
            return tab

        yield opened
    assert not [problem for tab in tabs for problem in tab.problems]
