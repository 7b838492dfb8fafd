"""The support widget's talk: asked and answered from a page of another origin, through reloads, tabs and crashes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from playwright.async_api import expect
from tests.acceptance.crashes import Phoenix
from tests.web.demo import letters
from tests.web.widget import Held, Site, Widget, create_widget, long_answers, until

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenWidget

BOTH = pytest.mark.parametrize("transport", ["sse", "websocket"])
TOKENS = 1000
OPENING = "When are you open on Saturday?"
LONG = "Tell me everything about the shop."


async def nothing_lost_or_doubled(widget: Widget) -> None:
    """The answer on the page is the stored one, and is drawn as it would be at once."""
    seen = await widget.answer()
    assert letters(seen) == letters(await widget.stored_text())
    assert len(letters(seen)) > TOKENS
    assert len(await widget.stored()) == 2
    await widget.page.reload()
    await widget.open()
    await widget.settle(1)
    assert await widget.answer() == seen


@BOTH
async def test_two_turns(open_widget: OpenWidget, transport: str) -> None:
    """If this fails, the widget does not work under a strict policy, or shows something else than the server keeps."""
    widget = await open_widget(data={"transport": transport})
    assert widget.sessions == 0  # a page view is nobody's visit yet
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.send("How much is express shipping?")
    await widget.settle(2)
    texts = [await widget.stored_text(number) for number in (1, 3)]
    assert [await widget.answer(0), await widget.answer(1)] == texts
    assert "10:00 to 16:00" in texts[0]
    assert widget.sessions == 1


@BOTH
async def test_reload(open_widget: OpenWidget, server: Server, transport: str) -> None:
    """If this fails, who goes to the shop's next page in the middle of an answer loses it, or sees a part twice."""
    widget = await open_widget(script=long_answers(TOKENS), data={"transport": transport})
    await widget.open()
    with server.held():
        await widget.send(LONG)
        await widget.grown(200, server)
        await widget.page.reload()
        await widget.open()
        await widget.grown(100)
        await widget.grown(400, server)
    await widget.settle(1)
    await nothing_lost_or_doubled(widget)


@BOTH
async def test_the_server_is_killed(open_widget: OpenWidget, site: Site, tmp_path: Path, transport: str) -> None:
    """If this fails, a crash or a deployment of the server ends every open answer on every shop's page."""
    with Phoenix(tmp_path) as phoenix:
        id = create_widget(phoenix.server, site.url)
        script, data = long_answers(TOKENS), {"transport": transport}
        widget = await open_widget(chat=phoenix.url, id=id, script=script, data=data)
        widget.forgiven = ["net::ERR_", "status of 503", "Unexpected response code", "CORS policy"]
        await widget.open()
        with phoenix.server.held():
            await widget.send(LONG)
            await widget.grown(200, phoenix.server)
            killing = asyncio.create_task(asyncio.to_thread(phoenix.kill, "server"))
            await expect(widget.answers.last).to_contain_text("Reconnecting", timeout=30_000)
        await killing
        await widget.settle(1)
        await nothing_lost_or_doubled(widget)


async def test_two_tabs(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, a shopper with two tabs is two visitors, or sees in one what is missing in the other."""
    first = await open_widget(script=long_answers(TOKENS))
    second = Widget(await first.page.context.new_page(), first.chat, first.id)
    await second.page.goto(first.page.url)
    await first.open()
    await second.open()
    with server.held():
        await first.send(LONG)
        await expect(second.questions).to_have_text([LONG], timeout=30_000)
        await second.grown(100, server)
    await first.settle(1)
    await second.settle(1)
    await second.send("And the phone number?")
    await expect(first.questions).to_have_count(2, timeout=30_000)
    await second.settle(2)
    await first.settle(2)
    for number in (0, 1):
        assert letters(await first.answer(number)) == letters(await second.answer(number))
        assert letters(await first.answer(number)) == letters(await first.stored_text(2 * number + 1))
    assert len(await first.stored()) == 4
    assert not second.problems


async def test_reset_reaches_every_tab(open_widget: OpenWidget) -> None:
    """If this fails, whoever signs out in one tab leaves the conversation, or what they began to write, in another."""
    first = await open_widget()
    await first.open()
    await first.send(OPENING)
    await first.settle(1)
    second = Widget(await first.page.context.new_page(), first.chat, first.id)
    await second.page.goto(first.page.url)
    await second.open()
    await expect(second.questions).to_have_text([OPENING])
    await second.input.fill("And my name is")
    before = await first.record()
    await first.root.evaluate("chat => chat.reset()")
    for tab in (first, second):
        await expect(tab.questions).to_have_count(0)
    await expect(second.input).to_have_value("")
    assert "frontdesk" not in await first.page.evaluate("Object.keys(localStorage).join()")
    await first.send(OPENING)
    await first.settle(1)
    assert (await first.record())["visitor"] != before["visitor"]


async def test_stop_and_begin_anew(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, an answer that nobody wants cannot be stopped, or a conversation not be left behind."""
    widget = await open_widget(script=long_answers(1500))
    await widget.open()
    with server.held():
        await widget.send(LONG)
        await widget.grown(80, server)
        await widget.stop()
        await widget.settle(1)
    await expect(widget.answers.last).to_contain_text("Stopped.")
    assert letters(await widget.answer()) == letters(await widget.stored_text())
    before = await widget.record()
    await widget.panel.get_by_role("button", name="New conversation").click()
    await expect(widget.questions).to_have_count(0)
    await expect(widget.greeting).to_have_text("Hello! How can I help you?")
    kept = f"JSON.parse(localStorage.getItem('frontdesk.{widget.id}')).conversation"
    await until(widget.page, f"{kept} !== {before['conversation']!r}")  # the view is empty before the server has begun
    assert (await widget.record())["visitor"] == before["visitor"]


async def test_offline(open_widget: OpenWidget) -> None:
    """If this fails, a visitor in a tunnel loses what they wrote, or has to reload the page afterwards."""
    widget = await open_widget()
    widget.forgiven = ["net::ERR_INTERNET_DISCONNECTED"]
    await widget.page.context.set_offline(True)
    await widget.open()
    await expect(widget.notice).to_contain_text("offline")
    await widget.send(OPENING)
    await expect(widget.input).to_have_value(OPENING)
    await widget.notice.get_by_role("button", name="Try again").click()
    await expect(widget.notice).to_contain_text("offline")
    await widget.page.context.set_offline(False)
    await expect(widget.notice).to_be_hidden(timeout=15_000)
    await widget.input.press("Enter")
    await widget.settle(1)
    assert await widget.answer() == await widget.stored_text()


async def test_offline_in_the_middle(open_widget: OpenWidget) -> None:
    """If this fails, a question that was asked while the line was down is never answered, or asked twice."""
    widget = await open_widget()
    widget.forgiven = ["net::ERR_INTERNET_DISCONNECTED"]
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.page.context.set_offline(True)
    await widget.send("How much is express shipping?")
    await expect(widget.answers.last).to_contain_text("Reconnecting")
    await widget.page.context.set_offline(False)
    await widget.settle(2)
    assert len(await widget.stored()) == 4


async def test_a_refused_message_is_not_lost(open_widget: OpenWidget, site: Site, server: Server) -> None:
    """If this fails, a visitor who has to wait writes everything anew afterwards, or sees a developer's message."""
    widget = await open_widget(id=create_widget(server, site.url, "--visitor-tokens-total", "500"))
    widget.forgiven = ["status of 429"]
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.send("How much is express shipping?")
    await expect(widget.answers.last).to_contain_text("You have reached the limit for now.")
    await widget.page.reload()
    await widget.open()
    await expect(widget.questions).to_have_text([OPENING, "How much is express shipping?"])
    await expect(widget.answers.last).to_contain_text("This message was not answered.")
    await widget.answers.last.get_by_role("button", name="Try again").click()
    await expect(widget.answers.last).to_contain_text("You have reached the limit for now.")
    assert len(await widget.stored()) == 2


async def test_unread_badge(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, an answer that came while the panel was closed is not noticed, or is new for ever."""
    widget = await open_widget(script=long_answers(TOKENS))
    await widget.open()
    with server.held():
        await widget.send(LONG)
        await widget.grown(50, server)
        await widget.panel.get_by_role("button", name="Close the chat").click()
    await expect(widget.badge).to_have_text("1", timeout=60_000)
    await expect(widget.launcher).to_have_accessible_name("Open the chat (New messages: 1)")
    await widget.page.reload()
    await expect(widget.badge).to_have_text("1", timeout=30_000)
    other = Widget(await widget.page.context.new_page(), widget.chat, widget.id)
    await other.page.goto(widget.page.url)
    await other.open()
    await expect(other.questions).to_have_count(1)
    await expect(widget.badge).to_be_hidden()  # read in another tab
    await widget.page.reload()
    await widget.page.wait_for_timeout(800)
    await expect(widget.badge).to_be_hidden()


async def test_suggested_questions(open_widget: OpenWidget) -> None:
    """If this fails, a visitor who does not know what to ask has nothing to press."""
    data = {
        "greeting": "Welcome to Larkfield!",
        "questions": f'["{OPENING}", "<b>What</b> else?"]',
        "title": "Larkfield",
    }
    widget = await open_widget(data=data)
    await widget.open()
    await expect(widget.panel).to_have_accessible_name("Larkfield")
    await expect(widget.greeting).to_have_text("Welcome to Larkfield!")
    await expect(widget.panel.locator(".suggestion")).to_have_text([OPENING, "<b>What</b> else?"])
    await widget.panel.get_by_role("button", name=OPENING).click()
    await widget.settle(1)
    await expect(widget.panel.locator(".suggestion")).to_have_count(0)
    assert await widget.focused() == "input"
    assert "10:00 to 16:00" in await widget.answer()


async def test_handoff(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, a visitor who wants a person asks into the void."""
    widget = await open_widget()
    await widget.page.evaluate("addEventListener('frontdesk:handoff', event => window.told = event.detail)")
    await widget.open()
    await widget.send(OPENING)
    await widget.settle(1)
    await widget.panel.get_by_role("button", name="Talk to a person").click()
    await widget.panel.get_by_label("How can we reach you?").fill("dana@example.org")
    await widget.panel.get_by_label("What is it about?").fill("My kettle leaks.")
    await widget.panel.get_by_role("button", name="Send the request").click()
    state = widget.panel.locator(".request")
    await expect(state).to_contain_text("We have your request")
    await expect(state).to_contain_text("dana@example.org")
    assert await widget.page.evaluate("JSON.stringify(told)") == "{}"
    mine = (await widget.record())["conversation"]

    def asked() -> dict[str, str]:
        (found,) = (
            one for one in httpx2.get(f"{server.url}/v1/handoffs").json()["data"] if one["conversation"] == mine
        )
        return found

    assert (asked()["state"], asked()["message"]) == ("open", "My kettle leaks.")
    await widget.page.reload()
    await widget.open()
    await state.get_by_role("button", name="Change").click()
    contact = widget.panel.get_by_label("How can we reach you?")
    await expect(contact).to_have_value("dana@example.org")
    await contact.fill("555-0100")
    await widget.panel.get_by_role("button", name="Send the request").click()
    await expect(state).to_contain_text("555-0100")
    httpx2.post(f"{server.url}/v1/handoffs/{asked()['id']}", json={"state": "done"}).raise_for_status()
    await widget.page.reload()
    await widget.open()
    await expect(state).to_contain_text("has dealt with your request")


async def test_stop_before_the_turn_began(open_widget: OpenWidget) -> None:
    """If this fails, a question is asked and paid for although the visitor took it back."""
    widget = await open_widget()
    beginning = await Held().on(widget, "**/v1/widget/sessions")
    await widget.open()
    await widget.send(OPENING)
    await widget.stop()
    await expect(widget.input).to_have_value(OPENING)
    await (await beginning.came()).continue_()
    await until(widget.page, f"localStorage.getItem('frontdesk.{widget.id}') !== null")
    await expect(widget.answers).to_have_count(0)
    assert await widget.stored() == []
    await widget.input.press("Enter")
    await widget.settle(1)


async def test_a_new_conversation_leaves_no_text_behind(open_widget: OpenWidget, server: Server) -> None:
    """If this fails, what a visitor asked stays in the shop's storage for ever."""
    widget = await open_widget(script=long_answers(TOKENS))
    await widget.open()
    with server.held():
        await widget.send(OPENING)
        await widget.grown(1, server)
        await widget.panel.get_by_role("button", name="New conversation").click()
        await expect(widget.questions).to_have_count(0)
        await until(widget.page, f"!JSON.stringify(localStorage).includes({OPENING!r})")
    await widget.page.wait_for_timeout(500)  # the answer is still being written elsewhere, and must not come back
    kept = await widget.page.evaluate("({...localStorage})")
    assert not {name: text for name, text in kept.items() if OPENING in text}


async def test_trying_again_is_one_attempt_at_a_time(open_widget: OpenWidget) -> None:
    """If this fails, an impatient visitor makes the page knock ever more often at a server that is down."""
    widget = await open_widget()
    widget.forgiven.append("Failed to load resource")
    await widget.page.context.set_offline(True)
    await widget.open()
    again = widget.notice.get_by_role("button", name="Try again")
    for _ in range(8):
        await again.click()
        await widget.page.wait_for_timeout(50)
    await widget.page.wait_for_timeout(3_000)
    before = len(widget.asked)
    await widget.page.wait_for_timeout(6_000)
    assert len(widget.asked) - before <= 12, "up to two requests an attempt, one attempt in two seconds or more"
    await widget.page.context.set_offline(False)
    await expect(widget.notice).to_be_hidden()
