"""Pictures of the pages' main states into docs/images/, taken in Chromium of a server of its own.

    python web_demo/screenshots.py [name …]

With names (demo, admin, widget) only those. Everything in the pictures is real but for one thing: an hour of numbers
takes an hour to come about, so the operator's charts are given one that is made up (`busy_hour`).
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Route, ViewportSize, expect
from stage import ROOT, Stage, ask_widget, chromium, converse, open_widget, post, stage

IMAGES = Path(ROOT) / "docs/images"
WIDE: ViewportSize = {"width": 1240, "height": 780}
TALL: ViewportSize = {"width": 1120, "height": 1060}
NARROW: ViewportSize = {"width": 390, "height": 780}
ARABIC = ("متى تفتحون يوم السبت؟", "كم تكلفة الشحن السريع؟")
SLOT = 10  # seconds, as the server has it
SLOTS = 360


def demo(browser: Browser, on: Stage) -> None:
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport=WIDE, color_scheme=scheme)
        converse(page, on.url)
        page.get_by_role("button", name="Good answer").last.click()
        page.wait_for_timeout(200)
        page.screenshot(path=IMAGES / f"demo-{scheme}.png")
        page.goto(f"{on.url}/#{on.table}")
        page.reload()
        page.wait_for_selector(".message.assistant")
        page.wait_for_timeout(300)
        page.screenshot(path=IMAGES / f"demo-markdown-{scheme}.png")
        page.close()

    page = browser.new_page(viewport=WIDE)
    page.goto(f"{on.url}/#{on.long}")
    page.fill("#input", "When are you open?")
    page.press("#input", "Enter")
    expect(page.locator(".message.assistant .facts").last).to_contain_text("tokens/s", timeout=60_000)
    expect(page.locator("#stop")).to_be_hidden(timeout=60_000)
    page.click("#meter")
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / "demo-context.png")
    page.keyboard.press("Escape")
    page.click("#more")
    page.click("#inspect-open")
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / "demo-inspect.png")
    page.click("#inspect-close")
    page.click("#settings-open")
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / "demo-settings.png")
    page.close()

    page = browser.new_page(viewport=NARROW, has_touch=True)
    page.goto(on.url)
    page.wait_for_timeout(500)
    page.screenshot(path=IMAGES / "demo-phone-new.png")
    converse(page, on.url)
    page.screenshot(path=IMAGES / "demo-phone.png")
    page.click("#side-open")
    page.wait_for_timeout(400)
    page.screenshot(path=IMAGES / "demo-phone-list.png")
    page.close()


def admin(browser: Browser, on: Stage) -> None:
    busy = {"input": "Tell me everything about the shop.", "background": True, "ignore_eos": True}
    views: list[tuple[str, dict[str, Any]]] = [
        ("light", {"viewport": TALL}),
        ("dark", {"viewport": TALL, "color_scheme": "dark"}),
        ("phone", {"viewport": NARROW, "has_touch": True}),
    ]
    for name, options in views:
        asking = (*on.keys, *on.keys, "")
        running = [
            (key, post(on.url, "/v1/responses", {**busy, "max_output_tokens": 1500}, key)["id"]) for key in asking
        ]
        page = browser.new_page(**options)
        page.route("**/v1/metrics/recent*", busy_hour)
        page.goto(on.url + "/admin")
        expect(page.locator("#live-rows .good").first).to_be_visible(timeout=30_000)
        expect(page.locator("#feedback-rows .entry").first).to_be_visible()
        page.wait_for_timeout(2500)
        page.screenshot(path=IMAGES / f"admin-{name}.png")
        for key, reply in running:
            post(on.url, f"/v1/responses/{reply}/cancel", {}, key)
        if name == "light":
            page.set_viewport_size(WIDE)
            page.locator("#handoffs").evaluate("section => section.scrollIntoView()")
            page.wait_for_timeout(300)
            page.screenshot(path=IMAGES / "admin-people.png")
        page.close()


def widget(browser: Browser, on: Stage) -> None:
    arabic = urlencode(
        {
            "lang": "ar",
            "dir": "rtl",
            "title": "المساعدة",
            "greeting": "مرحبًا! كيف يمكنني مساعدتك؟",
            "questions": json.dumps(ARABIC),
        }
    )
    views: list[tuple[str, str, dict[str, Any]]] = [
        ("open", "", {"viewport": WIDE}),
        ("dark", "", {"viewport": WIDE, "color_scheme": "dark"}),
        ("phone", "", {"viewport": NARROW, "has_touch": True}),
        ("rtl", f"&{arabic}", {"viewport": WIDE}),
    ]
    for name, further, options in views:
        page = browser.new_context(**options).new_page()
        page.goto(on.shop + further)
        page.wait_for_timeout(800)
        if name == "open":
            page.screenshot(path=IMAGES / "widget-closed.png")
        panel = open_widget(page)
        if name == "open":
            page.screenshot(path=IMAGES / "widget-greeting.png")
        if name != "rtl":  # the shipped model knows no Arabic
            ask_widget(panel, "When are you open on Saturday?")
        page.screenshot(path=IMAGES / f"widget-{name}.png")
        page.context.close()


def busy_hour(route: Route) -> None:
    """Answers with an hour in which a shop had more visitors and then fewer."""
    dice = random.Random(7)
    now = time.time()
    first = (int(now) // SLOT - SLOTS + 1) * SLOT
    slots = [slot(first + number * SLOT, number / SLOTS, dice) for number in range(SLOTS)]
    answer = {"object": "metrics", "slot_seconds": SLOT, "now": now, "data": slots}
    route.fulfill(content_type="application/json", body=json.dumps(answer))


def slot(at: int, part: float, dice: random.Random) -> dict[str, Any]:
    """Ten seconds; `part` is how much of the hour is over."""
    load = max(0.05, 0.55 + 0.4 * math.sin(part * 9) + dice.gauss(0, 0.06))
    started = round(load * 6)
    first, between = 0.05 + 0.09 * load**2, 0.003 + 0.004 * load
    return {
        "at": at, "started": started, "finished": started, "cancelled": 0, "failed": 0,
        "refused": int(load > 1), "prompt_tokens": started * 390,
        "tokens": round(started * 260 * (0.9 + dice.random() / 5)),
        "ttft": {"count": started, "p50": first, "p95": first * (1.9 + dice.random() / 2)},
        "itl": {"count": started * 250, "p50": between, "p95": between * (1.8 + dice.random() / 3)},
        "running": min(8, round(load * 5)), "waiting": max(0, round((load - 0.85) * 9)),
        "kv_used": round(2500 + 7000 * load), "kv_cells": 16384, "memory_bytes": round(3.1e8 + 3e7 * part),
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
