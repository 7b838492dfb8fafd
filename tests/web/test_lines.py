"""Lines that break badly: a Stop that the server never hears, lines that fall silent, and streams that stay open behind
their last event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tests.web.demo import Demo, letters, long_answers
from tests.web.line import Line
from tests.web.widget import until

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

BOTH = pytest.mark.parametrize("transport", ["sse", "websocket"])
QUESTION = "Tell me everything about the shop."
CUT = ["WebSocket connection", "net::ERR_"]  # what Chromium says of a line that is cut
NOTE_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
    constructor(...how) { super(...how); window.sockets.push(this); }
};
"""
COUNT_HEARD = """{
window.heard = 0;
const read = ReadableStreamDefaultReader.prototype.read;
ReadableStreamDefaultReader.prototype.read = async function () {
    const part = await read.call(this);
    window.heard += 1;
    return part;
};
window.WebSocket = class extends WebSocket {
    constructor(...how) { super(...how); this.addEventListener('message', () => window.heard += 1); }
};
}"""


async def opened(open_demo: OpenDemo, line: Line, server: Server, tokens: int, script: str = "") -> Demo:
    """The demo at the far end of the line. The test's own questions go straight to the server."""
    demo = await open_demo(url=line.url, script=long_answers(tokens) + script)
    demo.forgiven = CUT
    demo.url = server.url
    return demo


async def stopped(demo: Demo, answers: int = 1) -> None:
    await demo.settle(answers)
    await expect(demo.answers.last).to_contain_text("Stopped.")
    assert demo.stored()[-1]["status"] == "incomplete"
    assert letters(await demo.answer()) == letters(demo.stored_text())


async def test_stop_on_a_socket_that_is_dying(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a Stop that went down with its connection is forgotten, and the answer goes on to its end."""
    async with Line(server.port) as line:
        demo = await opened(open_demo, line, server, 2500)
        await demo.choose("websocket")
        with server.held():
            await demo.send(QUESTION)
            await demo.grown(80, server)
            line.deafen()
            await demo.page.keyboard.press("Escape")
            await line.lost.wait()
            line.cut()
            await stopped(demo)


async def test_stop_on_a_socket_that_is_closing(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a Stop is given to a socket that no longer sends, and is lost without a word."""
    async with Line(server.port) as line:
        demo = await opened(open_demo, line, server, 2500, ";" + NOTE_SOCKETS)
        await demo.choose("websocket")
        with server.held():
            await demo.send(QUESTION)
            await demo.grown(80, server)
            line.deafen()  # so that nobody answers the close, and the socket goes on closing
            await demo.page.evaluate("window.sockets.at(-1).close()")
            async with demo.page.expect_request("**/cancel", timeout=15_000):
                await demo.page.keyboard.press("Escape")
            line.cut()
            await stopped(demo)


async def test_a_stream_that_ends_late(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, the late end of one answer's stream makes the page lose the next one: Stop is dead."""
    async with Line(server.port) as line:
        line.ends_held = True
        demo = await opened(open_demo, line, server, 2500)
        with server.held():
            await demo.send(QUESTION)
            await demo.grown(80, server)
            await demo.page.keyboard.press("Escape")
            await stopped(demo)
            await demo.send("And what else?")
            await demo.grown(80, server)
            line.ends_held = False
            line.released.set()
            await demo.page.wait_for_timeout(200)
            await demo.page.keyboard.press("Escape")
            await stopped(demo, 2)


async def test_a_stream_that_never_ends(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, an answer that is whole cannot be given again until its connection closes: the button is dead."""
    async with Line(server.port) as line:
        line.ends_held = True
        demo = await opened(open_demo, line, server, 20)
        await demo.send(QUESTION)
        await demo.settle(1)
        first = demo.stored()[1]["id"]
        await demo.answers.last.evaluate("answer => answer.classList.add('first-try')")
        await demo.page.get_by_role("button", name="Answer again").click()
        await expect(demo.page.locator(".first-try")).to_have_count(0)
        await demo.settle(1)
        assert demo.stored()[1]["id"] != first


@BOTH
async def test_a_line_that_falls_silent(open_demo: OpenDemo, server: Server, transport: str) -> None:
    """If this fails, an answer whose line died without being closed stands still until somebody reloads the page."""
    async with Line(server.port) as line:
        demo = await opened(open_demo, line, server, 300)
        await demo.choose(transport)
        await demo.page.clock.install()
        with server.held():
            await demo.send(QUESTION)
            await demo.grown(80, server)
            line.mute()
            await demo.page.clock.run_for(25_000)
        await demo.settle(1)
        assert letters(await demo.answer()) == letters(demo.stored_text())


@BOTH
async def test_a_slow_answer(start_server: Callable[..., Server], open_demo: OpenDemo, transport: str) -> None:
    """If this fails, the line of an answer that is slow to come is taken for a dead one, again and again."""
    server = start_server(ping_seconds="0.1")
    demo = await open_demo(url=server.url, script=long_answers(300) + ";" + COUNT_HEARD)
    await demo.choose(transport)
    asked: list[str] = []
    demo.page.on("request", lambda request: asked.append(request.url))
    demo.page.on("websocket", lambda socket: asked.append(socket.url))
    await demo.page.clock.install()
    with server.held():
        await demo.send(QUESTION)
        await demo.grown(80, server)
        for _ in range(5):
            heard = await demo.page.evaluate("heard")
            await demo.page.clock.run_for(6_000)
            await until(demo.page, f"heard > {heard}")
        await expect(demo.answers.last).not_to_contain_text("Reconnecting")
    await demo.settle(1)
    assert len([url for url in asked if "/v1/responses" in url]) == 1


async def test_the_place_in_line_after_a_line_broke(start_server: Callable[..., Server], open_demo: OpenDemo) -> None:
    """If this fails, whoever waits behind others and whose socket broke reads of a broken connection to the end."""
    server = start_server(slots="1")
    first = await open_demo(url=server.url, script=long_answers(3000))
    async with Line(server.port) as line:
        with server.held():
            await first.send(QUESTION)
            await first.grown(20, server)
            second = await opened(open_demo, line, server, 20, ";" + NOTE_SOCKETS)
            await second.choose("websocket")
            await second.send(QUESTION)
            await expect(second.answers.last).to_contain_text("number 1 in line")
            line.cut()
            await until(second.page, "sockets.length > 1 && sockets.at(-1).readyState === WebSocket.OPEN")
            await expect(second.answers.last).to_contain_text("number 1 in line")
            await first.page.keyboard.press("Escape")
            await first.settle(1)
        await second.settle(1)
