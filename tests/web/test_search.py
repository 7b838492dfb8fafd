"""The list of conversations, which is read page by page, and searching it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Route, expect
from tests.web.demo import made
from tests.web.test_page import delete
from tests.web.test_places import Held

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

FOUND = 12
PAGE = 5


async def test_each_keystroke_of_a_search(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a search lists conversations twice, and asks for the same page once for each keystroke."""
    for number in range(FOUND):
        made(server.url, title=f"Quokka {number}")
    demo = await open_demo()
    asked: list[str] = []

    async def small_and_slow(route: Route) -> None:
        asked.extend(parse_qs(urlsplit(route.request.url).query).get("after", ["first"]))
        await demo.page.wait_for_timeout(50)
        await route.continue_(url=route.request.url.replace("limit=100", f"limit={PAGE}"))

    await demo.page.route("**/v1/conversations?limit=100*", small_and_slow)
    await demo.page.reload()
    links = demo.page.locator("#list a")
    await expect(links).to_have_count(PAGE)
    await demo.page.get_by_role("searchbox", name="Search").press_sequentially("quokka", delay=20)
    await expect(links).to_have_count(FOUND)
    await demo.page.wait_for_timeout(500)
    titles = await links.all_inner_texts()
    await demo.page.unroute_all(behavior="wait")  # the search may still be asking for pages
    assert sorted(titles) == sorted(f"Quokka {number}" for number in range(FOUND))
    assert len(asked) == len(set(asked)), "a page was asked for twice"


async def test_a_search_outlives_a_look_at_another_tab(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, who comes back to the page while a search is in its box finds less than before."""
    for number in range(FOUND):
        made(server.url, title=f"Numbat {number}")
    demo = await open_demo()
    await demo.page.route(
        "**/v1/conversations?limit=100*",
        lambda route: route.continue_(url=route.request.url.replace("limit=100", f"limit={PAGE}")),
    )
    await demo.page.reload()
    links = demo.page.locator("#list a")
    await expect(links).to_have_count(PAGE)
    await demo.page.get_by_role("searchbox", name="Search").fill("numbat")
    await expect(links).to_have_count(FOUND)
    async with demo.page.expect_response("**/v1/conversations?limit=5"):
        await demo.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await demo.page.wait_for_timeout(300)
    await expect(links).to_have_count(FOUND)
    await demo.page.unroute_all(behavior="wait")


async def test_a_page_that_comes_late(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a conversation that was deleted while more of the list was on its way is in it all the same."""
    oldest = made(server.url, "Hi!", "Hello.", title="Wombat")
    for _ in range(PAGE):
        made(server.url, title="Wombat")
    demo = await open_demo()
    await demo.page.route(
        "**/v1/conversations?limit=100*",
        lambda route: route.continue_(url=route.request.url.replace("limit=100", f"limit={PAGE}")),
    )
    await demo.page.goto("about:blank")
    await demo.open(oldest)
    await expect(demo.answers).to_have_count(1)
    links = demo.page.locator("#list a")
    await expect(links).to_have_count(PAGE)
    held = await Held("GET", "&after=", late=True).on(demo.page)
    await demo.page.get_by_role("button", name="Show more").click()
    await held.came.wait()
    await delete(demo)
    await expect(demo.page.get_by_role("heading", name="How can I help?")).to_be_visible()
    async with demo.page.expect_response("**/v1/conversations?limit=100&after=*"):
        held.free.set()
    await demo.page.wait_for_timeout(300)
    await demo.page.unroute_all(behavior="wait")
    await expect(links.filter(has_text="Wombat")).to_have_count(PAGE)
