"""How fast the demo is in a browser: first paint, and the frames while a long answer streams. Prints Markdown.

    python web_demo/measure.py http://127.0.0.1:8000 [tokens]

A frame is late when the browser could not draw for over 50 ms. A long task is one script of the page over 50 ms; late
frames without long tasks are the machine's, which computes the answer on the same cores. Leaves conversations behind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys

from playwright.sync_api import Browser, expect, sync_playwright

LOADS = 7
WATCH = """
window.frames_ms = []; window.tasks_ms = [];
new PerformanceObserver(list => window.tasks_ms.push(...list.getEntries().map(one => one.duration)))
    .observe({entryTypes: ['longtask']});
(function tick(before) {
    requestAnimationFrame(now => { if (before) window.frames_ms.push(now - before); tick(now); });
})(0);
"""


def first_paints(browser: Browser, url: str) -> list[float]:
    """Milliseconds from the navigation to the first contentful paint, each with an empty cache."""
    paints = []
    for _ in range(LOADS):
        page = browser.new_context().new_page()
        page.goto(url)
        page.wait_for_timeout(500)
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.context.close()
    return paints


def streaming(browser: Browser, url: str, tokens: int) -> tuple[list[float], list[float], str]:
    """Durations of frames and of long tasks while an answer of so many tokens streams, and what the page says of it."""
    chosen = {"temperature": "1.3", "seed": "5", "max_output_tokens": str(tokens), "extra": '{"ignore_eos": true}'}
    page = browser.new_page()
    page.add_init_script(f"localStorage.setItem('frontdesk.settings', {json.dumps(json.dumps(chosen))})")
    page.goto(url)
    page.fill("#input", "Tell me everything about the shop.")
    page.evaluate(WATCH)
    page.press("#input", "Enter")
    answer = page.locator(".message.assistant")
    expect(answer).to_have_attribute("aria-busy", "false", timeout=300_000)
    page.wait_for_timeout(500)
    facts = answer.locator(".facts").inner_text()
    return page.evaluate("window.frames_ms"), page.evaluate("window.tasks_ms"), facts


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the demo is in a browser.")
    parser.add_argument("url", help="of a server that runs, as http://127.0.0.1:8000")
    parser.add_argument("tokens", type=int, nargs="?", default=2000, help="of the long answer")
    wanted = parser.parse_args()
    url, tokens = wanted.url.rstrip("/"), wanted.tokens
    chromium = shutil.which("chromium") or sys.exit("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        paints = first_paints(browser, url)
        frames, tasks, facts = streaming(browser, url, tokens)
        browser.close()
    frames.sort()
    print("| What | Result |\n|---|---|")
    middle = statistics.median(paints)
    print(f"| first contentful paint, {LOADS} loads | median {middle:.0f} ms, worst {max(paints):.0f} ms |")
    print(f"| the answer | {facts} |")
    print(f"| frames | {len(frames)}, median {statistics.median(frames):.0f} ms, worst {frames[-1]:.0f} ms |")
    print(f"| late frames (over 50 ms) | {sum(frame > 50 for frame in frames)} |")
    print(f"| long tasks (over 50 ms) | {len(tasks)}{f', worst {max(tasks):.0f} ms' if tasks else ''} |")


if __name__ == "__main__":
    main()
