"""The support widget beside a page's own scripts: policies, shortcuts, frameworks that set and move what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tests.web.widget import Site

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

OPENING = "When are you open on Saturday?"
BOLD = "**Welcome** to Larkfield!"
FORBIDDEN = "violates the following Content Security"


def with_policy(site: Site, url: str, before: str, after: str) -> str:
    """The same page with a change of its content security policy."""
    path = url.removeprefix(site.url)
    body, headers = site.pages[path]
    changed = {name: text.replace(before, after) for name, text in headers.items()}
    assert changed != headers
    site.pages[path] = (body, changed)
    return url


@pytest.mark.parametrize("listed", ["frontdesk dompurify", "dompurify"])
async def test_trusted_types(open_widget: OpenWidget, site: Site, server: Server, widget_id: str, listed: str) -> None:
    """If this fails, all that is said reads "null" on pages with a list of policies, or the shop's own sanitizer finds
    its name taken and throws."""
    strict = site.strict(server.url, widget_id, "/listed", greeting=BOLD)
    url = with_policy(site, strict, "for 'script'", f"for 'script'; trusted-types {listed}")
    allowed = "frontdesk" in listed
    widget = await open_widget(url=url, forgiven=[] if allowed else [FORBIDDEN, "requires 'TrustedHTML'"])
    assert await widget.page.evaluate("trustedTypes.createPolicy('dompurify', {}).name") == "dompurify"
    await widget.open()
    await expect(widget.greeting).to_have_text(BOLD.replace("*", "") if allowed else BOLD)


async def test_shortcuts_of_the_page(open_widget: OpenWidget) -> None:
    """If this fails, whoever types "/" lands in the shop's search, and the rest of the message with it, or the page's
    own dialogs no longer close with Escape."""
    widget = await open_widget()
    await widget.page.evaluate(
        "window.heard = []; for (const type of ['keydown', 'keypress', 'keyup'])"
        "document.addEventListener(type, event => heard.push(event.key))"
    )
    await widget.open()
    await widget.input.press_sequentially("/x")
    await expect(widget.input).to_have_value("/x")
    await widget.input.press("Escape")
    await expect(widget.panel).to_be_hidden()
    assert await widget.page.evaluate("heard") == []
    await widget.launcher.press("Escape")  # for a dialog of the page
    assert await widget.page.evaluate("heard") == ["Escape"] * 2  # pressed and released
    await widget.page.get_by_role("button", name="More").press("/")
    assert await widget.page.evaluate("heard") == ["Escape"] * 2 + ["/"] * 3


async def test_open_is_a_property_too(open_widget: OpenWidget) -> None:
    """If this fails, a framework that sets properties breaks the method `open()`, and opens nothing."""
    widget = await open_widget()
    for value in ("true", "''"):
        await widget.root.evaluate(f"chat => {{ chat.open = {value}; }}")
        await expect(widget.panel).to_be_visible()
        await widget.root.evaluate("chat => { chat.open = false; }")
        await expect(widget.panel).to_be_hidden()
    await widget.root.evaluate("chat => chat.open()")
    await expect(widget.panel).to_be_visible()


async def test_what_is_being_written_stays(open_widget: OpenWidget) -> None:
    """If this fails, a page that changes its language or moves the element takes the visitor's words away."""
    widget = await open_widget()
    await widget.open()
    await widget.input.fill("My kettle")
    await widget.panel.get_by_role("button", name="Talk to a person").click()
    contact = widget.panel.get_by_label("How can we reach you?")
    await contact.fill("dana@example.org")
    await widget.root.evaluate("chat => chat.setAttribute('theme', 'dark')")
    await expect(contact).to_be_focused()  # that is nothing but style
    await widget.root.evaluate("chat => chat.setAttribute('title', 'Larkfield')")
    await expect(widget.panel).to_have_accessible_name("Larkfield")
    await widget.root.evaluate("chat => document.querySelector('main').append(chat)")
    await expect(widget.input).to_have_value("My kettle")
    await expect(widget.panel.get_by_role("button", name="Send", exact=True)).to_be_enabled()
    await widget.panel.get_by_role("button", name="Talk to a person").click()
    await expect(contact).to_have_value("dana@example.org")
    await widget.root.evaluate("chat => { chat.remove(); chat.reset(); document.body.append(chat); }")
    assert "frontdesk" not in await widget.page.evaluate("Object.keys(localStorage).join()")
    await expect(widget.input).to_have_value("")


async def test_words_of_another_language(open_widget: OpenWidget) -> None:
    """If this fails, a screen reader reads English buttons as if they were Italian."""
    widget = await open_widget(data={"lang": "it"})
    language = "part => part.closest('[lang]').lang"
    await widget.open()
    assert await widget.launcher.evaluate(language) == "en"
    assert await widget.greeting.evaluate(language) == "it"
    await widget.root.evaluate("chat => chat.setAttribute('lang', 'de-AT')")
    await expect(widget.launcher).to_have_accessible_name("Chat schließen")
    assert await widget.launcher.evaluate(language) == "de-AT"
