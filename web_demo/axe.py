"""Every state of every page before axe-core, in Chromium and on a server of its own; the table goes into
docs/accessibility.md.

    python web_demo/axe.py          exit code 1 when anything serious was found

A rule that passed was looked at and is kept everywhere on the page. A rule "to look at" is one that axe cannot decide
by itself, such as the contrast of text on a gradient. Needs `npm ci` in web_demo/.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, expect
from stage import ROOT, Stage, ask_widget, chromium, converse, open_widget, stage

AXE = ROOT / "web_demo/node_modules/axe-core/axe.min.js"
DOCUMENT = ROOT / "docs/accessibility.md"
TABLE = re.compile(r"(?<=<!-- table: web_demo/axe.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
AWAY = re.compile("/readyz|/v1/")  # what the operator's page reads
AWAY_MS = 30_000
BROKEN = {"error": {"message": "the server made a mistake", "type": "server_error", "code": "internal_error"}}
LOCKED = {"error": {"message": "a key is needed", "type": "authentication_error", "code": "missing_api_key"}}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1240, "height": 800}},
    "dark": {"viewport": {"width": 1240, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 780}, "has_touch": True},
}


def demo(page: Page, on: Stage) -> Iterator[str]:
    """Takes the page from state to state, and names each."""
    page.goto(on.url)
    page.wait_for_timeout(500)
    yield "demo, new conversation"
    converse(page, on.url)
    page.get_by_role("button", name="Bad answer").last.click()
    yield "demo, answers and a rating"
    page.goto(f"{on.url}/#{on.table}")
    page.reload()
    page.wait_for_selector(".message.assistant")
    yield "demo, table and code"
    page.click("#meter")
    yield "demo, context"
    page.keyboard.press("Escape")
    page.click("#more")
    yield "demo, menu"
    page.click("#inspect-open")
    yield "demo, events"
    page.click("#inspect-close")
    if page.locator("#side-open").is_visible():
        page.click("#side-open")
        page.wait_for_timeout(400)
        yield "demo, list over the page"
    page.click("#settings-open")
    yield "demo, settings"
    page.keyboard.press("Escape")
    if page.locator("#side-close").is_visible():
        page.click("#side-close")
    for act, name in (("#rename", "question with a field"), ("#delete", "question before a deletion")):
        page.click("#more")
        page.click(act)
        yield f"demo, {name}"
        page.keyboard.press("Escape")
    page.route("**/v1/responses", lambda route: route.fulfill(status=500, json=BROKEN))
    page.fill("#input", "When are you open?")
    page.press("#input", "Enter")
    expect(page.get_by_role("button", name="Try again").last).to_be_visible()
    yield "demo, no answer"
    page.unroute("**/v1/responses")
    page.route("**/v1/**", lambda route: route.abort())
    page.reload()
    page.wait_for_timeout(1000)
    yield "demo, server away"


def shop_and_widget(page: Page, on: Stage) -> Iterator[str]:
    page.goto(on.shop)
    page.wait_for_timeout(800)
    yield "shop, widget closed"
    panel = open_widget(page)
    yield "widget, greeting"
    ask_widget(panel, "When are you open on Saturday?")
    yield "widget, answer"
    panel.get_by_role("button", name="Talk to a person").click()
    page.wait_for_timeout(300)
    yield "widget, hand-off"
    panel.get_by_role("button", name="Cancel").click()
    page.context.set_offline(True)
    panel.get_by_role("button", name="New conversation").click()
    expect(panel.get_by_role("button", name="Try again")).to_be_visible()
    yield "widget, offline"


def widget_from_the_right(page: Page, on: Stage) -> Iterator[str]:
    page.goto(on.shop + "&lang=ar&dir=rtl")
    page.wait_for_timeout(800)
    open_widget(page)
    yield "widget, right to left"


def admin(page: Page, on: Stage) -> Iterator[str]:
    page.goto(on.url + "/admin")
    expect(page.locator("#link-text")).to_have_text("Live")
    page.get_by_text("The numbers as a table").click()
    yield "operator's page"
    page.route(AWAY, lambda route: route.abort())
    expect(page.locator("#link-text")).to_contain_text("Not reachable", timeout=AWAY_MS)
    yield "operator's page, server away"
    page.unroute(AWAY)
    page.route(AWAY, lambda route: route.fulfill(status=401, json=LOCKED))
    expect(page.get_by_role("dialog")).to_be_visible(timeout=AWAY_MS)
    yield "operator's page, asking for a key"


HEAD = (
    "| State | Look | Rules passed | Serious or critical | Moderate or minor | To look at |",
    "|---|---|---|---|---|---|",
)
PAGES = (demo, shop_and_widget, widget_from_the_right, admin)


def look(browser: Browser, on: Stage) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of each state: its name, the look, and what axe says."""
    for name, options in LOOKS.items():
        for pages in PAGES:
            page = browser.new_context(**options, reduced_motion="reduce", bypass_csp=True).new_page()
            for state in pages(page, on):
                if not page.evaluate("typeof axe === 'object'"):
                    page.evaluate(AXE.read_text())
                yield state, name, json.loads(page.evaluate("axe.run().then(JSON.stringify)"))
            page.context.close()


def row(state: str, name: str, found: dict[str, Any]) -> str:
    serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    other = len(found["violations"]) - len(serious)
    counts = (len(found["passes"]), len(serious), other, len(found["incomplete"]))
    return f"| {state} | {name} | {' | '.join(map(str, counts))} |"


def main() -> None:
    if not AXE.is_file():
        sys.exit("there is no axe-core: npm ci in web_demo/")
    rows, problems = [], []
    with stage() as on, chromium() as browser:
        for state, name, found in look(browser, on):
            rows.append(row(state, name, found))
            for rule in found["violations"]:
                where = ", ".join(" ".join(map(str, node["target"])) for node in rule["nodes"])
                problems.append(f"{state}, {name}: {rule['impact']} {rule['id']} at {where}")
            version, chrome = found["testEngine"]["version"], browser.version.split(".")[0]
    table = "\n".join([f"axe-core {version}, Chromium {chrome}:", "", *HEAD, *rows, ""])
    DOCUMENT.write_text(TABLE.sub(lambda _: table, DOCUMENT.read_text()))
    print("\n".join([table, *problems]))
    sys.exit(any(" serious " in problem or " critical " in problem for problem in problems))


if __name__ == "__main__":
    main()
