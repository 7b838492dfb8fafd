"""docs/embedding.md is followed to the letter: its tag, its policy, its snippets, its lists of names."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.examples.conftest import MakeWidget, Serve

DOC = (ROOT / "docs/embedding.md").read_text("utf-8")
WIDGET = ROOT / "web_demo/src/widget"
SHOP = "https://shop.example"
SIGNERS = ("python", "js", "php")
PAGE = (
    "<!doctype html><html lang=en><head><meta charset=utf-8><title>Shop</title>{head}</head><body><h1>Shop</h1>{body}"
)
ICON = "<link rel=icon href=data:,>"  # else the browser asks for one that is not there, and complains


def block(kind: str, holding: str) -> str:
    """The page's one block of code of this kind that holds these words."""
    (found,) = [text for text in re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL) if holding in text]
    return found


def section(heading: str) -> str:
    return DOC.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def column(heading: str, pattern: str) -> set[str]:
    """Names in the first column of the tables under a heading."""
    cells = re.findall(r"^\| (`.*?) \|", section(heading), re.MULTILINE)
    return {name for cell in cells for name in re.findall(pattern, cell)}


def source(suffix: str) -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted(WIDGET.rglob(f"*.{suffix}")))


def signed(kind: str, secret: str, widget: str, folder: Path) -> str:
    """The identity of the person 17, called Dana, from the page's snippet in this language."""
    snippet = block(kind, "dentity(")
    if kind == "python":
        names: dict[str, Any] = {}
        exec(snippet, names)
        return names["chat_identity"](secret, widget, "17", "Dana")
    program = {"js": "node", "php": "php"}[kind]
    if shutil.which(program) is None:
        pytest.skip(f"!! NOT TESTED: the snippet of docs/embedding.md in {kind} needs {program}")
    call = {
        "js": f"console.log(chatIdentity('{secret}', '{widget}', '17', 'Dana'))",
        "php": f"echo chat_identity('{secret}', '{widget}', '17', 'Dana');",
    }[kind]
    file = folder / {"js": "sign.mjs", "php": "sign.php"}[kind]
    file.write_text(("<?php\n" if kind == "php" else "") + snippet + call + "\n")
    return subprocess.run([program, str(file)], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@pytest.mark.parametrize("kind", SIGNERS)
def test_identity_snippets(
    kind: str, server: Server, make_widget: MakeWidget, widget_secret: Callable[..., str], tmp_path: Path
) -> None:
    """If this fails, who copies the page's snippet cannot sign anybody in."""
    widget = make_widget(server, SHOP)
    secret = widget_secret(server, widget)

    def session(**body: str) -> httpx2.Response:
        address = f"{server.url}/v1/widget/sessions"
        return httpx2.post(address, json={"widget": widget, **body}, headers={"origin": SHOP}, timeout=30)

    answers = [session(identity=signed(kind, secret, widget, tmp_path)).json() for _ in range(2)]
    assert [answer["visitor"]["identified"] for answer in answers] == [True, True]
    assert answers[0]["visitor"]["name"] == "Dana"
    assert answers[0]["visitor"]["id"] == answers[1]["visitor"]["id"]
    assert session(identity=signed(kind, "0" * 64, widget, tmp_path)).status_code == 401


def test_names_are_the_widgets_own() -> None:
    """If this fails, a property, part, attribute, method or event stands on the page and not in the widget, or is not
    found on the page."""
    style, script = source("css"), source("ts")
    assert column("Look", r"--frontdesk-[\w-]+") == set(re.findall(r"var\((--frontdesk-[\w-]+)", style))

    parts = re.search(r"^Parts, .*?\n\n", section("Look"), re.MULTILINE | re.DOTALL)
    assert parts
    made = set(re.findall(r'\bpart\(\s*"\w+",\s*"([\w-]+)"|setAttribute\("part", "([\w-]+)"', script))
    names = {name for pair in made for name in pair if name} | {"message", "message-user", "message-assistant"}
    assert set(re.findall(r"`([\w-]+)`", parts[0])) == names

    listed = re.search(r"ATTRIBUTES = \[(.*?)\]", script, re.DOTALL)
    assert listed
    assert column("The tag and the element", r"`([a-z]+)`") == set(re.findall(r'"([a-z]+)"', listed[1]))

    told = " ".join(re.findall(r"#tell\(([^{)]*)", script))
    assert column("Your own button, and events", r"frontdesk:(\w+)") == set(re.findall(r'"(\w+)"', told))
    for method in column("Your own button, and events", r"`?(\w+)\("):
        assert re.search(rf"^  {method}\(", script, re.MULTILINE), method


@pytest.fixture
async def follow(
    browser: Browser,
    server: Server,
    make_widget: MakeWidget,
    widget_secret: Callable[..., str],
    serve: Serve,
    tmp_path: Path,
) -> AsyncIterator[Callable[..., Awaitable[Page]]]:
    """`await follow(head, body)`: a page of another origin with this in it, the addresses of docs/embedding.md replaced
    by real ones. At `/chat-identity` it vouches for Dana. Fails when the browser complained of anything."""
    problems: list[str] = []
    async with await browser.new_context(locale="en-US", color_scheme="light") as context:

        async def opened(head: str, body: str = "") -> Page:
            home = serve(tmp_path, {})
            widget = make_widget(server, home)
            identity = signed("python", widget_secret(server, widget), widget, tmp_path)
            (tmp_path / "chat-identity").write_text(identity)
            real = {"https://chat.example": server.url, "wgt_0123456789ab": widget}
            text = PAGE.format(head=head, body=body)
            for written, used in real.items():
                text = text.replace(written, used)
            (tmp_path / "index.html").write_text(text)
            page = await context.new_page()
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            await page.goto(home)
            return page

        yield opened
    assert not problems


async def test_five_minutes(follow: Callable[..., Awaitable[Page]]) -> None:
    """If this fails, the one tag and the two lines of policy are not enough."""
    policy = " ".join(block("text", "connect-src").split())
    head = f"<meta http-equiv='content-security-policy' content=\"default-src 'none'; {policy}\">"
    page = await follow(head + block("html", "data-widget"))
    await page.get_by_role("button", name="Open the chat").click()
    await page.get_by_role("textbox").fill("When are you open?")
    await page.get_by_role("textbox").press("Enter")
    await expect(page.get_by_role("log")).to_contain_text("9:30", timeout=60_000)


async def test_own_button_and_look(follow: Callable[..., Awaitable[Page]]) -> None:
    """If this fails, the page's example of a launcher of one's own, or of colours of one's own, does nothing."""
    style = f"<style>{block('css', '--frontdesk-accent')}</style>{ICON}"
    page = await follow(block("html", "data-widget") + style, block("html", "Ask us"))
    await expect(page.get_by_role("button", name="Open the chat")).to_have_count(0)
    await page.get_by_role("button", name="Ask us").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.get_by_role("textbox").fill("Hello")
    await expect(page.get_by_role("button", name="Send")).to_have_css("background-color", "rgb(122, 46, 29)")
    await expect(page.locator("[part=header]")).to_have_css("border-bottom-color", "rgb(218, 165, 32)")


async def test_signing_in_and_out(follow: Callable[..., Awaitable[Page]]) -> None:
    """If this fails, the page's example leaves who signed in anonymous, or the next one finds their talk."""
    script = f"const signOutButton = document.querySelector('#out');\n{block('js', 'identify(')}"
    body = f"<button id=out>Sign out</button><script type=module>{script}</script>"
    page = await follow(block("html", "data-widget") + ICON, body)
    async with page.expect_response("**/v1/widget/sessions") as session:
        await page.get_by_role("button", name="Open the chat").click()
    visitor = (await (await session.value).json())["visitor"]
    assert (visitor["identified"], visitor["name"]) == (True, "Dana")
    await page.wait_for_function("localStorage.length > 0")
    await page.get_by_role("button", name="Sign out").click()
    assert await page.evaluate("localStorage.length") == 0
