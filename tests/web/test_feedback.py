"""Thumbs and comments below the demo's answers: what a person presses is what the server keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.async_api import Locator, expect
from tests.web.axe import bring_axe, serious
from tests.web.demo import Demo, made

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

TALK = ("When are you open?", "From 9 to 5.", "And on Sunday?", "We are closed on Sunday.")


def kept(demo: Demo) -> list[tuple[str, str, str | None]]:
    """Item, rating and comment of everything that was said about the open conversation's answers."""
    address = f"{demo.url}/v1/conversations/{demo.conversation}/feedback"
    data: list[dict[str, Any]] = httpx2.get(address, timeout=30).raise_for_status().json()["data"]
    return [(entry["item"], entry["rating"], entry["comment"]) for entry in data]


async def settled(demo: Demo, expected: list[tuple[str, str, str | None]]) -> None:
    """Wait until the server keeps exactly this."""
    for _ in range(400):
        if kept(demo) == expected:
            return
        await demo.page.wait_for_timeout(50)
    assert kept(demo) == expected


def thumb(answer: Locator, name: str) -> Locator:
    return answer.get_by_role("button", name=name)


async def test_rate_comment_and_take_back(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a rating is lost at the next reload, stands at another answer, or cannot be taken back."""
    demo = await open_demo(made(server.url, *TALK))
    item = demo.stored()[3]["id"]
    answer = demo.answers.nth(1)
    good, bad = thumb(answer, "Good answer"), thumb(answer, "Bad answer")
    await expect(good).to_have_attribute("aria-pressed", "false")
    await bad.click()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await settled(demo, [(item, "down", None)])
    await answer.get_by_role("textbox", name="Comment").fill("  <b>Not</b> true  ")
    await answer.get_by_role("textbox", name="Comment").press("Enter")
    await settled(demo, [(item, "down", "<b>Not</b> true")])

    await demo.page.reload()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await expect(answer.locator(".rating-comment")).to_have_text("<b>Not</b> true")
    await expect(thumb(demo.answers.first, "Bad answer")).to_have_attribute("aria-pressed", "false")
    await answer.get_by_role("button", name="Change the comment").click()
    await expect(answer.get_by_role("textbox", name="Comment")).to_be_focused()
    await answer.get_by_role("textbox", name="Comment").fill("Better now")
    await answer.get_by_role("button", name="Send").click()
    await good.click()
    await settled(demo, [(item, "up", "Better now")])
    await expect(bad).to_have_attribute("aria-pressed", "false")

    await good.click()
    await settled(demo, [])
    await expect(answer.locator(".rating")).to_be_hidden()


async def test_a_fresh_answer_by_keyboard(open_demo: OpenDemo) -> None:
    """If this fails, an answer can be rated only after a reload, or only by who has a mouse."""
    demo = await open_demo()
    await demo.send("When are you open on Saturday?")
    await demo.settle(1)
    good = thumb(demo.answers, "Good answer")
    await good.press("Enter")
    await expect(good).to_have_attribute("aria-pressed", "true")
    await expect(good).to_be_focused()
    await expect(demo.page.locator("#live")).to_contain_text("Rated as a good answer")
    await settled(demo, [(demo.stored()[1]["id"], "up", None)])
    await demo.page.reload()
    await expect(good).to_have_attribute("aria-pressed", "true")
    await demo.page.get_by_role("button", name="Answer again").click()
    await expect(good).to_have_attribute("aria-pressed", "false", timeout=30_000)
    await settled(demo, [])


async def test_older_pages_keep_their_ratings(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, ratings of what is further up look as if they were gone."""
    texts = [f"{'Question' if number % 2 == 0 else 'Answer'} {number}" for number in range(130)]
    conversation = made(server.url, *texts)
    items = f"{server.url}/v1/conversations/{conversation}/items"
    first_answer = httpx2.get(f"{items}?order=asc&limit=2", timeout=30).json()["data"][1]["id"]
    httpx2.post(f"{items}/{first_answer}/feedback", json={"rating": "up"}, timeout=30).raise_for_status()
    demo = await open_demo(conversation)
    await demo.page.get_by_role("button", name="earlier messages").click()
    await expect(demo.answers).to_have_count(65)
    await expect(thumb(demo.answers.first, "Good answer")).to_have_attribute("aria-pressed", "true")


async def test_a_rating_that_does_not_arrive(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, the page claims a rating that nobody has."""
    demo = await open_demo(made(server.url, *TALK))
    demo.forgiven = ["net::ERR_"]
    await demo.page.route("**/feedback", lambda route: route.abort())
    good = thumb(demo.answers.last, "Good answer")
    await good.click()
    await expect(demo.page.get_by_role("alert")).to_contain_text("cannot be reached")
    await expect(good).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessibility(open_demo: OpenDemo, server: Server, scheme: str) -> None:
    """If this fails, the field for the comment has no name, or the pressed thumb no contrast."""
    demo = await open_demo(made(server.url, *TALK), color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
    await demo.answers.first.hover()
    await thumb(demo.answers.first, "Good answer").click()
    await thumb(demo.answers.last, "Bad answer").click()
    await demo.answers.first.get_by_role("textbox", name="Comment").fill("Thank you")
    await demo.answers.first.get_by_role("button", name="Send").click()
    await expect(demo.answers.first.locator(".rating-comment")).to_be_visible()
    await bring_axe(demo.page)
    assert await serious(demo.page) == []
