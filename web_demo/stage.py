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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60
ANSWER_MS = 60_000
MOST_ITEMS = 20  # that one request may bring
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
    ("Do you take PayPal?", "Yes, we take PayPal, Visa and Mastercard.", "up", None),
)
HANDED_OVER = (
    ("A dented skillet", "555-0163, after 17:00", "The skillet came with a dent, and I need it on Sunday."),
    ("A late parcel", "dana@example.com", "My parcel should have been here on Friday."),
)
# What the long conversation is about, round by round.
PIECES = (
    "balloon whisk", "paring knife", "bread knife", "pepper mill", "maple rolling pin", "cake tin", "steel colander",
    "beech carving board", "gratin dish", "stovetop kettle", "sauté pan", "copper skillet", "granite mortar",
    "roasting tin", "stand mixer", "steel stockpot",
)  # fmt: skip
ROOMS = ("flat in the old town", "cottage by the river", "small restaurant", "canteen", "mountain hut")
CARE = (
    "rinse it with warm water and a soft brush, dry it at once and hang it where air can reach it",
    "rub it with a thin coat of oil after every use, at first also before it is used for anything sour",
    "keep it out of the dishwasher, whose salt and heat dull the surface within a few months",
)
WORRIES = (
    "My last one lost its handle after two winters, and nobody could tell me where to have it mended.",
    "We cook for nine on most evenings, so it will stand on the stove for hours and is washed in a hurry.",
    "It is meant as a present for my sister, who has a glass hob and very little room in her cupboards.",
    "I have read so many opinions by now that I no longer know which of them to believe.",
)


@dataclass(frozen=True)
class Stage:
    """`url` has no path; `origin` is the shop's; `keys` have budgets; `table` and `long` are the ids of a conversation
    with formatted text and of one that is longer than the model's window."""

    url: str
    origin: str
    widget: str
    keys: tuple[str, ...]
    table: str
    long: str

    @property
    def shop(self) -> str:
        """The address of the sample shop with its widget."""
        return f"{self.origin}/shop.html?server={self.url}&widget={self.widget}"

    def visitor(self) -> tuple[str, str]:
        """The token of somebody new at the shop, and their conversation."""
        asked = {"widget": self.widget}
        answer = httpx2.post(f"{self.url}/v1/widget/sessions", json=asked, headers={"origin": self.origin})
        session = answer.raise_for_status().json()
        return session["token"], session["conversation"]


@contextmanager
def stage() -> Iterator[Stage]:
    """Starts the server, fills it, and ends it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        database = f"{folder}/frontdesk.db"
        environment = {
            **os.environ, "XDG_STATE_HOME": folder, "FRONTDESK_DATABASE": database, "FRONTDESK_LOG_LEVEL": "error",
        }  # fmt: skip
        serve = [sys.executable, "-m", "frontdesk", "serve", "--port", port]
        server = subprocess.Popen(serve, env=environment, cwd=ROOT / "backend", stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url)
            origin = f"http://localhost:{port}"
            widget = command(environment, "widgets", "create", "Larkfield shop", "--origin", origin)
            keys = (
                command(environment, "keys", "create", "phone app", "--tokens-per-day", "40000"),
                command(environment, "keys", "create", "newsletter", "--tokens-total", "12000"),
            )
            table, long = fill(url, keys)
            yield Stage(url, origin, widget, keys, table, long)
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


def converse(page: Page, url: str, questions: Sequence[str] = QUESTIONS) -> None:
    """Asks the demo's questions, each after the answer to the one before."""
    page.goto(url)
    for question in questions:
        ask_demo(page, question)


def ask_demo(page: Page, question: str) -> None:
    """Asks, and waits for the whole answer."""
    finished = page.locator(".message.assistant[aria-busy=false]")
    before = finished.count()
    page.fill("#input", question)
    page.press("#input", "Enter")
    expect(finished).to_have_count(before + 1, timeout=ANSWER_MS)
    page.wait_for_timeout(300)


def open_widget(page: Page) -> Locator:
    """Opens the shop's chat window; its panel."""
    page.locator("support-chat [part=launcher]").click()
    page.mouse.move(0, 0)  # a button below the pointer looks different
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


def fill(url: str, keys: tuple[str, ...]) -> tuple[str, str]:
    """Has said and asked what a shop's customers might; the conversations `Stage.table` and `Stage.long`."""
    for question, answer, rating, comment in RATED:
        conversation = add(url, question, question, answer)
        path = f"/v1/conversations/{conversation}/items"
        item = httpx2.get(f"{url}{path}?order=desc&limit=1").raise_for_status().json()["data"][0]["id"]
        post(url, f"{path}/{item}/feedback", {"rating": rating, "comment": comment})
    for title, contact, message in HANDED_OVER:
        waiting = add(url, title, "I want to talk to a person.", "I can hand you over. How can we reach you?")
        post(url, f"/v1/conversations/{waiting}/handoff", {"contact": contact, "message": message})
    for key in keys:
        post(url, "/v1/responses", {"input": "Tell me all.", "ignore_eos": True, "max_output_tokens": 1500}, key)
    for body in ({"model": "gpt-unknown", "input": "Hello"}, {"input": "Hello", "temperature": 9}):
        httpx2.post(f"{url}/v1/responses", json=body)
    add(url, "Opening hours at Easter", "Are you open at Easter?", "I can connect you with a human agent.")
    table = add(url, "Shipping, in a table", "What does shipping cost? Please show it as a table.", TABLE)
    return table, add(url, "Furnishing a kitchen", *long_talk())


def long_talk() -> Iterator[str]:
    """Question and answer, round by round, longer than the model's window."""
    for number, piece in enumerate(PIECES):
        room = ROOMS[number % len(ROOMS)]
        yield (
            f"Now for the {piece}. I am furnishing a {room}, and there should be one that lasts. "
            f"{WORRIES[number % len(WORRIES)]} What should I look for in a {piece}, and how is it cared for?"
        )
        yield (
            f"For a {room}, the {piece} is worth some thought. Look at where its parts are joined: riveted or of one "
            f"piece is best. Take it into your hand, too: between {100 + 90 * number} and {300 + 120 * number} grams "
            f"are right. After use, {CARE[number % len(CARE)]}. With a {piece} that takes {2 + number % 4} minutes. "
            f"Choose the one of {16 + number} centimetres if you are unsure; the next one is for a full table. "
            f"Should it ever fail, the warranty of 12 years holds for the {piece} too."
        )


def add(url: str, title: str, *texts: str) -> str:
    """A conversation in which these texts were said in turns; its id."""
    roles = ["user", "assistant"] * len(texts)
    items = [{"type": "message", "role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    id = post(url, "/v1/conversations", {"metadata": {"title": title}})["id"]
    for at in range(0, len(items), MOST_ITEMS):
        post(url, f"/v1/conversations/{id}/items", {"items": items[at : at + MOST_ITEMS]})
    return id


def post(url: str, path: str, body: object, key: str = "") -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx2.post(url + path, json=body, headers=headers, timeout=60).raise_for_status().json()
