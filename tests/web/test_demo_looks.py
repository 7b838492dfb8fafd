"""What is seen of the demo: colours that stay chosen, code, copying, movement, and edges that can be told apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Locator, expect
from tests.web.axe import bring_axe, serious
from tests.web.demo import made
from tests.web.test_page import RICH

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

COLOUR = re.compile(r"rgba?\([^)]*\)")
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
CODE = """def price(express: bool) -> float:  # dollars, and this line is far too long for the screen of any telephone
    return 12.90 if express else 6.50
"""
NO_CLIPBOARD = "window.kept = navigator.clipboard; Object.defineProperty(navigator, 'clipboard', {value: undefined});"
NO_COPYING = "document.execCommand = () => false;"
# Draws two of CSS's colours, the upper perhaps see-through, and says how much lighter one is, as WCAG counts.
CONTRAST = """
([upper, lower]) => {
    const pen = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
    const light = colour => {
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        const parts = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map(part => part / 255);
        const [r, g, b] = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [light(lower), light(upper)].sort((one, other) => other - one);
    return (found[0] + 0.05) / (found[1] + 0.05);
}
"""


# The dot of an answer that has no text yet.
WAITING_DOT = """
() => {
    const message = document.createElement('article'), body = document.createElement('div');
    message.className = 'message assistant growing';
    body.className = 'body';
    message.append(body);
    document.getElementById('log').append(message);
    return getComputedStyle(body, '::before').animationName;
}
"""


async def colour(place: Locator, name: str) -> str:
    return await place.evaluate("(one, name) => getComputedStyle(one)[name]", name)


async def test_dark_or_light_stays_chosen(open_demo: OpenDemo) -> None:
    """If this fails, the button does nothing, or the page is in the other colours after a reload."""
    demo = await open_demo(color_scheme="light")
    body = demo.page.locator("body")
    light = await colour(body, "backgroundColor")
    await demo.page.get_by_role("button", name="Dark or light").click()
    dark = await colour(body, "backgroundColor")
    assert dark != light
    await demo.page.reload()
    await expect(body).to_have_css("background-color", dark)
    await demo.page.get_by_role("button", name="Dark or light").click()
    await demo.page.emulate_media(color_scheme="dark")  # what was chosen comes before what the system has
    await demo.page.reload()
    await expect(body).to_have_css("background-color", light)


@SCHEMES
async def test_edges_can_be_told_apart(open_demo: OpenDemo, server: Server, scheme: str) -> None:
    """If this fails, somebody with weak sight does not see where to write, which transport is chosen, or what of the
    window is kept free."""
    demo = await open_demo(made(server.url, "How do you ship?", RICH), color_scheme=scheme)
    page = demo.page
    for edge, name, behind in (
        (".box", "borderTopColor", "body"),
        ("#search", "borderTopColor", "#side"),
        ("#transport :checked + span", "boxShadow", "#transport"),
        ("#meter-bar .part-reserve", "backgroundImage", "#meter-bar"),
    ):
        upper = COLOUR.findall(await colour(page.locator(edge), name))[0]
        lower = await colour(page.locator(behind), "backgroundColor")
        assert await page.evaluate(CONTRAST, [upper, lower]) >= 3, (edge, upper, lower)


async def test_code_is_coloured_and_copied(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, code is hard to read, or is copied with something else than what was written."""
    demo = await open_demo(
        made(server.url, "How do you ship?", RICH), permissions=["clipboard-read", "clipboard-write"]
    )
    code = demo.answers.locator(".code")
    await expect(code.locator(".code-bar span")).to_have_text("python")
    for kind, word in (("k", "def"), ("n", "12.90"), ("c", "# dollars, and this line")):
        await expect(code.locator(f".hl-{kind}").filter(has_text=word).first).to_be_visible()
    assert await code.locator("pre").text_content() == CODE.rstrip("\n")
    await code.get_by_role("button", name="Copy").click()
    await expect(code.get_by_role("button")).to_have_text("Copied")
    assert await demo.page.evaluate("navigator.clipboard.readText()") == CODE.rstrip("\n")


async def test_copying_a_message(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, Copy takes what markdown made of an answer instead of the answer, or does not show that it did."""
    conversation = made(server.url, "How do you ship?", RICH)
    demo = await open_demo(conversation, permissions=["clipboard-read", "clipboard-write"])
    button = demo.answers.locator(".actions").get_by_role("button", name="Copy")
    await button.click()
    await expect(button.locator("use")).to_have_attribute("href", "#i-check")
    assert await demo.page.evaluate("navigator.clipboard.readText()") == RICH
    await expect(button.locator("use")).to_have_attribute("href", "#i-copy")


@pytest.mark.parametrize("allowed", [True, False])
async def test_copying_over_plain_http(open_demo: OpenDemo, server: Server, allowed: bool) -> None:
    """If this fails, Copy does nothing on a page that came over plain HTTP, and does not say so."""
    script = NO_CLIPBOARD + ("" if allowed else NO_COPYING)
    conversation = made(server.url, "How do you ship?", RICH)
    demo = await open_demo(conversation, script=script, permissions=["clipboard-read"])
    button = demo.answers.locator(".actions").get_by_role("button", name="Copy")
    await button.click()
    if allowed:
        await expect(button.locator("use")).to_have_attribute("href", "#i-check")
        assert await demo.page.evaluate("window.kept.readText()") == RICH
    else:
        await expect(demo.page.locator("#notice")).to_have_text("The browser does not allow copying.")


async def test_buttons_of_an_earlier_answer(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, an earlier answer has a gap below it for buttons that nobody sees, or they never come."""
    demo = await open_demo(made(server.url, "Hi!", "Hello.", "And now?", "Now that."))
    earlier, actions = demo.answers.first, demo.answers.first.locator(".actions")
    copying = actions.get_by_role("button", name="Copy")
    await expect(demo.answers).to_have_count(2)
    await expect(copying).to_have_css("opacity", "0")
    ends = "one => one.getBoundingClientRect().bottom"
    below = await earlier.evaluate(ends) - await earlier.locator(".body").evaluate(ends)
    assert below < (await actions.bounding_box() or {})["height"]
    await earlier.hover()
    await expect(copying).to_have_css("opacity", "1")
    await demo.input.hover()
    await expect(copying).to_have_css("opacity", "0")
    await copying.focus()
    await expect(copying).to_have_css("opacity", "1")


async def test_reduced_motion(open_demo: OpenDemo) -> None:
    """If this fails, things move for somebody whom movement makes ill."""
    for wanted, moves in (("no-preference", True), ("reduce", False)):
        demo = await open_demo(reduced_motion=wanted, viewport={"width": 360, "height": 740})
        animation = await demo.page.evaluate(WAITING_DOT)
        assert (animation != "none") == moves
        assert (await colour(demo.page.locator("#side"), "transitionDuration") != "0s") == moves


async def test_a_newer_notice_stays(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, what went wrong last is taken away by the clock of what went wrong before it."""
    demo = await open_demo(made(server.url, "Hi!", "Hello."), script=NO_CLIPBOARD + NO_COPYING)
    clock = demo.page.clock
    await clock.install(time=0)
    await clock.pause_at(60)  # seconds; from here on nothing but the test moves it
    button = demo.answers.locator(".actions").get_by_role("button", name="Copy")
    notice = demo.page.locator("#notice")
    await button.click()
    await expect(notice).to_be_visible()
    await clock.run_for(7000)
    await button.click()
    await clock.run_for(7000)
    await expect(notice).to_be_visible()
    await clock.run_for(2000)
    await expect(notice).to_be_hidden()


@SCHEMES
async def test_failures_are_accessible(open_demo: OpenDemo, server: Server, scheme: str) -> None:
    """If this fails, somebody with weak sight or without it cannot make out what went wrong."""
    conversation = made(server.url, "Hi!", "Hello.")
    demo = await open_demo(color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
    demo.forgiven = ["net::ERR_"]
    await bring_axe(demo.page)
    await demo.page.route(f"**/{conversation}**", lambda route: route.abort())
    await demo.page.evaluate(f"location.hash = '{conversation}'")
    await expect(demo.page.locator(".failure")).to_be_visible()
    assert await serious(demo.page) == []
