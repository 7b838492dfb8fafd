"""Visitors' tokens: what they say, and everything that makes one worthless."""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.access.visitors import (
    AUDIENCE,
    ISSUER,
    PREFIX,
    SKEW_SECONDS,
    VisitorToken,
    is_token,
    issue,
    read,
    visitor_id,
)
from frontdesk.errors import NotFound, Unauthorized
from frontdesk.principal import Limits

SECRET = b"0" * 64
TOKEN = VisitorToken("vis_aaaaaaaaaaaa_" + "b" * 32, "a" * 12, "conv_1", Limits(100, None, 5000, 3))
limit = st.none() | st.integers(1, 2**53)


def forged(claims: dict[str, Any], secret: bytes = SECRET, **header: Any) -> str:
    now = int(time.time())  # of the collection: a long run must not reach the end of it
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": TOKEN.visitor, "iat": now, "exp": now + 86_400}
    kept = {name: value for name, value in (good | claims).items() if value is not None}
    return PREFIX + jwt.encode(kept, secret, **{"algorithm": "HS256", **header})


def code_of(text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        read(SECRET, text)
    return caught.value.code


@given(st.none() | st.just("a" * 12), st.none() | st.just("conv_1"), st.builds(Limits, limit, limit, limit, limit))
def test_a_token_says_what_it_was_issued_with(key: str | None, conversation: str | None, limits: Limits) -> None:
    """A visitor would chat on another budget or in another conversation than the shop meant."""
    token = VisitorToken(TOKEN.visitor, key, conversation, limits)
    before = int(time.time())
    text, expires = issue(SECRET, token, 60)
    assert before + 60 <= expires <= time.time() + 60
    assert read(SECRET, text) == token


def test_a_token_fits_a_subprotocol_of_a_browser() -> None:
    """Browsers, which cannot send headers with a WebSocket, could not use it."""
    text, _ = issue(secrets.token_bytes(32), TOKEN, 60)
    assert text.startswith("ek_")
    assert is_token(text)
    assert all(sign.isalnum() or sign in "-_." for sign in text)


def test_an_expired_token_says_so() -> None:
    """A widget would not know that a new token is all it needs."""
    text, _ = issue(SECRET, TOKEN, 60, now=time.time() - 60 - SKEW_SECONDS - 2)
    assert code_of(text) == "expired_token"


def test_clocks_of_two_servers_may_differ_a_little() -> None:
    """With two servers over one database a token would be refused at its end by the one and not by the other."""
    read(SECRET, issue(SECRET, TOKEN, 60, now=time.time() - 60 - SKEW_SECONDS + 3)[0])
    assert code_of(issue(SECRET, TOKEN, 60, now=time.time() - 60 - SKEW_SECONDS - 2)[0]) == "expired_token"


def test_a_clock_that_is_set_back_turns_no_visitor_away() -> None:
    """All visitors that came while the clock was ahead would begin as somebody new, without their conversation."""
    assert read(SECRET, issue(SECRET, TOKEN, 60, now=time.time() + 7200)[0]) == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(forged({}, secret=b"1" * 64), id="another secret"),
        pytest.param(forged({}, algorithm="HS512"), id="another algorithm"),
        pytest.param(forged({"aud": "frontdesk.admin"}), id="another audience"),
        pytest.param(forged({"iss": "somebody"}), id="another issuer"),
        pytest.param(forged({"exp": None}), id="no expiry"),
        pytest.param(forged({"sub": None}), id="no visitor"),
        pytest.param(forged({"iat": None}), id="no issue time"),
        pytest.param(PREFIX, id="nothing"),
        pytest.param(PREFIX + "a.b.c", id="no token"),
    ],
)
def test_a_token_of_somebody_else_is_worth_nothing(text: str) -> None:
    """Anybody could write themselves a token, with any budget."""
    assert code_of(text) == "invalid_api_key"


def test_a_token_without_signature_is_worth_nothing() -> None:
    """The oldest trick with these tokens: `alg: none`."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    payload = jwt.decode(issue(SECRET, TOKEN, 60)[0].removeprefix(PREFIX), options={"verify_signature": False})
    for algorithm in ("none", "None", "HS256"):
        assert code_of(f"{PREFIX}{part({'alg': algorithm, 'typ': 'JWT'})}.{part(payload)}.") == "invalid_api_key"


def test_no_sign_of_a_token_can_be_changed() -> None:
    """A visitor could raise the budget in their own token."""
    text, _ = issue(SECRET, TOKEN, 60)
    for position in range(len(PREFIX), len(text) - 1):  # the last sign holds two bits that mean nothing
        changed = "A" if text[position] != "A" else "B"
        assert code_of(text[:position] + changed + text[position + 1 :]) == "invalid_api_key"


@given(st.text(max_size=200))
def test_reading_takes_any_text(text: str) -> None:
    """A strange header would be answered with a 500."""
    assert code_of(PREFIX + text) == "invalid_api_key"


def test_ids_of_visitors_belong_to_a_key() -> None:
    """One shop could take over the visitors, and so the conversations, of another shop on the same server."""
    first, second = "a" * 12, "b" * 12
    mine = visitor_id(SECRET, first, None)
    assert mine != visitor_id(SECRET, first, None)
    assert visitor_id(SECRET, first, mine) == mine
    with pytest.raises(NotFound):
        visitor_id(SECRET, second, mine)
    named = visitor_id(SECRET, first, "user 42")
    assert named == visitor_id(SECRET, first, "user 42")
    assert len({named, visitor_id(SECRET, second, "user 42"), visitor_id(SECRET, None, "user 42")}) == 3
    assert "user" not in named


@given(st.text(min_size=1, max_size=60))
def test_any_name_gives_a_visitor_of_the_own_key(name: str) -> None:
    """A name such as `vis_…` of another key, or with strange characters, would reach another shop's visitor."""
    try:
        assert visitor_id(SECRET, "a" * 12, name).startswith("vis_aaaaaaaaaaaa_")
    except NotFound:
        assert name.startswith("vis_")
