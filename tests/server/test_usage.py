"""`GET /v1/usage` in pages, over a ledger that is filled here. Whose sums they are is in `test_access`."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from tests.store.making import entry

from frontdesk.access.gatekeeper import Gatekeeper
from frontdesk.access.keys import new_key
from frontdesk.errors import FrontdeskError
from frontdesk.principal import ALL_SCOPES, DEFAULT_SCOPES, Limits
from frontdesk.server.access import Access
from frontdesk.server.errors import on_frontdesk_error
from frontdesk.server.usage import DEFAULT_PAGE, Usage
from frontdesk.store.records import KeyRecord
from frontdesk.store.store import Store, open_store

NOON = 1_700_000_000.0


class House:
    """The route with real keys in front of a real ledger."""

    def __init__(self, store: Store) -> None:
        self.store = store
        gatekeeper = Gatekeeper(store.keys, b"s" * 32, required=True, visitor_limits=Limits())
        app = Starlette(
            routes=Usage(store.ledger).routes,
            middleware=[Middleware(Access, gatekeeper=lambda: gatekeeper)],
            exception_handlers={FrontdeskError: on_frontdesk_error},
        )
        self._transport = httpx2.ASGITransport(app=app)  # pyright: ignore[reportArgumentType]

    async def key(self, scopes: frozenset[str] = DEFAULT_SCOPES) -> tuple[str, str]:
        """Text and id of a new key."""
        key = new_key()
        await self.store.keys.add(KeyRecord(key.id, "test", key.hash, scopes, Limits(), created=1))
        return key.text, key.id

    async def used(self, visitors: int, **changes: Any) -> None:
        """One reply to each of so many visitors, whose names sort by number."""
        names = [f"vis_{number:04}" for number in range(visitors)]
        entries = [entry(reply=f"{name} {changes}", visitor=name, at=NOON, **changes) for name in names]
        await asyncio.gather(*(self.store.journal.pay(one) for one in entries))

    async def ask(self, key: str, **query: object) -> httpx2.Response:
        async with httpx2.AsyncClient(transport=self._transport, base_url="http://test") as http:
            parameters = {name: str(value) for name, value in query.items()}
            return await http.get("/v1/usage", params=parameters, headers={"authorization": f"Bearer {key}"})

    async def pages(self, key: str, **query: object) -> list[dict[str, Any]]:
        """Every page, as a client reads them."""
        found = [(await self.ask(key, **query)).json()]
        while found[-1]["has_more"]:
            found.append((await self.ask(key, **query, after=found[-1]["last_id"])).json())
        return found


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await open_store("memory")
    yield House(store)
    await store.close()


async def test_no_answer_is_larger_than_its_page(house: House) -> None:
    """One question about 60,000 visitors would hold up every stream while it is made into ten megabytes."""
    key, id = await house.key()
    await house.used(DEFAULT_PAGE + 1, key=id)
    pages = await house.pages(key, by="visitor")
    assert [(len(page["data"]), page["has_more"]) for page in pages] == [(DEFAULT_PAGE, True), (1, False)]
    (whole,) = await house.pages(key, by="visitor", limit=DEFAULT_PAGE + 1)
    assert whole["data"] == pages[0]["data"] + pages[1]["data"]
    (row,) = (await house.ask(key)).json()["data"]
    assert row["requests"] == DEFAULT_PAGE + 1, "the sum over all is no page's"


async def test_pages_go_on_where_the_last_one_ended(house: House) -> None:
    """A bill that is made from pages would name a visitor twice or leave one out."""
    key, id = await house.key(ALL_SCOPES)
    await house.used(5, key=id)
    await house.used(5, key=id, model="größer")
    await house.used(2, key=None)
    (whole,) = await house.pages(key, by="key,visitor,model,day")
    assert [row["requests"] for row in whole["data"]] == [1] * 12
    assert (whole["first_id"], whole["last_id"]) == (whole["data"][0]["id"], whole["data"][-1]["id"])
    for limit in (1, 4, 5, 11, 12, 13):
        pages = await house.pages(key, by="key,visitor,model,day", limit=limit)
        assert [row for page in pages for row in page["data"]] == whole["data"], limit
        assert all(len(page["data"]) == limit for page in pages[:-1])
    (small,) = await house.pages(key, by="model")
    assert {row["model"]: row["requests"] for row in small["data"]} == {"größer": 5, "small": 7}


async def test_a_place_in_the_list_opens_no_other_list(house: House) -> None:
    """With the id of another tenant's row one would read that tenant's rows."""
    (mine, my_id), (other, other_id) = await house.key(), await house.key()
    await house.used(3, key=my_id)
    await house.used(4, key=other_id)
    theirs = (await house.ask(other, by="key,visitor", limit=1)).json()["last_id"]
    rows = (await house.ask(mine, by="key,visitor", after=theirs)).json()["data"]
    assert {row["key"] for row in rows} <= {my_id}


def id_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


NO_PAGES = [
    *(("limit", value) for value in ("", "0", "-1", "10001", "1000000", "1.5", "many")),
    *(("after", value) for value in ("", "x", "vis_0001", "é", "A" * 5_000)),
    ("after", id_of("{}")),
    ("after", id_of('{"visitor": "vis_0001"}')),
    ("after", id_of('{"day": "2026-11-24", "visitor": "vis_0001"}')),
    ("after", id_of('{"visitor": "vis_0001", "day": "2026-11-24", "owner": "x"}')),
    ("after", id_of('{"visitor": "vis_0001", "day": "yesterday"}')),
    ("after", id_of('{"visitor": "vis_0001", "day": 5}')),
    ("after", id_of('{"visitor": ' * 3_000)),
    ("after", base64.urlsafe_b64encode(b'{"visitor": "\xff", "day": null}').decode()),
]


async def test_what_is_no_page_is_refused(house: House) -> None:
    """A mistyped page would be the first one again, which a client reads for ever, or a 500."""
    key, id = await house.key()
    await house.used(2, key=id)
    for name, value in NO_PAGES:
        answer = await house.ask(key, by="visitor,day", **{name: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name), value


async def test_a_place_may_have_any_name(house: House) -> None:
    """One odd name in a list would end it, or be a 500."""
    key, _ = await house.key()
    for visitor in ("\0", "\\x00", "vis_\N{PILE OF POO}", "a'b\"", None):
        answer = await house.ask(key, by="visitor,day", after=id_of(json.dumps({"visitor": visitor, "day": None})))
        assert (answer.status_code, answer.json()["data"]) == (200, []), visitor
