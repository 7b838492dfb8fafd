"""Pictures of the demo's main states into docs/images/, taken in Chromium against a server that is running.

    python web_demo/screenshots.py http://127.0.0.1:8000

Start the server with FRONTDESK_DATABASE=memory: what is asked here would stay in the list of conversations.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import httpx2
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
WIDE: ViewportSize = {"width": 1240, "height": 780}
NARROW: ViewportSize = {"width": 390, "height": 780}
QUESTIONS = ("When are you open on Saturday?", "How much is express shipping?", "How long is the warranty?")
FORMATTED = """We ship in **two ways**:

| Way | Business days | Price |
|---|---|---|
| Standard | 6 to 8 | $6.50 |
| Express | 1 to 2 | $12.90 |

Orders over **$85** ship free. In your shop's code that is:

```python
def shipping(total: float, express: bool) -> float:
    if total > 85:  # free from here on
        return 0.0
    return 12.90 if express else 6.50
```
"""


def add(url: str, title: str, *texts: str) -> str:
    """A conversation in which these texts were said in turns; its id."""
    roles = ["user", "assistant"] * len(texts)
    items = [{"type": "message", "role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    body = {"metadata": {"title": title}, "items": items}
    return httpx2.post(f"{url}/v1/conversations", json=body).raise_for_status().json()["id"]


def converse(page: Page, url: str) -> None:
    page.goto(url)
    for number, question in enumerate(QUESTIONS, 1):
        page.fill("#input", question)
        page.press("#input", "Enter")
        expect(page.locator(".message.assistant[aria-busy=false]")).to_have_count(number, timeout=60_000)
    page.wait_for_timeout(300)


def take(browser: Browser, url: str) -> None:
    add(url, "Opening hours at Easter", "Are you open at Easter?", "I can connect you with a human agent.")
    formatted = add(url, "Shipping, in a table", "What does shipping cost? Please show it as a table.", FORMATTED)
    chat = ("I have a question about my order, which has not arrived yet. ", "I am sorry to hear that; let me look. ")
    many = [chat[number % 2] * 16 for number in range(20)]
    long = add(url, "A long afternoon", *many)

    for scheme in ("light", "dark"):
        page = browser.new_page(viewport=WIDE, color_scheme=scheme)
        converse(page, url)
        page.screenshot(path=IMAGES / f"demo-{scheme}.png")
        page.goto(f"{url}/#{formatted}")
        page.reload()
        page.wait_for_selector(".message.assistant")
        page.wait_for_timeout(300)
        page.screenshot(path=IMAGES / f"demo-markdown-{scheme}.png")
        page.close()

    page = browser.new_page(viewport=WIDE)
    page.goto(f"{url}/#{long}")
    page.fill("#input", "When are you open?")
    page.press("#input", "Enter")
    expect(page.locator(".message.assistant .facts").last).to_contain_text("tokens/s", timeout=60_000)
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

    page = browser.new_page(viewport=NARROW, device_scale_factor=2, has_touch=True)
    page.goto(url)
    page.wait_for_timeout(500)
    page.screenshot(path=IMAGES / "demo-phone-new.png")
    converse(page, url)
    page.screenshot(path=IMAGES / "demo-phone.png")
    page.click("#side-open")
    page.wait_for_timeout(400)
    page.screenshot(path=IMAGES / "demo-phone-list.png")
    page.close()


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or sys.exit("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        take(browser, sys.argv[1].rstrip("/"))
        browser.close()


if __name__ == "__main__":
    main()
