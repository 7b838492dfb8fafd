"""Signed identities and refresh tokens: what they say, and everything that makes one worthless. Origins, arrivals."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.utils import base64url_encode

from frontdesk.access import visitors, widgets
from frontdesk.access.arrivals import MOST_REMEMBERED, SECONDS, Arrivals, network
from frontdesk.access.keys import new_key
from frontdesk.access.origins import FRESH_SECONDS, Origins
from frontdesk.access.widgets import (
    Identity,
    Refresh,
    check_origin,
    identified_visitor,
    identity_secret,
    issue_refresh,
    read_identity,
    read_refresh,
)
from frontdesk.errors import StorageFailed, Unauthorized
from frontdesk.principal import Limits
from frontdesk.store.records import KeyRecord, WidgetRecord
from frontdesk.store.store import Store

SECRET = b"s" * 32
WIDGET, OTHER = "wgt_" + "a" * 12, "wgt_" + "b" * 12
VISITOR = "vis_" + "a" * 12 + "_" + "c" * 32


def signed(secret: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """An identity as a customer's server makes one; a claim that is `None` is left out."""
    # Some are signed at the collection: a long run must not reach the end of their time, which is a day at most.
    said = {"sub": "customer 7", "exp": int(time.time()) + 80_000, **claims}
    kept = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(kept, secret or identity_secret(SECRET, WIDGET), algorithm)


def code_of(text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        read_identity(SECRET, WIDGET, text)
    assert caught.value.param == "identity"
    assert len(caught.value.message) <= 300
    return caught.value.code


def test_an_identity_says_who_comes() -> None:
    """A customer's own users could not be recognised."""
    assert read_identity(SECRET, WIDGET, signed()) == Identity("customer 7", None)
    assert read_identity(SECRET, WIDGET, signed(name="Ann Ö", aud=WIDGET)) == Identity("customer 7", "Ann Ö")
    assert read_identity(SECRET, WIDGET, signed(aud=["x", WIDGET], sub="x" * 256)).subject == "x" * 256


def test_the_secret_is_the_widgets_own() -> None:
    """The customer of one widget could sign identities for another, or anybody who reads the page could."""
    secret = identity_secret(SECRET, WIDGET)
    assert len(secret) == 64
    assert int(secret, 16)
    assert secret != identity_secret(SECRET, OTHER)
    assert secret != identity_secret(b"x" * 32, WIDGET)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(signed(identity_secret(SECRET, OTHER)), id="another widget's secret"),
        pytest.param(signed("0" * 64), id="another secret"),
        pytest.param(signed(algorithm="HS512"), id="another algorithm"),
        pytest.param(signed(aud=OTHER), id="for another widget"),
        pytest.param(signed(aud=7), id="an audience that is no text"),
        pytest.param(signed(exp=None), id="for ever"),
        pytest.param(signed(exp=int(time.time()) + 5 * 86_400), id="for too long"),
        pytest.param(signed(exp=float("inf")), id="for an endless time"),
        pytest.param(signed(exp=[1]), id="an expiry that is no number"),
        pytest.param(signed(nbf=int(time.time()) + 86_000), id="not yet"),
        pytest.param(signed(sub=None), id="nobody"),
        pytest.param(signed(sub=""), id="an empty name for a person"),
        pytest.param(signed(sub="x" * 257), id="a long name for a person"),
        pytest.param(signed(sub="\ud800"), id="half a character"),
        pytest.param(signed(name="\ud800"), id="half a character in the name"),
        pytest.param(signed(name="x" * 101), id="a long name"),
        pytest.param(signed(name="a\nb"), id="a name of two lines"),
        pytest.param(signed(name=7), id="a name that is no text"),
        pytest.param("", id="nothing"),
        pytest.param("a.b.c", id="no token"),
    ],
)
def test_a_wrong_identity_is_refused(text: str) -> None:
    """Anybody could be anybody, for ever; or a strange claim would be answered with a 500."""
    assert code_of(text) == "invalid_identity"


def test_an_expired_identity_says_so() -> None:
    """The page would not know that a new signature is all it needs."""
    assert code_of(signed(exp=int(time.time()) - 60)) == "expired_token"


def test_an_unsigned_identity_is_refused() -> None:
    """The oldest trick with these tokens: `alg: none`."""
    head, payload, _ = signed().split(".")
    none = base64url_encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode()
    assert code_of(f"{none}.{payload}.") == "invalid_identity"
    assert code_of(f"{head}.{payload}.") == "invalid_identity"


@given(st.text(max_size=200))
def test_reading_takes_any_text(text: str) -> None:
    """A strange body would be answered with a 500."""
    assert code_of(text) == "invalid_identity"
    with pytest.raises(Unauthorized):
        read_refresh(SECRET, WIDGET, text)


def test_a_person_is_one_visitor_of_one_widget() -> None:
    """The same person would be somebody else on the next device; or two shops would share their visitors; or a name
    that looks like a visitor's id would be that visitor."""
    mine = identified_visitor(SECRET, "a" * 12, "customer 7")
    assert mine == identified_visitor(SECRET, "a" * 12, "customer 7")
    assert mine.startswith("vis_aaaaaaaaaaaa_")
    assert mine != identified_visitor(SECRET, "b" * 12, "customer 7")
    assert mine != identified_visitor(SECRET, "a" * 12, mine)
    assert mine != visitors.visitor_id(SECRET, "a" * 12, "customer 7"), "a key names its visitors in another way"


@given(st.booleans(), st.none() | st.text(max_size=100).filter(str.isprintable))
def test_a_refresh_token_brings_the_same_visitor_back(identified: bool, name: str | None) -> None:
    """A visitor who comes back would be somebody else, or lose their name."""
    refresh = Refresh(VISITOR, identified, name)
    text, expires = issue_refresh(SECRET, WIDGET, refresh)
    assert text.startswith("er_")
    assert abs(expires - time.time() - 30 * 86_400) < 60
    assert read_refresh(SECRET, WIDGET, text) == refresh


def test_a_clock_that_is_set_back_turns_nobody_away_who_comes_back() -> None:
    """All visitors that came while the clock was ahead would begin as somebody new, without their conversation."""
    refresh = Refresh(VISITOR, False, None)
    text, _ = issue_refresh(SECRET, WIDGET, refresh, now=time.time() + 7200)
    assert read_refresh(SECRET, WIDGET, text) == refresh


def test_a_refresh_token_is_of_one_widget_and_one_installation() -> None:
    """Whoever has a token of one shop would be let in at another."""
    text, _ = issue_refresh(SECRET, WIDGET, Refresh(VISITOR, False, None))
    for secret, widget in ((SECRET, OTHER), (b"x" * 32, WIDGET)):
        with pytest.raises(Unauthorized) as caught:
            read_refresh(secret, widget, text)
        assert (caught.value.code, caught.value.param) == ("invalid_refresh", "refresh")
    old, _ = issue_refresh(SECRET, WIDGET, Refresh(VISITOR, False, None), now=time.time() - 31 * 86_400)
    with pytest.raises(Unauthorized) as caught:
        read_refresh(SECRET, WIDGET, old)
    assert (caught.value.code, caught.value.param) == ("expired_token", "refresh")


def test_no_token_stands_for_the_other() -> None:
    """A refresh token, which lives for 30 days, would chat without end; or a leaked chat token would be renewed."""
    refresh, _ = issue_refresh(SECRET, WIDGET, Refresh(VISITOR, True, None))
    chat, _ = visitors.issue(
        SECRET, visitors.VisitorToken(VISITOR, "a" * 12, None, Limits(), "https://a.example", ""), 60
    )
    for text in (refresh, "ek_" + refresh.removeprefix("er_")):
        with pytest.raises(Unauthorized):
            visitors.read(SECRET, text)
    for text in (chat, "er_" + chat.removeprefix("ek_")):
        with pytest.raises(Unauthorized):
            read_refresh(SECRET, WIDGET, text)


@given(st.none() | st.text(max_size=30), st.none() | st.text(max_size=30))
def test_a_token_keeps_origin_and_persona(origin: str | None, persona: str | None) -> None:
    """An empty persona, which is the model's own, would be no lock at all."""
    token = visitors.VisitorToken(VISITOR, "a" * 12, "conv_1", Limits(), origin, persona)
    assert visitors.read(SECRET, visitors.issue(SECRET, token, 60)[0]) == token


@pytest.mark.parametrize(
    "text",
    ["https://shop.example", "http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]:8080",
     "https://xn--bcher-kva.example", "chrome-extension://abcdef", "http://shop.example:443"],
)  # fmt: skip
def test_origins_as_browsers_write_them(text: str) -> None:
    """An operator could not name a page."""
    check_origin(text)


@pytest.mark.parametrize(
    "text",
    ["*", "null", "", "shop.example", "https://", "https://shop.example/", "https://shop.example/chat",
     "https://*.shop.example", "https://Shop.example", "HTTPS://shop.example", "https://bücher.example",
     "https://shop.example:443", "http://shop.example:80", "https://shop.example:0", "https://a@b.example",
     "https://shop.example ", "https://shop.example\n", "https://a.example,https://b.example"],
)  # fmt: skip
def test_what_no_browser_sends_is_refused_as_an_origin(text: str) -> None:
    """A widget would silently work nowhere, or everywhere."""
    with pytest.raises(ValueError, match=r"origin|browsers"):
        check_origin(text)


class Table:
    """Origins that change, and how often they were asked for."""

    def __init__(self, *origins: str) -> None:
        self.origins_now = frozenset(origins)
        self.asked = 0
        self.broken = False

    async def origins(self, now: float) -> frozenset[str]:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.broken:
            raise StorageFailed("gone")
        return self.origins_now


async def test_origins_of_settings_and_widgets_may_come() -> None:
    """The shop's page would be refused, or every page let in."""
    origins, table = Origins(["https://fixed.example"]), Table("https://shop.example")
    assert not await origins.allows("https://shop.example"), "the database is not open yet"
    origins.open(table)
    assert await origins.allows("https://shop.example")
    assert await origins.allows("https://fixed.example")
    for other in ("https://evil.example", "*", "", "null", "https://SHOP.example"):
        assert not await origins.allows(other)
    assert await Origins(["*"]).allows("https://any.example")


async def test_a_crowd_of_origins_costs_one_look_a_second() -> None:
    """Whoever sends made-up origins would keep the database busy; or a new widget would need a restart."""
    origins, table = Origins([]), Table("https://a.example")
    origins.open(table)
    found = await asyncio.gather(*(origins.allows(f"https://{number}.example") for number in range(200)))
    assert not any(found)
    assert table.asked == 1
    table.origins_now = frozenset(["https://b.example"])
    await asyncio.sleep(FRESH_SECONDS + 0.1)
    assert await origins.allows("https://b.example")
    assert not await origins.allows("https://a.example")
    assert table.asked == 2


async def test_without_the_database_the_origins_known_last_hold() -> None:
    """A full disk would take every widget off its page."""
    origins, table = Origins([]), Table("https://a.example")
    origins.open(table)
    assert await origins.allows("https://a.example")
    table.broken = True
    await asyncio.sleep(FRESH_SECONDS + 0.1)
    assert await origins.allows("https://a.example")


async def test_origins_are_those_of_the_real_table(store: Store) -> None:
    """What `Origins` asks for would not be what the store has."""
    key = new_key()
    record = KeyRecord(key.id, "shop", key.hash, frozenset(["chat"]), Limits(), 1)
    await store.widgets.add(WidgetRecord(widgets.widget_id(key.id), record, ("https://a.example",)))
    origins = Origins([])
    origins.open(store.widgets)
    assert await origins.allows("https://a.example")
    assert not await origins.allows("https://b.example")


def test_so_many_may_come_in_a_minute() -> None:
    """A script could make visitors, and so budgets, without end; or would keep others out for longer than a minute."""
    arrivals = Arrivals(3)
    assert [arrivals.wait("a", now) for now in (0.0, 10.0, 20.0)] == [0, 0, 0]
    assert arrivals.wait("a", 30.0) == SECONDS - 30
    assert arrivals.wait("b", 30.0) == 0
    assert arrivals.wait("a", 60.0) == 0
    assert arrivals.wait("a", 61.0) == pytest.approx(9)
    for number in range(2 * MOST_REMEMBERED):
        arrivals.wait(number, 100.0)
    assert len(arrivals._came) == MOST_REMEMBERED, "made-up addresses fill the memory"


def test_one_persons_addresses_count_as_one() -> None:
    """Whoever has IPv6, and so 2^64 addresses, would not be limited at all."""
    assert network("2001:db8:1:2::1") == network("2001:db8:1:2:ffff::9") != network("2001:db8:1:3::1")
    assert network("192.0.2.1") == network("::ffff:192.0.2.1") != network("192.0.2.2")
    assert network("testclient") == "testclient"
    assert widgets.widget_id("a" * 12) == WIDGET
