"""Widgets' ids, the identities that customers sign, and refresh tokens. Pure: knows no database and no HTTP.

A widget's id is public: it stands in the page. What proves who a visitor is, is a JSON Web Token that the customer's
own server signs with the widget's identity secret, which only that server holds. The secret follows from the id and
from the secret of this installation, so nothing more is kept.

A refresh token lets a visitor come back for 30 days. It is `er_` and a JSON Web Token under an audience of its own, so
that neither it nor a visitor's `ek_` token can stand for the other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from typing import Any

import jwt

from frontdesk.access.visitors import ALGORITHM, ISSUER, SKEW_SECONDS
from frontdesk.errors import FrontdeskError, Unauthorized

PREFIX = "wgt_"
REFRESH_PREFIX = "er_"
REFRESH_AUDIENCE = "frontdesk.widget.refresh"
REFRESH_SECONDS = 30 * 86_400
MOST_SECONDS = 86_400  # by which an identity's expiry may lie ahead
MOST_SUBJECT = 256  # characters
MOST_NAME = 100

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::([1-9][0-9]{0,4}))?")
_USUAL_PORTS = {"http": "80", "https": "443"}
_BROKEN = (jwt.InvalidTokenError, TypeError, ValueError, ArithmeticError, RecursionError)  # what strange claims raise


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a visitor is, as the customer's server says. `subject` is the customer's own id for a person."""

    subject: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Refresh:
    """Who comes back with a refresh token. `visitor` is an id; `name` is that of an identified one, if there is any."""

    visitor: str
    identified: bool
    name: str | None


def widget_id(key: str) -> str:
    """The id of the widget that this key pays for."""
    return PREFIX + key


def check_origin(text: str) -> None:
    """Raises `ValueError`, with one line for its writer, unless it is an origin as browsers write it."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text[:100]!r} is no origin; write scheme, host and port in lower case and nothing else, as in "
            "https://shop.example"
        )
    scheme, host, port = found.groups()
    if port is not None and _USUAL_PORTS.get(scheme) == port:
        raise ValueError(f"browsers leave the port {port} out of {text[:100]!r}: write {scheme}://{host}")


def identity_secret(secret: bytes, widget: str) -> str:
    """What the customer's server signs with: 64 hex digits, whose ASCII bytes are the key. `secret` is the
    installation's."""
    return hmac.new(secret, f"widget-identity\0{widget}".encode(), hashlib.sha256).hexdigest()


def read_identity(secret: bytes, widget: str, text: str, now: float | None = None) -> Identity:
    """What a customer's server says of a visitor. Raises `Unauthorized`: `expired_token`, or `invalid_identity` with
    what is wrong."""
    try:
        claims = jwt.decode(
            text,
            identity_secret(secret, widget),
            algorithms=[ALGORITHM],
            leeway=SKEW_SECONDS,
            options={"require": ["exp", "sub"], "verify_aud": False},
        )
        if float(claims["exp"]) > (time.time() if now is None else now) + MOST_SECONDS + SKEW_SECONDS:
            raise _invalid_identity("its 'exp' is more than 24 hours ahead")
    except jwt.ExpiredSignatureError:
        raise _expired("this identity has expired: have it signed again", "identity") from None
    except _BROKEN as error:
        raise _invalid_identity(str(error) or type(error).__name__) from None
    audience = claims.get("aud", widget)
    if widget not in (audience if isinstance(audience, list) else [audience]):
        raise _invalid_identity("its 'aud' is not this widget's id")
    subject, name = claims["sub"], claims.get("name")
    if not _is_text(subject, MOST_SUBJECT):
        raise _invalid_identity(f"its 'sub' should be a text of 1 to {MOST_SUBJECT} characters")
    if name is not None and not (_is_text(name, MOST_NAME) and name.isprintable()):
        raise _invalid_identity(f"its 'name' should be a text of 1 to {MOST_NAME} printable characters")
    return Identity(subject, name)


def identified_visitor(secret: bytes, key: str, subject: str) -> str:
    """The id of a visitor of the key's widget whom the customer calls `subject`: the same one on every device."""
    digest = hmac.new(secret, f"widget-visitor\0{key}\0{subject}".encode(), hashlib.sha256).hexdigest()
    return f"vis_{key}_{digest[:32]}"


def issue_refresh(secret: bytes, widget: str, refresh: Refresh, now: float | None = None) -> tuple[str, int]:
    """The text of a refresh token, and when it expires (seconds since 1970)."""
    began = int(time.time() if now is None else now)
    expires = began + REFRESH_SECONDS
    claims: dict[str, Any] = {"iss": ISSUER, "aud": REFRESH_AUDIENCE, "iat": began, "exp": expires}
    claims |= {"sub": refresh.visitor, "wgt": widget, "idn": refresh.identified}
    claims |= {"name": refresh.name} if refresh.name is not None else {}
    return REFRESH_PREFIX + jwt.encode(claims, secret, ALGORITHM), expires


def read_refresh(secret: bytes, widget: str, text: str) -> Refresh:
    """Who comes back. Raises `Unauthorized`: `expired_token`, or `invalid_refresh` when it is not one of this
    widget's."""
    try:
        claims = jwt.decode(
            text.removeprefix(REFRESH_PREFIX),
            secret,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=REFRESH_AUDIENCE,
            leeway=SKEW_SECONDS,
            options={"require": ["exp", "iat", "sub"], "verify_iat": False},  # our own clock may have been set back
        )
    except jwt.ExpiredSignatureError:
        raise _expired("this visitor stayed away for too long: begin without 'refresh'", "refresh") from None
    except _BROKEN:
        claims = {}
    if claims.get("wgt") != widget:
        raise Unauthorized("'refresh' is not a token of this widget", param="refresh", code="invalid_refresh")
    return Refresh(claims["sub"], claims["idn"], claims.get("name"))


def _is_text(value: object, most: int) -> bool:
    """Whether it is text that can be written in UTF-8, and has 1 to `most` characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        return False
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


def _expired(message: str, param: str) -> FrontdeskError:
    return Unauthorized(message, param=param, code="expired_token")


def _invalid_identity(why: str) -> FrontdeskError:
    return Unauthorized(f"'identity' is not valid: {why}"[:300], param="identity", code="invalid_identity")
