"""The context meter: its numbers are tokens, its sentences are true, and the budget is what is left now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx2
from playwright.async_api import WebSocket, expect
from tests.acceptance.asking import create_key
from tests.web.demo import made

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

OPENING = "When are you open on Saturday?"
BUDGET = 100_000


async def test_budget_over_the_websocket(start_server: Callable[..., Server], open_demo: OpenDemo) -> None:
    """If this fails, whoever has a budget and uses the WebSocket does not see what is left of it, or sees what was left
    while an answer had more set aside than it took."""
    server = start_server(auth="on")
    key = create_key(server, "demo", "--tokens-per-day", str(BUDGET))
    demo = await open_demo(url=server.url, script=f"sessionStorage.setItem('frontdesk.key', '{key}')")
    used: list[int] = []

    def heard(text: str | bytes) -> None:
        event = json.loads(text)
        if event["type"] == "response.completed":
            used.append(event["response"]["usage"]["total_tokens"])

    def opened(socket: WebSocket) -> None:
        socket.on("framereceived", heard)

    demo.page.on("websocket", opened)
    await demo.choose("websocket")
    panel = demo.page.locator("#meter-panel")
    for answers in (1, 2):
        await demo.send(OPENING)
        await demo.settle(answers)
        await expect(panel).to_contain_text(f"Budget: {BUDGET - sum(used):,} of {BUDGET:,} tokens are left.")
        assert len(used) == answers


async def test_a_summary_and_what_it_stands_for(start_server: Callable[..., Server], open_demo: OpenDemo) -> None:
    """If this fails, a person cannot see how much of the conversation a summary stands for or what was left out, or
    counts of messages pass for tokens."""
    server = start_server(context_policy="summarise", ctx="1536")
    said = ("How long can I return something?", "You can return items within 40 days.")  # something to sum up
    lines = [f"{said[number % 2]} Line {number}. {'many words ' * 8}" for number in range(40)]
    conversation = made(server.url, *lines)
    demo = await open_demo(conversation, url=server.url)
    await demo.send(OPENING)
    await expect(demo.finished).to_have_count(21, timeout=60_000)
    address = f"{server.url}/v1/conversations/{conversation}/context"
    async with asyncio.timeout(60):
        while not (context := httpx2.get(address, timeout=30).json())["summarised"] or context["dropped"]:
            await demo.page.wait_for_timeout(100)
    await demo.page.reload()
    await demo.page.locator("#meter").click()
    panel = demo.page.locator("#meter-panel")
    rows = dict([row.split("\t") for row in (await panel.locator("tr").all_inner_texts())])
    assert rows["Summary"] == f"{context['parts']['summary']:,}"
    assert rows["Not sent: summarised"] == f"{context['summarised_tokens']:,}"
    assert context["summarised_tokens"] > context["parts"]["summary"] > 0
    assert "Not sent: left out" not in rows
    kept, summarised = len(context["kept"]), len(context["summarised"])
    await expect(panel.locator("p").first).to_have_text(f"{kept} messages are sent, {summarised} summarised.")
    await expect(demo.page.locator(".message.unseen").last).to_contain_text("Summarised for the model")


async def test_what_is_left_out(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, the tokens of what the model no longer gets are missing, or count as a part of the window."""
    conversation = made(server.url, *[f"Line {number}: {'many words ' * 12}" for number in range(300)])
    context = httpx2.get(f"{server.url}/v1/conversations/{conversation}/context", timeout=30).json()
    demo = await open_demo(conversation)
    await demo.page.locator("#meter").click()
    panel = demo.page.locator("#meter-panel")
    rows = dict([row.split("\t") for row in (await panel.locator("tr").all_inner_texts())])
    assert rows["Not sent: left out"] == f"{context['dropped_tokens']:,}"
    assert context["dropped_tokens"] > context["window"]
    inside = [int(text.replace(",", "")) for name, text in rows.items() if name not in ("Window", "Not sent: left out")]
    assert sum(inside) == int(rows["Window"].replace(",", "")) == context["window"]
    kept, dropped = len(context["kept"]), len(context["dropped"])
    await expect(panel.locator("p").first).to_have_text(f"{kept} messages are sent, {dropped} left out.")
