"""A chat in a browser, be it the demo or the widget: write, and wait for answers. Knows the messages, and no page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import Locator, Page, expect
from tests.web.engine import strides

if TYPE_CHECKING:
    from tests.conftest import Server

DOUBLE_CLICK = 600  # milliseconds after which a click on Stop is no second half of one on Send
PATIENCE = 60_000  # milliseconds that a slow machine gets for one answer


class Chat:
    """`page` is the tab, `input` where one writes, `answers` are the model's messages, `finished` the whole ones."""

    page: Page
    input: Locator
    answers: Locator
    finished: Locator

    async def send(self, text: str) -> None:
        await self.input.fill(text)
        await self.input.press("Enter")

    async def stop(self) -> None:
        """Press Stop, which is there, once it hears."""
        await self.page.wait_for_timeout(DOUBLE_CLICK)
        await self.page.get_by_role("button", name="Stop").click()

    async def settle(self, answers: int) -> None:
        """Wait until there are so many answers and all are whole."""
        await expect(self.finished).to_have_count(answers, timeout=PATIENCE)
        await expect(self.answers).to_have_count(answers)

    async def grown(self, characters: int, held: Server | None = None) -> None:
        """Wait until the newest answer has so many characters, and is not over. A server that is held writes them."""
        body = self.answers.last.locator(".body")

        async def long_enough() -> bool:
            return bool(await body.count()) and len(await body.inner_text()) >= characters

        if held:
            await strides(held, long_enough)
        for _ in range(PATIENCE // 20):
            if await long_enough():
                break
            await self.page.wait_for_timeout(20)
        else:
            raise AssertionError(f"the answer did not reach {characters} characters")
        assert await self.answers.last.get_attribute("aria-busy") == "true", "the answer ended too soon for this test"

    async def answer(self, number: int = -1) -> str:
        """Text of an answer as it is seen."""
        return await self.answers.nth(number).locator(".body").inner_text()
