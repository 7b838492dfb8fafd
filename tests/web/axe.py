"""axe-core in a page that is open: what it finds serious. It comes with `npm ci` in web_demo/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import Page

AXE = Path(__file__).parents[2] / "web_demo/node_modules/axe-core/axe.min.js"
Finding = tuple[str, list[tuple[str, str]]]  # the rule, and where: HTML and what is wrong


async def bring_axe(page: Page) -> None:
    """Call it once for each page that was loaded, in a context with `bypass_csp`. Skips the test without axe."""
    if not AXE.is_file():
        pytest.skip("!! NOT TESTED: accessibility needs axe-core (npm ci in web_demo/)")
    await page.evaluate(AXE.read_text())


async def serious(page: Page) -> list[Finding]:
    """What axe finds serious or critical in the page as it is now."""
    found = json.loads(await page.evaluate("axe.run().then(result => JSON.stringify(result.violations))"))
    return [
        (rule["id"], [(node["html"][:200], node["failureSummary"]) for node in rule["nodes"]])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
