"""What breaks in the middle of an answer: the page, the server, the view of it from a second tab."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tests.acceptance.crashes import Phoenix
from tests.web.demo import Demo, letters, long_answers
from tests.web.engine import strides
from tests.web.test_places import Held

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

BOTH = pytest.mark.parametrize("transport", ["sse", "websocket"])
TOKENS = 1000
LONG = 2500  # tokens of an answer that goes on while a second tab loads
HEAR_FIVE = "window.left = 5; addEventListener('storage', () => window.left -= 1)"
KEPT_LONGER = "id => JSON.parse(localStorage.getItem('frontdesk.turn.' + id)).text.length >= 600"
QUESTION = "Tell me everything about the shop."


async def nothing_lost_or_doubled(demo: Demo) -> None:
    """The answer on the page is the stored one, and is drawn as it would be at once."""
    (_, answer) = demo.stored()
    assert answer["status"] == "incomplete"  # it reached TOKENS
    seen = await demo.answer()
    assert letters(seen) == letters(demo.stored_text())
    assert len(letters(seen)) > TOKENS
    await demo.page.reload()
    await demo.settle(1)
    assert await demo.answer() == seen


@BOTH
async def test_reload(open_demo: OpenDemo, server: Server, transport: str) -> None:
    """If this fails, a reload in the middle of an answer loses it, or shows a part of it twice."""
    demo = await open_demo(script=long_answers(TOKENS))
    await demo.choose(transport)
    with server.held():
        await demo.send(QUESTION)
        await demo.grown(200, server)
        await demo.page.reload()
        await demo.grown(100)
        await demo.grown(400, server)
    await demo.settle(1)
    await nothing_lost_or_doubled(demo)


@BOTH
async def test_the_server_is_killed(open_demo: OpenDemo, tmp_path: Path, transport: str) -> None:
    """If this fails, a crash or a deployment of the server ends every open answer on every page."""
    with Phoenix(tmp_path) as phoenix:
        demo = await open_demo(url=phoenix.url, script=long_answers(TOKENS))
        demo.forgiven = ["net::ERR_", "status of 503", "Unexpected response code"]
        await demo.choose(transport)
        with phoenix.server.held():
            await demo.send(QUESTION)
            await demo.grown(200, phoenix.server)
            killing = asyncio.create_task(asyncio.to_thread(phoenix.kill, "server"))
            await expect(demo.answers.last).to_contain_text("Reconnecting", timeout=30_000)
        await killing
        await demo.settle(1)
        await nothing_lost_or_doubled(demo)


async def second_tab(first: Demo) -> Demo:
    """Another tab with the same conversation, in which something was said already."""
    await first.send("Hello!")
    await first.page.keyboard.press("Escape")
    await first.settle(1)
    second = Demo(await first.page.context.new_page(), first.url)
    await second.open(first.conversation)
    await second.settle(1)
    return second


async def test_two_tabs(open_demo: OpenDemo) -> None:
    """If this fails, a second tab shows an old conversation, or the two fight over the answer."""
    first = await open_demo(script=long_answers(TOKENS))
    second = await second_tab(first)
    await first.send(QUESTION)
    await expect(second.answers).to_have_count(2, timeout=30_000)
    await first.settle(2)
    await second.settle(2)
    assert letters(await first.answer()) == letters(await second.answer()) == letters(first.stored_text())
    assert len(first.stored()) == 4
    assert not second.problems


async def test_a_second_tab_that_loads_slowly(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a second tab begins to load anew with every event of the first, shows nothing before the answer's
    end, and throws away what is being edited in it."""
    first = await open_demo(script=long_answers(LONG))
    second = await second_tab(first)
    message = second.page.locator(".message.user")
    await message.hover()
    await message.get_by_role("button", name="Edit").click()
    await second.input.fill("Hello, who is there?")
    held = await Held("GET", first.conversation, "/items").on(second.page)
    await second.page.evaluate(HEAR_FIVE)
    with server.held():
        await first.send(QUESTION)
        await held.came.wait()
        await strides(server, lambda: second.page.evaluate("window.left <= 0"))
    assert held.count == 1
    held.free.set()
    await expect(second.answers).to_have_count(2)
    await expect(second.input).to_have_value("Hello, who is there?")
    await expect(second.page.locator("#editing")).to_be_visible()
    await first.settle(2)
    await second.settle(2)
    assert letters(await second.answer()) == letters(first.stored_text())
    assert not second.problems


async def test_an_answer_that_another_tab_had_while_this_one_loaded(open_demo: OpenDemo) -> None:
    """If this fails, a tab that loads slowly shows the conversation as it was when it began to, and goes on to."""
    first = await open_demo()
    await first.send("Hi!")
    await first.settle(1)
    second = Demo(await first.page.context.new_page(), first.url)
    held = await Held("GET", first.conversation, "/items", late=True).on(second.page)
    await second.open(first.conversation)
    await held.came.wait()
    await first.send("When are you open on Saturday?")
    await first.settle(2)
    held.free.set()
    await second.settle(2)
    assert await second.answer() == first.stored_text()


async def test_another_conversation_meanwhile(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, looking at another conversation stops the answer, or puts it into the wrong place."""
    demo = await open_demo(script=long_answers(TOKENS))
    with server.held():
        await demo.send(QUESTION)
        await demo.grown(100, server)
        running = demo.conversation
        await demo.page.keyboard.press("Control+k")
        await expect(demo.page.get_by_role("heading", name="How can I help?")).to_be_visible()
        await expect(demo.answers).to_have_count(0)
        await strides(server, lambda: demo.page.evaluate(KEPT_LONGER, running))
        await demo.page.go_back()
        await demo.grown(300)
        assert demo.conversation == running
    await demo.settle(1)
    await nothing_lost_or_doubled(demo)
