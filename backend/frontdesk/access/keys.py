"""API keys as text: made, taken apart, compared. The database keeps a hash, so a stolen copy of it opens nothing.

A key reads `fd_<id>_<secret>`: the id (12 hex digits, no secret) finds the record, the secret holds 256 random bits. At
that size a plain SHA-256 is as good as the slow hashes that passwords need. Knows no clock.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import Literal

from frontdesk.store.records import KeyRecord

KeyState = Literal["active", "expired", "revoked"]

PREFIX = "fd_"
SECRET_LENGTH = 43  # base-62 digits: the first length that holds 256 bits
_ALPHABET = string.digits + string.ascii_letters  # no sign that ends a word: a double click takes the whole key
_FORM = re.compile(rf"fd_([0-9a-f]{{12}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})")


@dataclass(frozen=True, slots=True)
class NewKey:
    """`text` goes to its owner, once, and is kept nowhere; `id` and `hash` go to the database."""

    text: str = field(repr=False)
    id: str
    hash: bytes


def new_key(id: str | None = None) -> NewKey:
    """A key with a secret of its own; under a given `id` in the place of the one that has it."""
    key_id = id or secrets.token_hex(6)
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_LENGTH))
    return NewKey(f"{PREFIX}{key_id}_{secret}", key_id, hash_secret(secret))


def parse_key(text: str) -> tuple[str, str] | None:
    """Id and secret, or `None` when the text has not the form of a key."""
    found = _FORM.fullmatch(text)
    return (found[1], found[2]) if found else None


def hash_secret(secret: str) -> bytes:
    """32 bytes."""
    return hashlib.sha256(secret.encode()).digest()


def matches(secret: str, stored: bytes) -> bool:
    """Whether `stored` is this secret's hash, in a time that says nothing about where they differ."""
    return hmac.compare_digest(hash_secret(secret), stored)


def state_of(record: KeyRecord, now: float) -> KeyState:
    """What a key is at this time, in seconds since 1970."""
    if record.revoked is not None:
        return "revoked"
    return "expired" if record.expires is not None and record.expires <= now else "active"
