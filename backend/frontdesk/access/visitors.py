"""Visitors' tokens: what a shop's page gets instead of a key. Short-lived, may only chat, carry their own budgets.

A token is `ek_` and a JSON Web Token, signed with 32 secret bytes of this installation: reading one needs no database.
What may change later is not in it: the key that vouches for it is looked up at every request (`gatekeeper`).

A visitor's id begins with the id of the key that issued it. So a key can renew its own visitors, and no other's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

import jwt

from frontdesk.errors import NotFound, Unauthorized
from frontdesk.principal import Limits

PREFIX = "ek_"
ALGORITHM = "HS256"
ISSUER = "frontdesk"
AUDIENCE = "frontdesk.visitor"
SKEW_SECONDS = 5  # by which the clocks of two servers over one database may differ
NO_KEY = "0" * 12  # stands in a visitor's id where no key issued the token

_LIMITS = {  # claims are short: a token travels with every request
    "tpm": "tokens_per_minute",
    "tpd": "tokens_per_day",
    "tot": "tokens_total",
    "rpm": "requests_per_minute",
}
_FORM = re.compile(r"ek_eyJ[\w-]*\.[\w-]+\.[\w-]*", re.ASCII)  # OpenAI's own short-lived keys begin with ek_ as well
_ID = re.compile(r"vis_([0-9a-f]{12})_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class VisitorToken:
    """What a token says. A limit that is `None` is not in it: the server's own default holds."""

    visitor: str
    key: str | None
    conversation: str | None
    limits: Limits
    origin: str | None = None  # a widget's: see `Principal`
    persona: str | None = None


def visitor_id(secret: bytes, key: str | None, name: str | None) -> str:
    """The id of the visitor that a key calls `name`: an id it was given before, its own word, or `None` for a new one.

    The same word gives the same visitor, and no id tells the word. Raises `NotFound` for an id of another key.
    """
    issuer = key or NO_KEY
    if name is None:
        return f"vis_{issuer}_{secrets.token_hex(16)}"
    if found := _ID.fullmatch(name):
        if found[1] != issuer:
            raise NotFound("there is no such visitor of this key", param="visitor")
        return name
    digest = hmac.new(secret, f"{issuer}\0{name}".encode(), hashlib.sha256).hexdigest()
    return f"vis_{issuer}_{digest[:32]}"


def owner_of(visitor: str) -> str:
    """The visitor as an owner: see `Principal`."""
    return f"visitor:{visitor}"


def issue(secret: bytes, token: VisitorToken, seconds: float, now: float | None = None) -> tuple[str, int]:
    """The text of a token that is good for so many seconds, and when it expires (seconds since 1970)."""
    began = time.time() if now is None else now
    expires = int(began + seconds)
    claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": token.visitor, "iat": int(began), "exp": expires}
    claims |= {"key": token.key} if token.key else {}
    claims |= {"conv": token.conversation} if token.conversation else {}
    claims |= {"org": token.origin} if token.origin is not None else {}
    claims |= {"per": token.persona} if token.persona is not None else {}
    claims |= {short: value for short, name in _LIMITS.items() if (value := getattr(token.limits, name)) is not None}
    return PREFIX + jwt.encode(claims, secret, ALGORITHM), expires


def is_token(text: str) -> bool:
    """Whether it has the form of a visitor's token, be it good or not."""
    return _FORM.fullmatch(text) is not None


def read(secret: bytes, text: str) -> VisitorToken:
    """What the token says. Raises `Unauthorized` when it is not one of ours or its time is over."""
    try:
        claims = jwt.decode(
            text.removeprefix(PREFIX),
            secret,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=SKEW_SECONDS,
            options={"require": ["exp", "iat", "sub"], "verify_iat": False},  # our own clock may have been set back
        )
    except jwt.ExpiredSignatureError:
        raise Unauthorized("this visitor's token has expired: ask for a new one", code="expired_token") from None
    except jwt.InvalidTokenError:
        raise Unauthorized("this visitor's token is not one of this server's") from None
    limits = Limits(**{name: claims[short] for short, name in _LIMITS.items() if short in claims})
    return VisitorToken(
        claims["sub"], claims.get("key"), claims.get("conv"), limits, claims.get("org"), claims.get("per")
    )
