"""What a model writes arrives on the page whole: the numbers of lists, links that are defined elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect
from tests.web.demo import made

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.web.conftest import OpenDemo

STEPS = """Go on with these:

4. Pack the kettle

```sh
tape --strong
```

5. Take it to the post office
"""
SOURCES = """We ship to Norway [1] and to [Iceland][is], not to [the moon].

As [1] says, it takes a week. See [the rules][Post  Office].

- [x] it is so, says [1]

[1]: https://shop.example/norway "Norway"
[is]: <https://shop.example/iceland>

> [post office]: https://post.example/rules

[1]: https://shop.example/second
[run]: javascript:alert(1)
[Note]: important

So [run] and [Note] are only words.
"""


async def test_lists_keep_their_numbers(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, step 4 of an instruction is called step 1."""
    demo = await open_demo(made(server.url, "How do I send it back?", STEPS))
    lists = demo.answers.locator("ol")
    await expect(lists).to_have_count(2)
    assert await lists.evaluate_all("lists => lists.map(list => list.start)") == [4, 5]


async def test_links_defined_elsewhere(open_demo: OpenDemo, server: Server) -> None:
    """If this fails, the sources that an answer names lead nowhere, or are not on the page at all."""
    demo = await open_demo(made(server.url, "Do you ship to Norway?", SOURCES))
    await expect(demo.answers).to_have_count(1)
    links = await demo.answers.locator(".body a[href]").evaluate_all(
        "links => links.map(link => [link.textContent, link.getAttribute('href')])"
    )
    norway = "https://shop.example/norway"
    assert links == [
        ["1", norway],
        ["Iceland", "https://shop.example/iceland"],
        ["1", norway],
        ["the rules", "https://post.example/rules"],
        ["1", norway],
        [norway, norway],
        ["https://shop.example/iceland", "https://shop.example/iceland"],
        ["https://post.example/rules", "https://post.example/rules"],
        ["https://shop.example/second", "https://shop.example/second"],
    ]
    answer = await demo.answer()
    for part in (
        "not to [the moon]",
        f'[1]: {norway} "Norway"',
        "[is]: <https://shop.example/iceland>",
        "[post office]: https://post.example/rules",
        "[1]: https://shop.example/second",
        "[run]: javascript:alert(1)",
        "[Note]: important",
        "So [run] and [Note] are only words.",
    ):
        assert part in answer
