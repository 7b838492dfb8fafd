"""Asking and answering: streamed on both transports, stopped, asked again, failed, edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tests.acceptance.asking import create_key
from tests.web.demo import Demo, letters, long_answers
from tests.web.test_places import Held

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

BOTH = pytest.mark.parametrize("transport", ["sse", "websocket"])
OPENING = "When are you open on Saturday?"


@BOTH
async def test_two_turns(open_demo: OpenDemo, transport: str) -> None:
    """If this fails, the page shows something else than what the server keeps, or forgets the conversation."""
    demo = await open_demo()
    await demo.choose(transport)
    await demo.send(OPENING)
    await demo.settle(1)
    await demo.send("How much is express shipping?")
    await demo.settle(2)
    assert [await demo.answer(0), await demo.answer(1)] == [demo.stored_text(1), demo.stored_text(3)]
    assert "10:00 to 16:00" in await demo.answer(0)
    facts = demo.answers.last.locator(".facts")
    await expect(facts).to_contain_text("First token")
    await expect(facts).to_contain_text("SSE" if transport == "sse" else "WebSocket")
    open_one = demo.page.locator("#list a[aria-current=page]")
    await expect(open_one).to_have_text(OPENING)
    await expect(open_one).to_have_attribute("href", f"#{demo.conversation}")


@BOTH
async def test_stop(open_demo: OpenDemo, server: Server, transport: str) -> None:
    """If this fails, an answer that nobody wants burns tokens to its end, or what was read of it is lost."""
    demo = await open_demo(script=long_answers(1500))
    await demo.choose(transport)
    with server.held():
        await demo.send(OPENING)
        await demo.grown(80, server)
        await demo.page.keyboard.press("Escape")
        await demo.settle(1)
    await expect(demo.answers.last).to_contain_text("Stopped.")
    assert demo.stored()[-1]["status"] == "incomplete"
    assert letters(await demo.answer()) == letters(demo.stored_text())
    await expect(demo.input).to_be_focused()


async def test_a_double_click_on_send(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, whoever clicks twice out of habit stops what they asked for."""
    demo = await open_demo(script=long_answers(300))
    await demo.input.fill(OPENING)
    with server.held():
        await demo.page.evaluate("for (const id of ['send', 'stop']) document.getElementById(id).click()")
        await demo.grown(20, server)
    await demo.settle(1)
    await expect(demo.answers.last).not_to_contain_text("Stopped.")


async def test_stop_before_it_begins(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, whoever notices a slip of the pen at once cannot take the message back."""
    demo = await open_demo(script=long_answers(1500))
    with server.held():
        await demo.send(OPENING)
        await demo.page.keyboard.press("Escape")
        await demo.settle(1)
    await expect(demo.answers.last).to_contain_text("Stopped.")
    assert await demo.answer() == ""


async def test_stop_before_the_server_was_reached(open_demo: OpenDemo) -> None:
    """If this fails, a message that was taken back is sent again and again until the server hears it."""
    demo = await open_demo()
    demo.forgiven = ["net::ERR_FAILED"]
    held = await Held("POST", "/v1/responses", lost=True).on(demo.page)
    await demo.send(OPENING)
    await held.came.wait()
    await demo.stop()
    held.free.set()
    await demo.settle(1)
    await expect(demo.answers.last).to_contain_text("Stopped.")
    assert demo.stored() == []
    assert held.count == 1


async def test_answer_again(open_demo: OpenDemo) -> None:
    """If this fails, a second try is added to the conversation beside the first, and the model sees both."""
    demo = await open_demo()
    await demo.send(OPENING)
    await demo.settle(1)
    first = demo.stored()[1]["id"]
    await demo.answers.last.evaluate("answer => answer.classList.add('first-try')")
    await demo.page.get_by_role("button", name="Answer again").click()
    await expect(demo.page.locator(".first-try")).to_have_count(0)
    await demo.settle(1)
    question, answer = demo.stored()
    assert answer["id"] != first
    assert await demo.answer() == demo.stored_text()
    assert question["content"][0]["text"] == OPENING


async def test_a_refused_message_is_not_lost(open_demo: OpenDemo) -> None:
    """If this fails, a person has to write a message anew because a setting was wrong, even after a reload."""
    demo = await open_demo()
    demo.forgiven = ["status of 400"]
    await set_further_fields(demo, '{"temperature": 9}')
    await demo.send(OPENING)
    again = demo.page.get_by_role("button", name="Try again")
    await expect(demo.answers.last).to_contain_text("temperature")
    await demo.page.reload()
    await expect(demo.page.locator(".message.user .body")).to_have_text(OPENING)
    await set_further_fields(demo, "")
    await again.click()
    await expect(again).to_have_count(0)
    await demo.settle(1)
    assert [item["role"] for item in demo.stored()] == ["user", "assistant"]
    assert await demo.answer() == demo.stored_text()


async def test_trying_again_after_another_question(open_demo: OpenDemo) -> None:
    """If this fails, "Try again" does nothing once a later question was answered."""
    demo = await open_demo()
    demo.forgiven = ["status of 429"]
    await demo.send(OPENING)
    await demo.settle(1)
    refusal = {"error": {"code": "server_overloaded", "message": "the line is full"}}
    await demo.page.route("**/v1/responses", lambda route: route.fulfill(status=429, json=refusal), times=1)
    await demo.send("And on Sunday?")
    again = demo.page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await demo.send("How much is express shipping?")
    await demo.settle(3)
    await again.click()
    await expect(demo.page.locator(".message.user .body").last).to_have_text("And on Sunday?")
    await demo.settle(3)
    assert len(demo.stored()) == 6


async def test_a_long_first_message_with_an_emoji(open_demo: OpenDemo) -> None:
    """If this fails, half an emoji in the title keeps a conversation from beginning."""
    demo = await open_demo()
    begun = "Hello, I was in your shop last week and I would like to know something about.."
    await demo.send(f"{begun}😀 kettles.")
    await demo.settle(1)
    await expect(demo.page.locator("#list a[aria-current=page]")).to_have_text(f"{begun}😀…")


async def set_further_fields(demo: Demo, text: str) -> None:
    await demo.page.get_by_role("button", name="Settings").click()
    await demo.page.get_by_label("Further fields").fill(text)
    await demo.page.get_by_role("button", name="Save").click()


async def test_an_edited_message_goes_on_in_a_fork(open_demo: OpenDemo) -> None:
    """If this fails, editing destroys the conversation that it came from, or the fork knows what came after."""
    demo = await open_demo()
    await demo.send("Hi, I'm Dana.")
    await demo.settle(1)
    await demo.send(OPENING)
    await demo.settle(2)
    before, source = demo.stored(), demo.conversation
    message = demo.page.locator(".message.user").last
    await message.hover()
    await message.get_by_role("button", name="Edit").click()
    await demo.send("And on Sunday?")
    await expect(demo.page.locator(".message.user .body").last).to_have_text("And on Sunday?")
    await demo.settle(2)
    assert demo.conversation != source
    assert [item["content"][0]["text"] for item in demo.stored()[:3]] == [
        *(item["content"][0]["text"] for item in before[:2]),
        "And on Sunday?",
    ]
    await demo.page.go_back()
    await expect(demo.page.locator(".message.user .body").last).to_have_text(OPENING)
    assert demo.conversation == source
    assert demo.stored() == before


async def test_settings_reach_the_model(open_demo: OpenDemo) -> None:
    """If this fails, instructions or sampling that a person set are quietly left out."""
    demo = await open_demo()
    await demo.page.get_by_role("button", name="Settings").click()
    await demo.page.get_by_label("Instructions").fill("You are a front desk. Facts: Opening hours: always closed.")
    await demo.page.get_by_label("Most tokens").fill("3")
    await demo.page.get_by_role("button", name="Save").click()
    await demo.page.get_by_role("button", name="More", exact=True).click()
    await demo.page.get_by_role("button", name="Inspect events").click()
    await demo.send(OPENING)
    await demo.settle(1)
    await expect(demo.answers.last).to_contain_text("longest length")
    await expect(demo.answers.last.locator(".facts")).to_contain_text("3 tokens")
    events = demo.page.locator("#inspect-log")
    await expect(events).to_contain_text("always closed")
    await expect(events).to_contain_text('"type":"response.incomplete"')


async def test_enter_that_belongs_to_an_input_method_sends_nothing(open_demo: OpenDemo) -> None:
    """If this fails, whoever writes Japanese or Chinese sends half a word."""
    demo = await open_demo()
    await demo.input.fill("こんに")
    await demo.input.evaluate(
        "field => field.dispatchEvent(new KeyboardEvent('keydown', "
        "{key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    assert await demo.input.input_value() == "こんに"
    await demo.input.press("Shift+Enter")
    assert await demo.input.input_value() == "こんに\n"
    await expect(demo.answers).to_have_count(0)


@BOTH
async def test_waiting_line(start_server: Callable[..., Server], open_demo: OpenDemo, transport: str) -> None:
    """If this fails, whoever waits behind others sees a page that seems to be broken."""
    server = start_server(slots="1")
    first = await open_demo(url=server.url, script=long_answers(3000))
    with server.held():
        await first.send(OPENING)
        await first.grown(20, server)
        second = await open_demo(url=server.url)
        await second.choose(transport)
        await second.send(OPENING)
        await expect(second.answers.last).to_contain_text("number 1 in line")
        await first.page.keyboard.press("Escape")
        await first.settle(1)
    await second.settle(1)
    assert await second.answer() == second.stored_text()


async def test_a_server_that_wants_a_key(start_server: Callable[..., Server], open_demo: OpenDemo) -> None:
    """If this fails, the demo of a server that others can reach shows errors instead of asking for the key."""
    server = start_server(auth="on")
    demo = await open_demo(url=server.url, ready=False)
    demo.forgiven = ["status of 401"]
    dialog = demo.page.get_by_role("dialog")
    for wrong in ("wrong", "ключ"):  # the second is none that a header can carry
        await dialog.get_by_label("Key").fill(wrong)
        async with demo.page.expect_event("load"):
            await dialog.get_by_role("button", name="Continue").click()
        await expect(dialog.get_by_label("Key")).to_be_empty()
    await dialog.get_by_label("Key").fill(create_key(server, "demo", "--tokens-per-day", "100000"))
    await dialog.get_by_role("button", name="Continue").click()
    await expect(demo.page.locator("#served")).not_to_be_empty()
    for answers, transport in enumerate(("sse", "websocket"), 1):
        await demo.choose(transport)
        await demo.send("How long do refunds take?")
        await demo.settle(answers)
        assert "6 business days" in await demo.answer()
    await demo.page.locator("#meter").click()
    await expect(demo.page.locator("#meter-panel")).to_contain_text("of 100,000 tokens are left")
