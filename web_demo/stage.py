"""A server with something to see on every page, for pictures and checks of them; and the browser to look with.

The server, its database and everything in it are there for one run: conversations, ratings, hand-offs, keys with
budgets, refused requests, and a widget for the sample shop. The shop's page comes from `localhost` and its widget from
`127.0.0.1`: two origins for a browser, as in real life.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60
ANSWER_MS = 60_000
QUESTIONS = ("When are you open on Saturday?", "How much is express shipping?", "How long is the warranty?")
TABLE = """We ship in **two ways**:

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
RATED = (
    ("Is the kettle dishwasher safe?", "I don't know that, sorry.", "down", "It says so on the box"),
    ("Do you take PayPal?", "Yes, we take PayPal and all common cards.", "up", None),
)


@dataclass(frozen=True)
class Stage:
    """`url` has no path. `shop` is the address of the sample shop with its widget; `keys` have budgets; `table` and
    `long` are the ids of a conversation with formatted text and of one that is longer than the model's window."""

    url: str
    shop: str
    keys: tuple[str, ...]
    table: str
    long: str


@contextmanager
def stage() -> Iterator[Stage]:
    """Starts the server, fills it, and ends it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        database = f"{folder}/frontdesk.db"
        environment = {**os.environ, "FRONTDESK_DATABASE": database, "FRONTDESK_LOG_LEVEL": "error"}
        serve = [sys.executable, "-m", "frontdesk", "serve", "--port", port]
        server = subprocess.Popen(serve, env=environment, cwd=ROOT / "backend", stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url)
            widget = command(environment, "widgets", "create", "Larkfield shop", "--origin", f"http://localhost:{port}")
            keys = (
                command(environment, "keys", "create", "phone app", "--tokens-per-day", "20000"),
                command(environment, "keys", "create", "newsletter", "--tokens-per-minute", "90000"),
            )
            shop = f"http://localhost:{port}/shop.html?server={url}&widget={widget}"
            yield fill(url, shop, keys)
        finally:
            server.terminate()
            server.wait()


@contextmanager
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or sys.exit("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def converse(page: Page, url: str) -> None:
    """Asks the demo's questions, each after the answer to the one before."""
    page.goto(url)
    for number, question in enumerate(QUESTIONS, 1):
        page.fill("#input", question)
        page.press("#input", "Enter")
        expect(page.locator(".message.assistant[aria-busy=false]")).to_have_count(number, timeout=ANSWER_MS)
    page.wait_for_timeout(300)


def open_widget(page: Page) -> Locator:
    """Opens the shop's chat window; its panel."""
    page.locator("support-chat [part=launcher]").click()
    panel = page.locator("support-chat [part=panel]")
    expect(panel).to_be_visible()
    page.wait_for_timeout(400)
    return panel


def ask_widget(panel: Locator, text: str) -> None:
    panel.locator("[part=input]").fill(text)
    panel.locator("[part=input]").press("Enter")
    answer = panel.locator("[part~=message-assistant][aria-busy=false] .body")
    expect(answer.last).not_to_be_empty(timeout=ANSWER_MS)
    panel.page.wait_for_timeout(400)


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if httpx2.get(url + "/readyz").status_code == 200:
                return
        time.sleep(0.1)
    sys.exit("the server did not start in time")


def command(environment: dict[str, str], *arguments: str) -> str:
    """A `frontdesk` command; what it printed."""
    line = [sys.executable, "-m", "frontdesk", *arguments]
    done = subprocess.run(line, env=environment, cwd=ROOT / "backend", check=True, capture_output=True, text=True)
    return done.stdout.strip()


def fill(url: str, shop: str, keys: tuple[str, ...]) -> Stage:
    for question, answer, rating, comment in RATED:
        conversation = add(url, question, question, answer)
        path = f"/v1/conversations/{conversation}/items"
        item = httpx2.get(f"{url}{path}?order=desc&limit=1").raise_for_status().json()["data"][0]["id"]
        post(url, f"{path}/{item}/feedback", {"rating": rating, "comment": comment})
    waiting = add(url, "A late parcel", "I want to talk to a person.", "I can hand you over. How can we reach you?")
    asked = {"contact": "dana@example.com", "message": "My parcel should have been here on Friday."}
    post(url, f"/v1/conversations/{waiting}/handoff", asked)
    for key in keys:
        post(url, "/v1/responses", {"input": "Tell me all.", "ignore_eos": True, "max_output_tokens": 1500}, key)
    for body in ({"model": "gpt-unknown", "input": "Hello"}, {"input": "Hello", "temperature": 9}):
        httpx2.post(f"{url}/v1/responses", json=body)
    add(url, "Opening hours at Easter", "Are you open at Easter?", "I can connect you with a human agent.")
    table = add(url, "Shipping, in a table", "What does shipping cost? Please show it as a table.", TABLE)
    chat = ("I have a question about my order, which has not arrived yet. ", "I am sorry to hear that; let me look. ")
    long = add(url, "A long afternoon", *(chat[number % 2] * 16 for number in range(20)))
    return Stage(url, shop, keys, table, long)


def add(url: str, title: str, *texts: str) -> str:
    """A conversation in which these texts were said in turns; its id."""
    roles = ["user", "assistant"] * len(texts)
    items = [{"type": "message", "role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return post(url, "/v1/conversations", {"metadata": {"title": title}, "items": items})["id"]


def post(url: str, path: str, body: object, key: str = "") -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx2.post(url + path, json=body, headers=headers, timeout=60).raise_for_status().json()
