"""What the page makes of an answer's events: its speed, what a screen reader is told, what the drawer shows.

The test plays the server on the WebSocket, so it decides what comes when.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect
from tests.web.demo import Demo, Script

if TYPE_CHECKING:
    from tests.web.conftest import OpenDemo

QUESTION = "Tell me about the shop."
STOPPED_CLOCK = "window.now = 1_800_000_000_000; Date.now = () => window.now;"
HEAR = """
window.heard = [];
new MutationObserver(() => window.heard.push(document.getElementById('live').textContent))
    .observe(document.getElementById('live'), {childList: true});
"""
SENTENCES = (
    "We are open from ten to four. ",
    "Order #4711 is **on its way. ",
    "It left on Monday.** ",
    "Write to `a_b@shop.example` or call; it costs 2 * 3 cents. ",
    "That is\n\n1. quick, and\n2. *cheap*",
)
SPOKEN = (
    "We are open from ten to four. Order #4711 is on its way. It left on Monday. "
    "Write to a_b@shop.example or call; it costs 2 * 3 cents. That is 1. quick, and 2. cheap"
)


async def scripted(open_demo: OpenDemo, **options: Any) -> tuple[Demo, Script]:
    """A page that has asked something, and the answer's beginning."""
    demo = await open_demo(ready=False, **options)
    script = await Script().on(demo.page)
    await demo.page.reload()
    await expect(demo.page.locator("#served")).not_to_be_empty()
    await demo.choose("websocket")
    await demo.page.evaluate(HEAR)
    await demo.send(QUESTION)
    await script.asked.wait()
    script.begin()
    return demo, script


@pytest.mark.parametrize(("apart", "rate"), [(0, None), (249, None), (250, "40"), (2000, "5.0")])
async def test_speed(open_demo: OpenDemo, apart: int, rate: str | None) -> None:
    """If this fails, a short answer whose events came in one batch is said to have had thousands of tokens a second, or
    a longer one has no speed."""
    demo, script = await scripted(open_demo, script=STOPPED_CLOCK)
    for number in range(11):
        if number == 10:
            await expect(demo.answers.locator(".body")).to_contain_text("word 9")
            await demo.page.evaluate("apart => { window.now += apart; }", apart)
        script.text(f"word {number} ")
    await expect(demo.answers.locator(".body")).to_contain_text("word 10")
    await demo.page.evaluate("window.now += 60_000")  # what comes after the last token does not count
    script.end(11)
    await demo.settle(1)
    facts = await demo.answers.locator(".facts").inner_text()
    assert facts.split(" · ")[1:-1] == ([f"{rate} tokens/s"] if rate else []) + ["11 tokens"]


async def test_screen_readers_hear_an_answer_grow(open_demo: OpenDemo) -> None:
    """If this fails, a screen reader is silent until the end of a long answer, is told halves of sentences, or is told
    less or more than what the page shows."""
    demo, script = await scripted(open_demo)
    for number, sentence in enumerate(SENTENCES):
        for word in sentence.split(" "):
            script.text(word + " ")
        if number in (0, 2):  # told before more of it comes
            await expect(demo.page.locator("#live")).to_contain_text("to four" if number == 0 else "on Monday.")
    before_the_end = len(await demo.page.evaluate("window.heard"))
    script.end(60)
    await demo.settle(1)
    await expect(demo.page.locator("#live")).to_contain_text("cheap")
    heard = [" ".join(text.split()) for text in await demo.page.evaluate("window.heard")]
    assert before_the_end >= 2
    assert all(text.endswith(".") for text in heard[:-1]), heard
    assert " ".join(heard) == SPOKEN


async def test_the_drawer_shows_events_as_they_came(open_demo: OpenDemo) -> None:
    """If this fails, who looks for a fault of the server sees what the page made of an event, not the event."""
    demo, script = await scripted(open_demo)
    await demo.page.get_by_role("button", name="More", exact=True).click()
    await demo.page.get_by_role("button", name="Inspect events").click()
    script.text("Open. ")
    script.end(2)
    await demo.settle(1)
    log = demo.page.locator("#inspect-log")
    await expect(log).to_contain_text("response.completed")
    assert (await log.inner_text()).split("\n") == script.said


async def test_escape_closes_the_drawer(open_demo: OpenDemo) -> None:
    """If this fails, the drawer needs a pointer to be closed, or closing it stops the answer that one looks at."""
    demo, script = await scripted(open_demo)
    drawer = demo.page.locator("#inspect")
    for focused in ("drawer", "message field"):
        await demo.page.get_by_role("button", name="More", exact=True).click()
        await demo.page.get_by_role("button", name="Inspect events").click()
        if focused == "message field":
            script.text("Open.")
            script.end(2)
            await demo.settle(1)
            await demo.input.focus()
        await demo.page.keyboard.press("Escape")
        await expect(drawer).to_be_hidden()
        assert await demo.answers.get_attribute("aria-busy") == str(focused == "drawer").lower()
    await expect(demo.answers).not_to_contain_text("Stopped.")


async def test_a_place_that_is_asked_for_too_early(open_demo: OpenDemo) -> None:
    """If this fails, an answer is given up because the server is slow to go on with it after a broken connection."""
    demo, script = await scripted(open_demo)
    await script.cut()
    await asyncio.wait_for(script.resumed.wait(), 15)
    await asyncio.wait_for(script.placed.wait(), 15)
    script.refuse("response_not_active")
    script.text("We are open from ten to four.")
    script.end(9)
    await demo.settle(1)
    assert await demo.answer() == "We are open from ten to four."


async def test_stop_before_the_server_goes_on(open_demo: OpenDemo) -> None:
    """If this fails, a Stop is given to a socket on which the server does not yet tell the answer, and is lost."""
    demo, script = await scripted(open_demo)
    demo.forgiven = ["status of 404"]  # the server knows nothing of the test's answer
    await script.cut()
    await asyncio.wait_for(script.resumed.wait(), 15)
    async with demo.page.expect_request("**/cancel", timeout=15_000):
        await demo.page.keyboard.press("Escape")
    await expect(demo.answers.last).to_contain_text("Stopped.")
