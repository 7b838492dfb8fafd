"""A conversation of five hundred messages in the demo: all of it can be reached, and it scrolls.

Frame times are measured in the browser while it scrolls and printed (`pytest -s`). Nothing is asserted of them, as the
machine that runs the tests may be busy with other things; what is asserted is why they are short: each message is drawn
by itself, and scrolling changes nothing on the page.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from playwright.async_api import expect
from tests.web.demo import Demo, made

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

MESSAGES = 500
PAGE = 100  # messages that the page asks for at once
QUESTION = "Message {}: could you tell me more about my order, please? I have waited for a week now."
ANSWER = """Message {}: **of course**. This is what I know:

| Way | Days | Price |
|---|---|---|
| Standard | 6 to 8 | $6.50 |
| Express | 1 to 2 | $12.90 |

1. Order before noon
2. Look for the *tracking* link

```python
def price(express: bool) -> float:
    return 12.90 if express else 6.50
```
"""
SCROLL = """
async ([step, frames]) => {
    const scroll = document.getElementById('scroll'), times = [], tasks = [];
    const watch = new PerformanceObserver(list => tasks.push(...list.getEntries().map(one => one.duration)));
    watch.observe({entryTypes: ['longtask']});
    let changes = 0;
    const changed = new MutationObserver(records => changes += records.length);
    changed.observe(document.getElementById('log'), {subtree: true, childList: true, attributes: true});
    await new Promise(done => {
        let before = 0;
        requestAnimationFrame(function tick(now) {
            if (before) times.push(now - before);
            before = now;
            scroll.scrollTop += step;
            if (times.length < frames) requestAnimationFrame(tick); else done();
        });
    });
    await new Promise(done => setTimeout(done, 100));
    watch.disconnect();
    changed.disconnect();
    return {times, tasks, changes, top: scroll.scrollTop};
}
"""
TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"  # page has reacted
# Where the first message below the window's upper edge stands, so that one can see whether it moves.
ANCHOR = """
() => {
    const edge = document.getElementById('scroll').getBoundingClientRect().top;
    const found = [...document.querySelectorAll('.message')].find(one => one.getBoundingClientRect().bottom > edge + 1);
    return [found.querySelector('.body').innerText.split(':')[0], found.getBoundingClientRect().top - edge];
}
"""


async def test_five_hundred_messages(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, a long conversation cannot be read to its beginning, jumps under its reader, or scrolls in jerks
    because of the page's own work."""
    texts = [(ANSWER if number % 2 else QUESTION).format(number) for number in range(MESSAGES)]
    demo = await open_demo(made(server.url, *texts))
    messages = demo.page.locator(".message")
    await expect(messages).to_have_count(PAGE)
    await expect(messages.last).to_be_in_viewport()
    await expect(messages.first).to_contain_text("No longer sent to the model")  # no message will change after that
    for shown in range(2 * PAGE, MESSAGES + 1, PAGE):
        await keeps_its_place(demo, shown)
    await expect(demo.page.get_by_role("button", name="earlier messages")).to_be_hidden()
    firsts = await messages.locator(".body").evaluate_all("all => all.map(one => one.textContent.trim().split(':')[0])")
    assert firsts == [f"Message {number}" for number in range(MESSAGES)]

    alone = await messages.evaluate_all("all => all.map(one => getComputedStyle(one).contain)")
    assert set(alone) == {"content"}, "a message that changes or comes into sight draws the others, too"
    await demo.page.evaluate("document.getElementById('scroll').scrollTop = 0")
    await expect(messages.first).to_be_in_viewport()
    down = await scrolled(demo, "down", 400)
    up = await scrolled(demo, "up, over what was drawn before", -400)
    assert down > 0
    assert up < down
    await demo.page.get_by_role("button", name="To the newest message").click()
    await expect(messages.last).to_be_in_viewport()
    await demo.send("How long do refunds take?")
    await expect(messages.last.locator(".body")).to_contain_text("6 business days", timeout=60_000)
    await expect(messages.last).to_be_in_viewport()


async def keeps_its_place(demo: Demo, shown: int) -> None:
    """Older messages come, and what is being read does not move."""
    await demo.page.evaluate("document.getElementById('scroll').scrollTop = 300")
    await demo.page.evaluate(TWO_FRAMES)
    before = await demo.page.evaluate(ANCHOR)
    await demo.page.get_by_role("button", name="earlier messages").evaluate("button => button.click()")
    await expect(demo.page.locator(".message")).to_have_count(shown)
    await demo.page.evaluate(TWO_FRAMES)
    name, top = await demo.page.evaluate(ANCHOR)
    assert (name, abs(top - before[1]) < 2) == (before[0], True), (before, name, top)


async def scrolled(demo: Demo, name: str, step: int) -> float:
    """Scrolls by `step` pixels a frame, prints how long the frames were, and says where that ended."""
    found = await demo.page.evaluate(SCROLL, [step, 120])
    frames, tasks = sorted(found["times"]), found["tasks"]
    late = sum(frame > 50 for frame in frames)
    print(
        f"\n{name}: {len(frames)} frames, median {statistics.median(frames):.0f} ms, worst {frames[-1]:.0f} ms, "
        f"{late} over 50 ms; long tasks of the page: {[round(task) for task in tasks]}"
    )
    assert not found["changes"], "scrolling makes the page work on its messages"
    return found["top"]
