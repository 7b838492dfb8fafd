"""The support widget as a guest on somebody's page: files, policies, hostile text, looks, access."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.async_api import Route, expect
from tests.web.axe import bring_axe, serious
from tests.web.test_page import HOSTILE, RICH
from tests.web.widget import DIST, TYPES, Site, Widget, add_talk, until

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"
MOST_BYTES = 45_000  # gzipped
QUESTIONS = json.dumps([OPENING, "How much is express shipping?"])


async def visited(open_widget: OpenWidget, **options: Any) -> Widget:
    """A tab whose visitor has asked one question, with the panel open."""
    widget = await open_widget(**options)
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    return widget


async def say(server: Server, widget: Widget, *texts: str) -> None:
    """Puts a talk, the visitor's turn first, into the conversation, and reloads the page."""
    record = await widget.record()
    add_talk(server, widget.id, record["visitor"], record["conversation"], *texts)
    await widget.page.reload()
    await widget.open()
    await expect(widget.questions.last).to_have_text(texts[-1] if len(texts) % 2 else texts[-2])


def test_files(server: Server) -> None:
    """If this fails, a shop's page must not load the widget, or has to load more than was promised."""
    for name in ("widget.js", "widget.mjs"):
        answer = httpx2.get(f"{server.url}/{name}", headers={"origin": "https://any.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["content-type"].startswith("text/javascript")
        assert len(gzip.compress((DIST / name).read_bytes(), mtime=0)) <= MOST_BYTES
    known = httpx2.get(f"{server.url}/widget.js", headers={"if-none-match": answer.headers["etag"]})
    assert known.status_code == 200  # of the other file
    for name in ("widget.js", "widget.mjs"):
        etag = httpx2.get(f"{server.url}/{name}").headers["etag"]
        assert httpx2.get(f"{server.url}/{name}", headers={"if-none-match": etag}).status_code == 304


def test_cors_is_exact(server: Server, site: Site, widget_id: str) -> None:
    """If this fails, a page of another shop reads what this shop's visitors are answered."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    for path in ("/v1/widget/sessions", "/v1/responses"):
        mine = httpx2.options(server.url + path, headers={"origin": site.url, **asked})
        assert mine.headers["access-control-allow-origin"] == site.url
        assert "origin" in mine.headers["vary"].lower()
        foreign = httpx2.options(server.url + path, headers={"origin": "http://evil.example", **asked})
        assert "access-control-allow-origin" not in foreign.headers
    body = {"widget": widget_id}
    session = httpx2.post(f"{server.url}/v1/widget/sessions", json=body, headers={"origin": site.url})
    assert session.headers["access-control-allow-origin"] == site.url
    assert "access-control-allow-credentials" not in session.headers
    foreign = httpx2.post(f"{server.url}/v1/widget/sessions", json=body, headers={"origin": "http://evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in foreign.headers


async def test_hostile_text_does_nothing(open_widget: OpenWidget, server: Server, site: Site) -> None:
    """If this fails, whoever can make the model say something can run a script in the shop, or learn what was said."""
    widget = await visited(open_widget)
    widget.page.on("dialog", lambda dialog: widget.problems.append(dialog.message))
    await say(server, widget, HOSTILE, HOSTILE)
    await expect(widget.answers).to_have_count(2)
    assert await widget.page.evaluate("window.stolen") is None
    assert not [url for url in widget.asked if not url.startswith((widget.chat, site.url))]
    assert not await widget.panel.locator(".log").locator("script, img, iframe, style, form, input, svg").count()
    links = await widget.answers.locator("a[href]").all()
    addresses = [await link.get_attribute("href") or "" for link in links]
    assert "https://evil.example/page" in addresses
    assert all(address.startswith("https://evil.example/") for address in addresses)
    assert {await link.get_attribute("rel") for link in links} == {"noopener nofollow ugc"}
    assert "window.stolen = 1" in await widget.answer()  # seen, as the text that it is
    attributes = await widget.panel.locator(".log").evaluate(
        "log => [...log.querySelectorAll('*')].flatMap(one => one.getAttributeNames())"
    )
    assert not [name for name in attributes if name.startswith("on") or name == "style"]


async def test_earlier_messages_come_once(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, an impatient visitor sees the same messages twice."""
    widget = await visited(open_widget)
    lines = [f"Line {number}" for number in range(60)]
    for at in range(0, 60, 20):  # as many as one request may bring
        await say(server, widget, *lines[at : at + 20])
    messages = widget.panel.locator(".log .message .body")
    await expect(messages).to_have_count(50)
    await widget.panel.locator(".earlier").evaluate("button => { button.click(); button.click(); }")
    await expect(messages.first).to_have_text(OPENING)
    await widget.page.wait_for_timeout(300)
    assert (await messages.all_inner_texts())[2:] == lines


async def test_keyboard(open_widget: OpenWidget) -> None:
    """If this fails, somebody without a mouse cannot open the chat, ask, leave it, or get back to the page."""
    widget = await open_widget(data={"questions": QUESTIONS})
    keys = widget.page.keyboard
    await keys.press("Tab")  # the page's own button
    await keys.press("Tab")
    assert await widget.focused() == "launcher"
    await keys.press("Enter")
    assert await widget.focused() == "input"
    await keys.type(OPENING)
    await keys.press("Enter")
    await widget.settle(1)
    assert await widget.focused() == "input"
    await keys.press("Escape")
    await expect(widget.panel).to_be_hidden()
    assert await widget.focused() == "launcher"
    await keys.press("Enter")
    for _ in range(12):  # no trap: the way out leads through the launcher, and back to the page
        await keys.press("Tab")
        if not await widget.focused():
            break
    else:
        raise AssertionError("the focus does not leave the panel")
    await expect(widget.panel).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessibility(open_widget: OpenWidget, server: Server, scheme: str) -> None:
    """If this fails, somebody who cannot see, point or tell faint colours apart cannot use a part of the widget."""
    options = {"color_scheme": scheme, "reduced_motion": "reduce", "bypass_csp": True}
    widget = await open_widget(data={"questions": QUESTIONS}, **options)
    await bring_axe(widget.page)
    assert await serious(widget.page) == []
    await widget.open()
    assert await serious(widget.page) == []
    await widget.send(OPENING)
    await widget.settle(1)
    await say(server, widget, "How do you ship?", RICH, "And then?")
    await bring_axe(widget.page)
    assert await serious(widget.page) == []
    await widget.panel.get_by_role("button", name="Talk to a person").click()
    assert await serious(widget.page) == []
    await widget.panel.get_by_label("How can we reach you?").fill("dana@example.org")
    await widget.panel.get_by_role("button", name="Send the request").click()
    await expect(widget.panel.locator(".request")).to_be_visible()
    assert await serious(widget.page) == []
    await widget.page.context.set_offline(True)
    widget.forgiven = ["net::ERR_INTERNET_DISCONNECTED"]
    await widget.panel.get_by_role("button", name="New conversation").click()
    await expect(widget.notice).to_be_visible()
    assert await serious(widget.page) == []


async def test_screen_readers_hear_sentences(open_widget: OpenWidget) -> None:
    """If this fails, a screen reader reads single tokens, or nothing."""
    widget = await open_widget()
    await widget.root.evaluate(
        "chat => { const live = chat.shadowRoot.querySelector('[aria-live=polite]'); window.heard = [];"
        "new MutationObserver(() => heard.push(live.textContent)).observe(live, {childList: true}) }"
    )
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    heard = await widget.page.evaluate("heard")
    assert " ".join(heard) == " ".join((await widget.answer()).split())  # in one piece or, when it takes long, in more
    assert all(text.endswith(".") for text in heard)
    assert await widget.panel.get_by_role("log").get_attribute("aria-live") == "off"


async def test_phone(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, the chat is a small window on a small screen, or its text runs out of it."""
    size = {"width": 360, "height": 700}
    widget = await visited(open_widget, viewport=size, has_touch=True, is_mobile=True)
    await say(server, widget, "How do you ship?" * 9, RICH)
    await widget.panel.evaluate("panel => Promise.all(panel.getAnimations().map(one => one.finished.then(() => 0)))")
    assert await widget.panel.bounding_box() == {"x": 0, "y": 0, **size}
    await expect(widget.launcher).to_be_hidden()
    wider = (
        "[chat.shadowRoot.querySelector('.scroll'), document.documentElement].map(e => e.scrollWidth - e.clientWidth)"
    )
    assert await widget.root.evaluate(f"chat => Math.max(...{wider})") == 0
    await widget.panel.get_by_role("button", name="Close the chat").click()
    await expect(widget.launcher).to_be_in_viewport()


async def test_from_the_right(open_widget: OpenWidget) -> None:
    """If this fails, the widget of an Arabic or Hebrew shop stands on the wrong side and reads backwards."""
    for options in ({"direction": "rtl"}, {"data": {"lang": "he"}}):
        widget = await open_widget(**options)
        box = await widget.launcher.bounding_box()
        assert box
        assert box["x"] < 100
        await widget.open()
        panel, close = widget.panel, widget.panel.get_by_role("button", name="Close the chat")
        frame, button = await panel.bounding_box(), await close.bounding_box()
        assert frame
        assert button
        assert button["x"] < frame["x"] + 60
        assert await panel.evaluate("panel => getComputedStyle(panel).direction") == "rtl"


@pytest.mark.parametrize(
    ("language", "launcher", "greeting", "person"),
    [
        ("de-AT", "Chat öffnen", "Guten Tag!", "Mit einem Menschen sprechen"),
        ("es", "Abrir el chat", "¡Hola!", "Hablar con una persona"),
        ("fr", "Ouvrir le chat", "Bonjour", "Parler à une personne"),
        ("xx", "Open the chat", "Hello!", "Talk to a person"),
    ],
)
async def test_languages(open_widget: OpenWidget, language: str, launcher: str, greeting: str, person: str) -> None:
    """If this fails, a shop's visitors are spoken to in a language that is not theirs."""
    widget = await open_widget(data={"lang": language})
    await expect(widget.launcher).to_have_accessible_name(launcher)
    await widget.open()
    await expect(widget.greeting).to_contain_text(greeting)
    await expect(widget.panel.get_by_role("button", name=person)).to_be_visible()


async def test_motion(open_widget: OpenWidget) -> None:
    """If this fails, the widget moves before the eyes of somebody whom that makes sick."""
    moving = "panel => [getComputedStyle(panel).animationName, getComputedStyle(panel.nextSibling).transitionDuration]"
    still = await open_widget(reduced_motion="reduce")
    await still.open()
    assert await still.panel.evaluate(moving) == ["none", "0s"]
    lively = await open_widget(reduced_motion="no-preference")
    await lively.open()
    assert (await lively.panel.evaluate(moving))[0] == "rise"


async def test_theming(open_widget: OpenWidget, site: Site, server: Server, widget_id: str) -> None:
    """If this fails, the widget cannot look like the shop, or the shop's style breaks into it by accident."""
    style = (
        "<style>* { color: red !important; letter-spacing: 9px } button { display: none !important }"
        "support-chat { --frontdesk-accent: #ffe08a; --frontdesk-radius: 0px; --frontdesk-width: 300px }"
        "support-chat::part(send) { border-radius: 3px }</style>"
    )
    tag = f"<support-chat widget={widget_id} theme=dark open></support-chat>"
    page = f"<!doctype html><html lang=en><title>Shop</title>{style}<script src={server.url}/widget.js></script>{tag}"
    widget = await open_widget(url=site.add("/themed", page))
    await expect(widget.panel).to_be_visible()
    box = await widget.panel.bounding_box()
    assert box
    assert box["width"] == 300
    got = await widget.panel.evaluate(
        "panel => { const style = part => getComputedStyle(panel.querySelector(part)); return ["
        "getComputedStyle(panel).borderRadius, style('.send').borderRadius, style('.mark').backgroundColor,"
        "style('.title').letterSpacing, getComputedStyle(panel).colorScheme]}"
    )
    assert got == ["0px", "3px", "rgb(255, 224, 138)", "normal", "dark"]
    black = await widget.launcher.evaluate("button => getComputedStyle(button).color")
    assert black == "oklch(0 0 0)"  # what can be read on a pale accent
    assert widget.sessions == 0  # opened by the page, and nobody has looked at it


async def test_module_and_events(open_widget: OpenWidget, site: Site, server: Server, widget_id: str) -> None:
    """If this fails, a shop that bundles its own scripts cannot drive the widget, or is told what visitors write."""
    script = (
        "window.heard = []; for (const name of ['open', 'close', 'message', 'error'])"
        "addEventListener('frontdesk:' + name, event => heard.push([name, JSON.stringify(event.detail)]));"
    )
    page = (
        f"<!doctype html><html lang=en><title>Shop</title><script>{script}</script>"
        f"<script type=module>import {{ SupportChat }} from '{server.url}/widget.mjs';"
        f"const chat = new SupportChat(); chat.setAttribute('widget', '{widget_id}');"
        "document.body.append(chat); window.chat = chat;</script><body><h1>Shop</h1>"
    )
    widget = await open_widget(url=site.add("/module", page))
    await widget.page.evaluate("chat.open()")
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.page.evaluate("chat.close()")
    await expect(widget.panel).to_be_hidden()
    told = [["open", "{}"], ["message", '{"role":"user"}'], ["message", '{"role":"assistant"}'], ["close", "{}"]]
    assert await widget.page.evaluate("heard") == told
    await widget.page.evaluate("chat.setAttribute('lang', 'fr')")
    await expect(widget.launcher).to_have_accessible_name("Ouvrir le chat")
    await widget.open()
    await expect(widget.questions).to_have_text([OPENING])
    await widget.page.evaluate("chat.remove()")
    await expect(widget.root).to_have_count(0)


async def test_an_element_that_is_told_later(
    open_widget: OpenWidget, site: Site, server: Server, widget_id: str
) -> None:
    """If this fails, a page that is put together by a framework, which may name the widget after it has placed the
    element, has no chat; or one whose element stands there before its script opens every session twice."""
    page = (
        "<!doctype html><html lang=en><title>Shop</title><body><h1>Shop</h1><support-chat></support-chat>"
        f"<script src='{server.url}/widget.js'></script>"
    )
    widget = await open_widget(url=site.add("/later", page), forgiven=["needs the attribute"])
    await expect(widget.root).to_have_count(1)
    await widget.root.evaluate("chat => chat.toggleAttribute('open')")  # nothing to open yet
    await expect(widget.launcher).to_have_count(0)
    await widget.root.evaluate("(chat, id) => chat.setAttribute('widget', id)", widget_id)
    await expect(widget.panel).to_be_visible()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.root.evaluate("chat => chat.removeAttribute('widget')")
    await expect(widget.launcher).to_have_count(0)
    await widget.root.evaluate("(chat, id) => chat.setAttribute('widget', id)", widget_id)
    await expect(widget.questions).to_have_text([OPENING])
    written = page.replace("<support-chat>", f"<support-chat widget={widget_id} lang=en>")
    before = widget.sessions
    await widget.page.goto(site.add("/written", written))
    await widget.open()
    await expect(widget.questions).to_have_text([OPENING])
    assert widget.sessions == before + 1


async def test_sample_shop(open_widget: OpenWidget, site: Site, server: Server, widget_id: str) -> None:
    """If this fails, whoever wants to see the widget on a page first has to write one."""
    shop = f"{site.url}/shop.html"
    embedded = await open_widget(url=f"{shop}?server={server.url}&widget={widget_id}&lang=es")
    await embedded.open()
    await embedded.panel.get_by_role("button", name=OPENING).click()
    await embedded.settle(1)
    assert "10:00 to 16:00" in await embedded.answer()
    await expect(embedded.page.locator("#setup")).to_be_hidden()
    mirrored = await open_widget(url=f"{shop}?server={server.url}&widget={widget_id}&dir=rtl")
    ends = await mirrored.page.locator(".hero p").evaluate(
        "line => [0, line.firstChild.length - 1].map(at => { const range = new Range();"
        "range.setStart(line.firstChild, at); range.setEnd(line.firstChild, at + 1);"
        "return range.getBoundingClientRect().left; })"
    )
    assert ends[0] < ends[1], "an English sentence begins with its full stop"
    for query in ("", f"?widget={widget_id}", "?server=javascript:alert(1)&widget=" + widget_id):
        explained = await open_widget(url=shop + query)
        await expect(explained.page.locator("#setup")).to_contain_text(f"widgets create shop --origin {site.url}")
        await expect(explained.root).to_have_count(0)


async def test_sample_shop_of_the_server_itself(open_widget: OpenWidget, server: Server, widget_id: str) -> None:
    """If this fails, the server's own copy of the shop shows nothing, or runs the script of whoever links to it."""
    own = server.url.replace("127.0.0.1", "localhost")
    shop = await open_widget(url=f"{own}/shop.html?server={server.url}&widget={widget_id}")
    await expect(shop.launcher).to_be_visible()
    link = f"{own}/shop.html?server=https://evil.example&widget={widget_id}"
    evil = await open_widget(url=link, forgiven=["Content Security Policy"])
    await expect(evil.page.locator("#setup-problem")).to_contain_text("could not be loaded from https://evil.example")
    await expect(evil.root).to_have_count(0)


async def test_sample_shop_on_another_web_server(open_widget: OpenWidget, widget_id: str) -> None:
    """If this fails, whoever links to a copy of the sample shop can run a script of theirs in it, or the copy cannot be
    told whose chat to show."""
    shop = "http://shop.example"
    page = (DIST / "shop.html").read_text()
    files = {
        "/shop.html": page,
        "/chat.html": page.replace("<html", '<html data-server="https://chat.example"', 1),
        "/widget.js": "window.ran = 'shop.example'",
    }
    tab = await open_widget(url="about:blank")

    async def answer(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.netloc == "shop.example":
            text = files.get(url.path) or (DIST / url.path.lstrip("/")).read_text()
            await route.fulfill(body=text, content_type=TYPES["." + url.path.rpartition(".")[2]])
        else:
            await route.fulfill(body=f"window.ran = {url.netloc!r}", content_type=TYPES[".js"])

    await tab.page.route(re.compile(r"^https?://\w+\.example/"), answer)
    query = f"?server=https://evil.example&widget={widget_id}"
    await tab.page.goto(f"{shop}/shop.html{query}")
    await expect(tab.page.locator("#setup-server")).to_contain_text('<html data-server="https://chat.example">')
    await expect(tab.page.locator("#setup-address")).to_have_text(f"{shop}/shop.html?widget=wgt_…")
    assert not [url for url in tab.asked if url.startswith("https://evil.example")]
    await tab.page.goto(f"{shop}/shop.html?server={shop}&widget={widget_id}")  # the page's own server is as good as it
    await until(tab.page, "window.ran === 'shop.example'")
    await tab.page.goto(f"{shop}/chat.html{query}")
    await until(tab.page, "window.ran === 'chat.example'")
