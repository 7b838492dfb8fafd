"""The text of a key, and points in time as people write them."""

from __future__ import annotations

import contextlib
import json
import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from frontdesk.access.keys import hash_secret, matches, new_key, parse_key, state_of
from frontdesk.access.moments import moment
from frontdesk.access.report import GROUPINGS, groupings
from frontdesk.principal import ALL_SCOPES, Limits
from frontdesk.server.keys import Keys
from frontdesk.store.records import KeyRecord, LedgerEntry
from frontdesk.store.store import Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


def test_a_new_key_opens_with_its_own_text_only() -> None:
    """A key would not work, or another one would work in its place."""
    key, other = new_key(), new_key()
    parsed = parse_key(key.text)
    assert parsed is not None
    assert parsed[0] == key.id
    assert matches(parsed[1], key.hash)
    assert not matches(parsed[1], other.hash)


def test_a_key_has_256_random_bits_and_no_sign_that_ends_a_word() -> None:
    """Keys could be guessed, or be cut off when somebody double-clicks and copies one."""
    texts = {new_key().text for _ in range(1000)}
    assert len(texts) == 1000
    assert all(re.fullmatch(r"fd_[0-9a-f]{12}_[0-9A-Za-z]{43}", text) for text in texts)
    assert 62**43 >= 2**256


def test_neither_hash_nor_name_of_a_key_shows_its_secret() -> None:
    """A copy of the database, or a log line with a key's object in it, would let its reader in."""
    key = new_key()
    secret = key.text.rsplit("_", 1)[1]
    assert secret not in repr(key)
    assert secret.encode() not in key.hash
    assert len(key.hash) == 32
    assert key.hash == hash_secret(secret)


@given(st.one_of(st.text(max_size=80), st.from_regex(r"fd_[0-9a-fA-F]{0,13}_[^ ]{0,50}")))
def test_parsing_takes_any_text(text: str) -> None:
    """A strange header would be answered with a 500."""
    parsed = parse_key(text)
    assert parsed is None or text == f"fd_{parsed[0]}_{parsed[1]}"


@pytest.mark.parametrize("change", ["x{}", "{}x", " {}", "{}\n", "FD{}"])
def test_only_the_exact_form_is_a_key(change: str) -> None:
    """Two texts would be one key, and the tests of each other's refusals would not hold."""
    assert parse_key(change.format(new_key().text)) is None


def test_state_of_a_key() -> None:
    """A key would be good after its time, or an expired one that was revoked would look as if it could come back."""
    record = KeyRecord("ab" * 6, "shop", b"", ALL_SCOPES, Limits(), 0)
    assert state_of(record, NOW) == "active"
    cases = [(100, None, "expired"), (101, None, "active"), (None, 1, "revoked"), (1, 1, "revoked")]
    for expires, revoked, state in cases:
        changed = KeyRecord("ab" * 6, "shop", b"", ALL_SCOPES, Limits(), 0, expires, revoked)
        assert state_of(changed, 100.0) == state


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 30 * 86_400),
        ("90m", 5400),
        ("2w", 14 * 86_400),
        ("2026-11-25", 12 * 3600),
        ("2026-11-24T12:00:30", 30),
        ("2026-11-24T14:00:30+02:00", 30),
        (str(int(NOW) + 7), 7),
    ],
)
def test_moments_people_write(text: str, seconds: int) -> None:
    """A key would expire at another time than its maker thought, for instance in the server's own time zone."""
    assert moment(text, NOW, ahead=True) == NOW + seconds


def test_a_span_of_the_past() -> None:
    """`frontdesk usage --since 7d` would ask for the next week."""
    assert moment("7d", NOW, ahead=False) == NOW - 7 * 86_400


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "30", "-3d", "3y", "1969-01-01", "999999w", "9999-12-31", "nan", "٣d"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    """A mistyped expiry would make a key that lives for ever."""
    with pytest.raises(ValueError, match=r"is no point in time|outside the years"):
        moment(text, NOW, ahead=True)


@given(st.text(max_size=30), st.booleans())
def test_moments_take_any_text(text: str, ahead: bool) -> None:
    """`GET /v1/usage?since=…` would be answered with a 500."""
    with contextlib.suppress(ValueError):
        assert moment(text, NOW, ahead=ahead) >= 0


def test_groupings() -> None:
    """A sum would be over something else than was asked for, or over nothing, in silence."""
    assert groupings("") == ()
    assert groupings("day, key,day") == ("day", "key")
    assert groupings(",".join(GROUPINGS)) == GROUPINGS
    with pytest.raises(ValueError, match="'owner' is nothing to sum by"):
        groupings("key,owner")


async def test_what_a_key_used_is_told_by_the_windows_of_its_budgets(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator would see tokens of the minute or the day before, which no budget counts any more, or miss some."""
    midnight = NOW - NOW % 86_400
    await store.keys.add(KeyRecord("ab" * 6, "shop", b"", ALL_SCOPES, Limits(), 0))
    for at, tokens in ((midnight - 1, 1000), (midnight, 100), (NOW - 1, 10), (NOW, 1)):
        await store.journal.pay(LedgerEntry(str(at), at, "", "ab" * 6, None, None, "m", tokens, 0, 0, "finished"))
    monkeypatch.setattr(time, "time", lambda: NOW + 59.9)
    answer = await Keys(store).list(Request({"type": "http", "query_string": b"", "headers": []}))
    (key,) = json.loads(bytes(answer.body))["data"]
    assert key["used"] == {"minute": 1, "day": 111, "total": 1111}
