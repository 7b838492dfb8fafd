"""Pictures of the pages' main states into docs/images/, taken in Chromium of a server of its own.

    python web_demo/screenshots.py [name …]

With names (demo, admin, widget) only those. Everything in the pictures is real but for one thing: an hour of numbers
takes an hour to come about, so the operator's charts are given one that is made up and ends in what is (`busy_hour`).
Better taken on a machine that does nothing else: some pictures tell speeds.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlencode

import httpx2
from playwright.sync_api import Browser, Page, Route, ViewportSize, WebSocketRoute, expect
from stage import ROOT, Stage, ask_demo, ask_widget, chromium, converse, open_widget, post, stage

IMAGES = Path(ROOT) / "docs/images"
WIDE: ViewportSize = {"width": 1240, "height": 780}
ROOMY: ViewportSize = {"width": 1120, "height": 780}
NARROW: ViewportSize = {"width": 390, "height": 780}
ARABIC = ("متى تفتحون يوم السبت؟", "كم تكلفة الشحن السريع؟")
SLOT = 10  # seconds, as the server has it
SLOTS = 360
LONG_REPLY = 3600  # tokens: pictures are taken between the end of one and the next
PATIENCE = 30_000


def shoot(page: Page, name: str, **options: Any) -> None:
    page.wait_for_timeout(400)  # what moves has come to rest
    page.screenshot(path=IMAGES / f"{name}.png", **options)


def both(page: Page, name: str) -> None:
    """The same state, light and dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shoot(page, f"{name}-{scheme}")
    page.emulate_media(color_scheme="light")


def demo(browser: Browser, on: Stage) -> None:
    page = browser.new_page(viewport=WIDE)
    converse(page, on.url)
    page.get_by_role("button", name="Good answer").last.click()
    both(page, "demo")
    page.goto(f"{on.url}/#{on.table}")
    page.reload()
    page.wait_for_selector(".message.assistant")
    both(page, "demo-markdown")
    page.close()

    page = browser.new_page(viewport=WIDE)
    page.goto(f"{on.url}/#{on.long}")
    page.wait_for_selector(".message.assistant")
    ask_demo(page, "When are you open?")
    page.click("#meter")
    shoot(page, "demo-context")
    page.keyboard.press("Escape")
    page.click("#more")
    page.click("#inspect-open")
    shoot(page, "demo-inspect")
    page.click("#inspect-close")
    page.click("#settings-open")
    shoot(page, "demo-settings")
    page.close()

    page = browser.new_page(viewport=WIDE)
    line = Line(page, 30)
    converse(page, on.url, ("Do you offer a student discount?", "Where can I find you?"))
    page.get_by_text("WebSocket", exact=True).click()
    line.held = True
    page.fill("#input", "When are you open?")
    page.press("#input", "Enter")
    expect(page.locator(".message.assistant .body").last).not_to_be_empty(timeout=PATIENCE)
    shoot(page, "demo-streaming")
    line.cut()
    expect(page.locator(".message.assistant").last).to_contain_text("Reconnecting", timeout=PATIENCE)
    shoot(page, "demo-reconnecting")
    page.close()

    page = browser.new_page(viewport=NARROW, has_touch=True)
    page.goto(on.url)
    shoot(page, "demo-phone-new")
    converse(page, on.url, ("Do you sell gift cards?", "How long do refunds take?", "Is there parking?"))
    shoot(page, "demo-phone")
    page.click("#side-open")
    shoot(page, "demo-phone-list")
    page.close()


class Line:
    """A page's WebSocket, on which an answer comes to a stop after so many characters while it is `held`."""

    def __init__(self, page: Page, characters: int) -> None:
        self.held = False
        self._broken = False
        self._characters = characters
        self._open: list[WebSocketRoute] = []
        page.route_web_socket(re.compile("/v1/responses"), self._opened)

    def cut(self) -> None:
        """It breaks, and is not to be had again."""
        self._broken = True
        for socket in self._open:
            socket.close()

    def _opened(self, socket: WebSocketRoute) -> None:
        if self._broken:
            socket.close()
            return
        self._open.append(socket)
        said = 0

        def pass_on(message: str | bytes) -> None:
            nonlocal said
            if self.held and said >= self._characters:
                return
            said += len(json.loads(message).get("delta") or "")
            socket.send(message)

        socket.connect_to_server().on_message(pass_on)


def admin(browser: Browser, on: Stage) -> None:
    page = browser.new_page(viewport=ROOMY)
    with talking(on) as since:
        page.route("**/v1/metrics/recent*", lambda route: busy_hour(route, on, since))
        page.goto(on.url + "/admin")
        expect(page.locator("#live-rows .good")).to_have_count(5, timeout=PATIENCE)
        expect(page.locator("#live-rows")).to_contain_text("phone app")
        expect(page.locator("#feedback-rows .entry").first).to_be_visible()
        fit(page, "#hour")
        both(page, "admin")
        page.set_viewport_size(NARROW)
        fit(page, "#now")
        shoot(page, "admin-phone")
        page.set_viewport_size(ROOMY)
        part(page, "admin-people", "#handoffs", "#feedback")
        part(page, "admin-errors", "#errors", "#widgets")
        page.route(re.compile("/readyz|/v1/"), lambda route: route.abort())
        expect(page.locator("#link-text")).to_contain_text("Not reachable", timeout=PATIENCE)
        fit(page, "#now")
        shoot(page, "admin-away")
    page.close()


@contextmanager
def talking(on: Stage) -> Iterator[float]:
    """Five callers of all kinds talk without a pause, and have filled a slot of the metrics; when it began. The last
    two begin in it, so that it has times to the first token too."""
    token, conversation = on.visitor()
    app, letters = on.keys
    over = Event()

    def talk(key: str) -> None:
        body = {
            "input": "Tell me everything about the shop.", "background": True, "ignore_eos": True,
            "max_output_tokens": LONG_REPLY, "truncation": "auto",
            **({"conversation": conversation} if key == token else {}),
        }  # fmt: skip
        while not over.is_set():
            reply = f"/v1/responses/{post(on.url, '/v1/responses', body, key)['id']}"
            while running(on.url, reply, key):
                if over.wait(0.02):
                    post(on.url, f"{reply}/cancel", {}, key)

    early = 1.5  # seconds
    time.sleep((SLOT - early - time.time()) % SLOT)
    since = round(time.time() + early) // SLOT * SLOT
    with ThreadPoolExecutor() as callers:
        for key in (app, token, letters, "", app):
            callers.submit(talk, key)
            time.sleep(0.6)
        time.sleep(SLOT + since - time.time() + 0.5)
        try:
            yield since
        finally:
            over.set()


def running(url: str, reply: str, key: str) -> bool:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    found = httpx2.get(url + reply, headers=headers, timeout=60).raise_for_status().json()
    return found["status"] in ("queued", "in_progress")


def fit(page: Page, selector: str) -> None:
    """Makes the window end below this element, so that nothing is cut in its middle."""
    bottom = page.locator(selector).evaluate("one => one.getBoundingClientRect().bottom + scrollY")
    width = (page.viewport_size or ROOMY)["width"]
    page.set_viewport_size({"width": width, "height": math.ceil(bottom) + 16})


def part(page: Page, name: str, first: str, last: str) -> None:
    """The page from one section to another."""
    page.evaluate("scrollTo(0, 0)")
    top, bottom = page.locator(first).bounding_box(), page.locator(last).bounding_box()
    if not top or not bottom:
        sys.exit(f"{first} or {last} is not on the page")
    height = bottom["y"] + bottom["height"] + 16 - top["y"]
    clip = {"x": 0, "y": top["y"], "width": ROOMY["width"], "height": height}
    shoot(page, name, full_page=True, clip=clip)


def widget(browser: Browser, on: Stage) -> None:
    page = browser.new_context(viewport=WIDE).new_page()
    page.goto(on.shop)
    shoot(page, "widget-closed")
    panel = open_widget(page)
    shoot(page, "widget-greeting")
    for question in ("When are you open on Saturday?", "How much is express shipping?"):
        ask_widget(panel, question)
    shoot(page, "widget-open")
    page.emulate_media(color_scheme="dark")
    shoot(page, "widget-dark")
    page.emulate_media(color_scheme="light")
    panel.get_by_role("button", name="Talk to a person").click()
    panel.get_by_label("How can we reach you?").fill("robin@example.com")
    panel.get_by_label("What is it about?").fill("The kettle that came today has a scratch.")
    page.mouse.move(0, 0)
    shoot(page, "widget-handoff")
    page.context.close()

    page = browser.new_context(viewport=WIDE).new_page()
    page.goto(on.shop)
    panel = open_widget(page)
    panel.locator("[part=input]").fill("How long is the warranty?")
    page.locator("support-chat").evaluate(
        "chat => { chat.shadowRoot.querySelector('[part=send]').click(); chat.close(); }"
    )
    expect(page.locator("support-chat [part=badge]")).to_have_text("1", timeout=PATIENCE)
    shoot(page, "widget-badge")
    panel = open_widget(page)
    page.context.set_offline(True)
    panel.get_by_role("button", name="New conversation").click()
    expect(panel.get_by_text("You seem to be offline.")).to_be_visible(timeout=PATIENCE)
    page.mouse.move(0, 0)
    shoot(page, "widget-offline")
    page.context.close()

    page = browser.new_context(viewport=NARROW, has_touch=True).new_page()
    page.goto(on.shop)
    ask_widget(open_widget(page), "When are you open on Saturday?")
    shoot(page, "widget-phone")
    page.context.close()

    page = browser.new_context(viewport=WIDE).new_page()
    words = {"title": "المساعدة", "greeting": "مرحبًا! كيف يمكنني مساعدتك؟", "questions": json.dumps(ARABIC)}
    page.goto(f"{on.shop}&{urlencode({'lang': 'ar', 'dir': 'rtl', **words})}")
    open_widget(page)  # and nothing is asked: the shipped model knows no Arabic
    shoot(page, "widget-rtl")
    page.context.close()


def busy_hour(route: Route, on: Stage, since: float) -> None:
    """Answers with what the server says of the time since then, and before it with an hour of more and less visitors
    that leads there."""
    real = httpx2.get(f"{on.url}/v1/metrics/recent").raise_for_status().json()
    over = [slot for slot in real["data"] if slot["at"] >= since and slot["at"] + SLOT <= real["now"]]
    dice = random.Random(7)
    first = (int(real["now"]) // SLOT - SLOTS + 1) * SLOT
    made = [slot(at, (at - first) / (since - first), over[0], dice) for at in range(first, int(since), SLOT)]
    route.fulfill(json={**real, "data": made + [slot for slot in real["data"] if slot["at"] >= since]})


def slot(at: int, part: float, end: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """Ten seconds; `part` is how much of the hour is over, `end` what it leads to."""
    load = max(0.05, (0.55 + 0.4 * math.sin(part * 9)) / (0.55 + 0.4 * math.sin(9)) + dice.gauss(0, 0.06))
    tokens = round(end["tokens"] * min(load, 1.2) * (0.92 + dice.random() * 0.16))
    started = math.ceil(tokens / 260)

    def spread(of: str, count: int, floor: float) -> dict[str, Any]:
        share = floor + (1 - floor) * load
        p50 = end[of]["p50"] * share * (0.94 + dice.random() * 0.12)
        return {"count": count, "p50": p50, "p95": max(end[of]["p95"] * share, p50 * (1.8 + dice.random() * 0.4))}

    return {
        "at": at, "started": started, "finished": started, "cancelled": 0, "failed": 0,
        "refused": int(load > 1.35), "prompt_tokens": started * 390, "tokens": tokens,
        "ttft": spread("ttft", started, 0.3), "itl": spread("itl", tokens, 0.4),
        "running": round(load * end["running"]), "waiting": max(0, round((load - 1.2) * 9)),
        "kv_used": round(end["kv_used"] * (0.3 + 0.7 * load)), "kv_cells": end["kv_cells"],
        "memory_bytes": round(end["memory_bytes"] * (0.93 + 0.07 * part)),
    }  # fmt: skip


STATES: dict[str, Callable[[Browser, Stage], None]] = {"demo": demo, "admin": admin, "widget": widget}


def main() -> None:
    if unknown := sorted(set(sys.argv[1:]) - set(STATES)):
        sys.exit(f"{unknown[0]} is no page; there are {', '.join(STATES)}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with stage() as on, chromium() as browser:
        for name in sys.argv[1:] or STATES:
            STATES[name](browser, on)


if __name__ == "__main__":
    main()
