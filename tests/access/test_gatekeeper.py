"""From a credential to a principal, against a real database, which other processes change meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frontdesk.access.gatekeeper import FRESH_SECONDS, TOUCH_SECONDS, Gatekeeper
from frontdesk.access.keys import new_key
from frontdesk.access.visitors import VisitorToken, issue, visitor_id
from frontdesk.errors import StorageFailed, Unauthorized
from frontdesk.principal import ALL_SCOPES, ANONYMOUS, Limits
from frontdesk.store.records import KeyRecord
from frontdesk.store.store import Store, open_store

SECRET = b"s" * 32
DEFAULTS = Limits(tokens_per_minute=1000, requests_per_minute=10)


async def add_key(store: Store, **changes: Any) -> tuple[str, KeyRecord]:
    """Text and record of a new key."""
    key = new_key()
    record = KeyRecord(key.id, "shop", key.hash, ALL_SCOPES, Limits(tokens_per_day=5), int(time.time()))
    await store.keys.add(replace(record, **changes))
    return key.text, replace(record, **changes)


def gatekeeper(store: Store, required: bool = True, now: Callable[[], float] = time.time) -> Gatekeeper:
    return Gatekeeper(store.keys, SECRET, required=required, visitor_limits=DEFAULTS, now=now)


def token(key: str | None, limits: Limits | None = None, conversation: str | None = None) -> tuple[str, str]:
    """Text of a visitor's token, and the visitor's id."""
    visitor = visitor_id(SECRET, key, None)
    return issue(SECRET, VisitorToken(visitor, key, conversation, limits or Limits()), 60)[0], visitor


async def code_of(keeper: Gatekeeper, credential: str | None) -> str:
    with pytest.raises(Unauthorized) as caught:
        await keeper.identify(credential)
    return caught.value.code


async def test_a_key_is_an_owner_of_its_own(store: Store) -> None:
    """Two customers would see each other's conversations, or a key's budgets and scopes would not hold."""
    text, record = await add_key(store, scopes=frozenset(["usage"]))
    principal = await gatekeeper(store).identify(text)
    assert principal.owner == f"key:{record.id}"
    assert (principal.key, principal.visitor) == (record.id, None)
    assert principal.scopes == {"usage"}
    assert principal.key_limits == record.limits
    assert not principal.visitor_limits


async def test_a_visitor_may_chat_at_the_cost_of_its_key(store: Store) -> None:
    """A visitor could issue tokens, would see the shop's own conversations, or would spend without end."""
    _, record = await add_key(store, scopes=frozenset(["visitors"]))
    text, visitor = token(record.id, Limits(tokens_total=7, requests_per_minute=3), "conv_1")
    principal = await gatekeeper(store).identify(text)
    assert principal.owner == f"visitor:{visitor}"
    assert (principal.key, principal.visitor, principal.conversation) == (record.id, visitor, "conv_1")
    assert principal.scopes == {"chat"}
    assert principal.key_limits == record.limits
    assert principal.visitor_limits == Limits(tokens_per_minute=1000, tokens_total=7, requests_per_minute=3)


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("none", "invalid_api_key"),
        ("sk-proj-abc", "invalid_api_key"),
        pytest.param(new_key().text, "invalid_api_key", id="another server's"),
        ("ek_nonsense", "invalid_api_key"),
    ],
)
async def test_nobody_comes_without_a_good_credential(store: Store, credential: str | None, code: str) -> None:
    """Anybody on the network could use the server."""
    assert await code_of(gatekeeper(store), credential) == code


async def test_the_secret_counts_and_not_the_id(store: Store) -> None:
    """Ids of keys stand in lists and ledgers; knowing one would be enough to use it."""
    text, record = await add_key(store)
    other = new_key().text.rsplit("_", 1)[1]
    assert await code_of(gatekeeper(store), f"fd_{record.id}_{other}") == "invalid_api_key"
    assert await code_of(gatekeeper(store, required=False), f"fd_{record.id}_{other}") == "invalid_api_key"
    assert (await gatekeeper(store).identify(text)).key == record.id


async def test_without_a_need_for_keys_any_text_will_do_but_ours_counts(store: Store) -> None:
    """OpenAI's clients, which insist on sending a key, could not use a server on the own machine; or the budget of a
    key would not count there; or an expired visitor would silently become somebody without conversations."""
    keeper = gatekeeper(store, required=False)
    for credential in (None, "", "none", "sk-proj-abc", "fd_short", "ek_secret"):
        assert await keeper.identify(credential) is ANONYMOUS
    text, record = await add_key(store)
    assert (await keeper.identify(text)).key == record.id
    text, visitor = token(None)
    assert (await keeper.identify(text)).owner == f"visitor:{visitor}"
    assert await code_of(keeper, new_key().text) == "invalid_api_key"
    old, _ = issue(SECRET, VisitorToken(visitor, None, None, Limits()), 60, now=time.time() - 1000)
    assert await code_of(keeper, old) == "expired_token"
    forged, _ = issue(b"x" * 32, VisitorToken(visitor, None, None, Limits()), 60)
    assert await code_of(keeper, forged) == "invalid_api_key"


async def test_a_token_issued_without_key_is_worth_nothing_once_keys_are_needed(store: Store) -> None:
    """Whoever got a token while the server was open would stay in after it was closed."""
    assert await code_of(gatekeeper(store), token(None)[0]) == "invalid_api_key"


async def test_expiry_of_a_key_holds_at_once_for_it_and_its_visitors(store: Store) -> None:
    """A key would be good for as long as somebody keeps using it."""
    clock = [1000.0]
    keeper = gatekeeper(store, now=lambda: clock[0])
    text, record = await add_key(store, expires=2000)
    visitor, _ = token(record.id)
    for credential in (text, visitor):
        clock[0] = 1999.9
        await keeper.identify(credential)
        clock[0] = 2000.0
        assert await code_of(keeper, credential) == "expired_api_key"


async def test_another_process_makes_and_revokes_keys_under_a_running_server(tmp_path: Path) -> None:
    """`frontdesk keys revoke` would have no effect until the server is restarted."""
    server = await open_store(str(tmp_path / "f.db"))
    command = await open_store(str(tmp_path / "f.db"), exclusive=False)
    keeper = gatekeeper(server)
    text, record = await add_key(command)
    visitor, _ = token(record.id)
    for credential in (text, visitor):
        assert (await keeper.identify(credential)).key == record.id
    assert await command.keys.revoke(record.id, 1)
    await asyncio.sleep(FRESH_SECONDS + 0.1)
    for credential in (text, visitor):
        assert await code_of(keeper, credential) == "revoked_api_key"
    await command.close()
    await server.close()


class Counting:
    """The store's own keys, and how often they were asked."""

    def __init__(self, store: Store) -> None:
        self._keys = store.keys
        self.asked = 0
        self.touched: list[int] = []

    async def by_id(self, id: str) -> KeyRecord | None:
        self.asked += 1
        return await self._keys.by_id(id)

    async def touch(self, id: str, at: int) -> None:
        self.touched.append(at)
        await self._keys.touch(id, at)


async def test_a_crowd_costs_one_look_and_one_write(store: Store) -> None:
    """Every request would wait for the database, and every request would write to it."""
    text, record = await add_key(store)
    table, clock = Counting(store), [10_000.0]
    keeper = Gatekeeper(table, SECRET, required=True, visitor_limits=DEFAULTS, now=lambda: clock[0])
    await asyncio.gather(*(keeper.identify(text) for _ in range(200)))
    assert (table.asked, table.touched) == (1, [10_000])
    clock[0] += TOUCH_SECONDS - 1
    await keeper.identify(text)
    clock[0] += 1
    await keeper.identify(text)
    assert table.touched == [10_000, 10_000 + TOUCH_SECONDS]
    found = await store.keys.by_id(record.id)
    assert found is not None
    assert found.last_used == 10_000 + TOUCH_SECONDS


async def test_guessing_does_not_fill_the_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who sends a new wrong key with every request would take the server down in the end."""
    keeper = gatekeeper(store)
    monkeypatch.setattr("frontdesk.access.gatekeeper.MOST_REMEMBERED", 20)
    for _ in range(50):
        await code_of(keeper, new_key().text)
    assert len(keeper._looked_up) == 20


async def test_one_caller_who_leaves_does_not_take_the_others_along(store: Store) -> None:
    """A client that closes its connection would make the requests of the same key beside it fail."""
    text, record = await add_key(store)
    keeper = gatekeeper(store)
    first, second = (asyncio.create_task(keeper.identify(text)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).key == record.id
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_database_that_is_gone_lets_nobody_in_and_comes_back(tmp_path: Path) -> None:
    """An outage would open the server to everybody, or would end in a 500, or would last until a restart."""
    place = tmp_path / "f.db"
    store = await open_store(str(place))
    text, record = await add_key(store)
    keeper = gatekeeper(store)
    with sqlite3.connect(place) as breaking:
        breaking.execute("ALTER TABLE keys RENAME TO lost")
    breaking.close()
    with pytest.raises(StorageFailed):
        await keeper.identify(text)
    with sqlite3.connect(place) as mending:
        mending.execute("ALTER TABLE lost RENAME TO keys")
    mending.close()
    assert (await keeper.identify(text)).key == record.id
    await store.close()
