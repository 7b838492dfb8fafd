"""The operator's page: what it shows of a real server, whom it lets in, and what it does when the server is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect
from tests.acceptance.asking import create_key
from tests.acceptance.crashes import Phoenix
from tests.web.axe import bring_axe, serious
from tests.web.demo import Demo, made
from tests.web.engine import strides
from tests.web.test_storage import BOTH

if TYPE_CHECKING:
    from tests.conftest import Server

OpenAdmin = Callable[..., Awaitable[Demo]]
ADMIN = ("--scope", "admin", "--scope", "usage", "--scope", "chat")
HIDE = """
window.tab_hidden = false;
Object.defineProperty(document, 'hidden', {get: () => window.tab_hidden});
window.hide_tab = hidden => { window.tab_hidden = hidden; document.dispatchEvent(new Event('visibilitychange')); };
"""

NO_HANDOFFS = {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}


@pytest.fixture
async def open_admin(browser: Browser, server: Server) -> AsyncIterator[OpenAdmin]:
    """`await open_admin(...)`: a tab in a browser of its own with the operator's page of the shared server or of `url`.
    `script` runs before the page's own; the rest goes to Playwright. Fails when the console had errors that are not
    `forgiven`."""
    opened: list[Demo] = []
    async with AsyncExitStack() as stack:

        async def open(
            *,
            url: str | None = None,
            script: str = "",
            forgiven: tuple[str, ...] = (),
            live: bool = True,
            **options: Any,
        ) -> Demo:
            context = await browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
            stack.push_async_callback(context.close)
            if script:
                await context.add_init_script(script)
            tab = Demo(await context.new_page(), url or server.url)
            tab.forgiven = [*forgiven]
            opened.append(tab)
            await tab.page.goto(tab.url + "/admin")
            if live:
                await expect(link(tab.page)).to_have_text("Live")
            return tab

        yield open
    assert not [problem for tab in opened for problem in tab.problems]


def link(page: Page) -> Any:
    return page.locator("#link-text")


def start_talking(url: str, key: str = "") -> str:
    """Begins a long reply in the background; the response's id."""
    body = {"input": "Tell me everything.", "background": True, "ignore_eos": True, "max_output_tokens": 3000}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx2.post(f"{url}/v1/responses", json=body, headers=headers, timeout=30).raise_for_status().json()["id"]


async def streaming(url: str) -> bool:
    """Whether a reply has its first token."""
    replies = httpx2.get(f"{url}/v1/replies/live", timeout=30).raise_for_status().json()["data"]
    return any(reply["state"] == "streaming" for reply in replies)


async def test_what_happens_now(open_admin: OpenAdmin, start_server: Callable[..., Server]) -> None:
    """If this fails, an operator does not see who is being answered, who waits, and how fast it goes."""
    server = start_server(slots="1")
    admin = await open_admin(url=server.url)
    await expect(admin.page.locator("#live-rows")).to_contain_text("Nobody is being answered.")
    with server.held():
        replies = [start_talking(server.url) for _ in range(2)]
        await strides(server, lambda: streaming(server.url))
        rows = admin.page.locator("#live-rows tr")
        await expect(rows).to_have_count(2, timeout=30_000)
        await expect(rows.first).to_contain_text("Streaming")
        await expect(rows.first).to_contain_text("frontdesk-small")
        await expect(rows.first).to_contain_text("anonymous")
        await expect(rows.last).to_contain_text("Waiting, no. 1")
        await expect(admin.page.locator("#tile-streaming")).to_have_text("1")
        await expect(admin.page.locator("#tile-waiting")).to_have_text("1")
        await expect(admin.page.get_by_role("meter", name="KV cache, tokens")).to_be_visible()
        await expect(admin.page.locator("#tile-server")).to_have_text("Ready")
        for reply in replies:
            httpx2.post(f"{server.url}/v1/responses/{reply}/cancel", json={}, timeout=30).raise_for_status()
    await expect(admin.page.locator("#live-rows")).to_contain_text("Nobody is being answered.", timeout=30_000)


async def test_charts_can_be_read_without_eyes_or_a_mouse(open_admin: OpenAdmin, server: Server) -> None:
    """If this fails, the last hour is there only for who sees it and has a mouse."""
    ask(server.url, max_output_tokens=40, ignore_eos=True)
    admin = await open_admin(script=HIDE)
    sums = admin.page.locator("#hour-sums")
    await expect(sums).to_contain_text("tokens generated")
    await expect(sums).not_to_contain_text("; 0 tokens generated", timeout=30_000)  # the slot has to be over
    for title in ("Tokens per second", "Time to the first token", "Between two tokens", "KV cache", "Memory"):
        chart = admin.page.get_by_role("slider", name=title)
        described = await chart.get_attribute("aria-describedby")
        await expect(admin.page.locator(f"#{described}")).to_contain_text("highest")
    await admin.page.evaluate("hide_tab(true)")  # another slot would move what is read
    await expect(link(admin.page)).to_have_text("Paused")
    speed = admin.page.get_by_role("slider", name="Tokens per second")
    await speed.focus()
    newest = await speed.get_attribute("aria-valuetext")
    await speed.press("ArrowLeft")
    assert newest
    before = await speed.get_attribute("aria-valuetext")
    assert before != newest
    assert "Generated" in (before or "")
    await admin.page.get_by_text("The numbers as a table").click()
    table = admin.page.locator("#hour-rows tr")
    await expect(table.filter(has_text=" ms").first).to_be_visible()


def ask(url: str, **fields: Any) -> dict[str, Any]:
    body = {"input": "When are you open?", "max_output_tokens": 8, **fields}
    return httpx2.post(f"{url}/v1/responses", json=body, timeout=60).json()


async def test_who_may(open_admin: OpenAdmin, start_server: Callable[..., Server]) -> None:
    """If this fails, the operator of a server with keys sees nothing, or their key stays in the browser for others."""
    server = start_server(auth="on")
    operator, shop = create_key(server, "operator", *ADMIN), create_key(server, "shop", "--tokens-per-day", "5000")
    site = create_key(server, "site")
    admin = await open_admin(url=server.url, forgiven=("status of 401", "status of 403"), live=False)
    dialog = admin.page.get_by_role("dialog")
    await dialog.get_by_label("Key").fill("ключ")  # what no header can carry
    await dialog.get_by_role("button", name="Continue").click()
    await expect(dialog.get_by_label("Key")).to_be_empty()
    await dialog.get_by_label("Key").fill(shop)
    await dialog.get_by_role("button", name="Continue").click()
    await expect(dialog).to_contain_text("may not see everybody's data")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(link(admin.page)).to_have_text("Wants a key")
    await admin.page.get_by_role("button", name="Enter a key").click()
    await dialog.get_by_label("Key").fill(operator)
    await dialog.get_by_label("Key").press("Enter")
    await expect(link(admin.page)).to_have_text("Live")
    keys = admin.page.locator("#key-rows")
    await expect(keys).to_contain_text("shop")
    await expect(keys.get_by_role("meter", name="Tokens today")).to_have_attribute("aria-valuetext", "0 of 5,000")
    asked = {"json": {}, "headers": {"authorization": f"Bearer {site}"}, "timeout": 30}
    visitor = httpx2.post(f"{server.url}/v1/visitors", **asked).raise_for_status().json()
    callers = admin.page.locator("#live-rows tr td:nth-child(2)")
    with server.held():
        for key in (shop, visitor["value"]):
            start_talking(server.url, key)
        await expect(callers).to_have_text(["shop", re.compile("^site, visitor [0-9a-f]{6}$")], timeout=30_000)
    assert await admin.page.evaluate("Object.keys(localStorage)") == []
    await admin.page.reload()
    await expect(link(admin.page)).to_have_text("Live")
    assert operator not in await admin.page.content()


@BOTH
async def test_a_key_that_cannot_be_kept(
    open_admin: OpenAdmin, start_server: Callable[..., Server], script: str
) -> None:
    """If this fails, the page is dead for an operator who blocks cookies, or takes no key."""
    server = start_server(auth="on")
    admin = await open_admin(url=server.url, script=script, forgiven=("status of 401",), live=False)
    dialog = admin.page.get_by_role("dialog")
    await dialog.get_by_label("Key").fill(create_key(server, "boss", *ADMIN))
    await dialog.get_by_role("button", name="Continue").click()
    await expect(link(admin.page)).to_have_text("Live")
    await admin.page.locator("#theme").click()
    await expect(admin.page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_errors_and_feedback(open_admin: OpenAdmin, server: Server) -> None:
    """If this fails, an operator learns neither what goes wrong nor what people think, or runs what they wrote."""
    hostile = "<img src=x onerror='window.stolen = 1'>"
    conversation = made(server.url, f"Is it true? {hostile}", "No, it is not.", "And now?", "Now it is.")
    items = f"{server.url}/v1/conversations/{conversation}/items"
    stored = httpx2.get(f"{items}?order=asc", timeout=30).json()["data"]
    for item, rating, comment in ((stored[1], "down", hostile), (stored[3], "up", None)):
        body = {"rating": rating, "comment": comment}
        httpx2.post(f"{items}/{item['id']}/feedback", json=body, timeout=30).raise_for_status()
    assert ask(server.url, model="no-such-model")["error"]["code"] == "model_not_found"

    admin = await open_admin()
    error = admin.page.locator("#error-rows li").first
    await expect(error).to_contain_text("model_not_found")
    await expect(error).to_contain_text("POST /v1/responses")
    feedback = admin.page.locator("#feedback-rows li")
    await expect(feedback.nth(1)).to_contain_text(hostile)
    await expect(feedback.nth(1)).to_contain_text("No, it is not.")
    await expect(feedback.nth(1).locator(".comment")).to_contain_text(hostile)
    await expect(feedback.first).to_contain_text("Now it is.")
    await admin.page.get_by_label("Which feedback").select_option("down")
    await expect(feedback.first).to_contain_text(hostile)
    assert await admin.page.evaluate("window.stolen") is None
    assert not await admin.page.locator("main img").count()


async def test_more_feedback_comes_once(open_admin: OpenAdmin, server: Server) -> None:
    """If this fails, an impatient operator sees the same entries twice."""
    answers = [f"Answer {number}." for number in range(25)]
    conversation = made(server.url, *(text for answer in answers for text in ("Is it true?", answer)))
    items = f"{server.url}/v1/conversations/{conversation}/items"
    stored = httpx2.get(f"{items}?order=asc&limit=100", timeout=30).json()["data"]
    for item in stored[1::2]:
        httpx2.post(f"{items}/{item['id']}/feedback", json={"rating": "up"}, timeout=30).raise_for_status()
    admin = await open_admin()
    rows = admin.page.locator("#feedback-rows .answered").filter(has_text=re.compile(r"Answer \d+\."))
    await expect(rows).to_have_count(20)
    await admin.page.locator("#feedback-more").evaluate("button => { button.click(); button.click(); }")
    await expect(rows.filter(has_text=re.compile(r"Answer 0\."))).not_to_have_count(0)
    await admin.page.wait_for_timeout(300)
    assert [text.removeprefix("Answer: ") for text in await rows.all_text_contents()] == answers[::-1]


async def test_the_server_is_away(open_admin: OpenAdmin, tmp_path: Path) -> None:
    """If this fails, a restart empties the page, or what was marked meanwhile is lost."""
    with Phoenix(tmp_path) as phoenix:
        conversation = made(phoenix.url, "I want to talk to a person.", "One moment.")
        address = f"{phoenix.url}/v1/conversations/{conversation}/handoff"
        asked = {"contact": "dana@example.com", "message": "My parcel is late."}
        httpx2.post(address, json=asked, timeout=30).raise_for_status()
        admin = await open_admin(url=phoenix.url, forgiven=("net::ERR_", "status of 503"))
        handoff = admin.page.locator("#handoff-rows li")
        await expect(handoff).to_contain_text("My parcel is late.")
        await expect(admin.page.locator("#handoff-badge")).to_have_text("1")
        await asyncio.to_thread(phoenix.stop)
        await expect(link(admin.page)).to_contain_text("Not reachable", timeout=30_000)
        await handoff.get_by_role("button", name="Mark as done").click()
        await expect(handoff).to_contain_text("Waits for the server")
        await expect(handoff).to_contain_text("dana@example.com")
        await expect(admin.page.locator("#model-rows")).to_contain_text("frontdesk-small")
        await asyncio.to_thread(phoenix.start)
        await expect(link(admin.page)).to_have_text("Live", timeout=30_000)
        await expect(handoff).to_contain_text("Nobody waits for a person", timeout=30_000)
        assert httpx2.get(address, timeout=30).json()["state"] == "done"


async def test_one_list_that_does_not_come(open_admin: OpenAdmin) -> None:
    """If this fails, one slow or broken list makes the page say again and again that the whole server is away."""
    admin = await open_admin(forgiven=("status of 503",))
    await admin.page.evaluate(
        "window.said = [];"
        "new MutationObserver(() => said.push(document.getElementById('link-text').textContent))"
        ".observe(document.getElementById('link-text'), {childList: true})"
    )
    await admin.page.route("**/v1/usage*", lambda route: route.fulfill(status=503, json={"error": {"message": "Busy"}}))
    await admin.page.locator("#usage-by").select_option("model")
    await expect(admin.page.locator("#usage-problem")).to_contain_text("Busy", timeout=30_000)
    await admin.page.wait_for_timeout(3_000)
    assert await admin.page.evaluate("said") == []
    await admin.page.unroute("**/v1/usage*")
    await admin.page.locator("#usage-by").select_option("key")
    await expect(admin.page.locator("#usage-problem")).to_be_hidden()
    rows = admin.page.locator("#handoff-rows")
    for filter, text in (("done", "Nobody was handed to"), ("open", "Nobody waits for")):
        await admin.page.route("**/v1/handoffs*", lambda route: route.fulfill(json=NO_HANDOFFS))
        await admin.page.locator("#handoff-filter").select_option(filter)
        await expect(rows).to_contain_text(text)


async def test_a_hidden_tab_asks_nothing(open_admin: OpenAdmin) -> None:
    """If this fails, every forgotten tab asks a busy server for numbers every two seconds."""
    admin = await open_admin(script=HIDE)
    await admin.page.evaluate("hide_tab(true)")
    await expect(link(admin.page)).to_have_text("Paused")
    asked: list[str] = []
    admin.page.on("request", lambda request: asked.append(request.url))
    await admin.page.wait_for_timeout(5000)
    assert asked == []
    await admin.page.evaluate("hide_tab(false)")
    await expect(link(admin.page)).to_have_text("Live")
    assert asked


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}])
async def test_accessibility(open_admin: OpenAdmin, server: Server, options: dict[str, Any]) -> None:
    """If this fails, an operator who cannot see, point or tell faint colours apart cannot use a part of the page, or
    one with a phone has to scroll sideways."""
    conversation = made(server.url, "Hello", "Hello!")
    address = f"{server.url}/v1/conversations/{conversation}"
    httpx2.post(f"{address}/handoff", json={"contact": "a@example.com"}, timeout=30).raise_for_status()
    admin = await open_admin(bypass_csp=True, reduced_motion="reduce", forgiven=("net::ERR_",), **options)
    await expect(admin.page.locator("#handoff-rows")).to_contain_text("a@example.com")
    await admin.page.get_by_text("The numbers as a table").click()
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await admin.page.evaluate(wider) == 0
    await bring_axe(admin.page)
    assert await serious(admin.page) == []
    await admin.page.route(re.compile("/readyz|/v1/"), lambda route: route.abort())
    await expect(link(admin.page)).to_contain_text("Not reachable", timeout=30_000)
    assert await serious(admin.page) == [], "while the server is away"


def test_files(server: Server) -> None:
    """If this fails, the page may run what it did not bring, or loads something from elsewhere."""
    page = httpx2.get(server.url + "/admin")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    for name in ("admin.js", "admin.css", "theme.js"):
        assert f"/demo/{name}" in page.text
        assert httpx2.get(f"{server.url}/demo/{name}").status_code == 200
    assert "style=" not in page.text
    assert all(" src=" in tag for tag in re.findall("<script[^>]*>", page.text))
