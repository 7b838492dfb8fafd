"""What a caller may say, beyond what its wire format allows. Knows no text, only who speaks in whose name.

A visitor's token stands in a web page, where anybody can take it and send what they like. It is good for what a
customer does, to ask: the shop's instructions are the shop's, and so are the prompts.
"""

from __future__ import annotations

from collections.abc import Iterable

from frontdesk.errors import Forbidden
from frontdesk.messages import Role
from frontdesk.principal import Principal
from frontdesk.wire._format import Call


def check_said(call: Call, principal: Principal) -> None:
    """Raises `Forbidden` when a visitor instructs the model, or leaves the conversation that the token is for."""
    if principal.conversation is not None and call.turn is None:
        raise Forbidden("this token is good for one conversation only: use /v1/responses and name it")
    if principal.visitor is None:
        return
    if call.turn is None:
        check_roles((message.role for message in call.generation.messages or ()), principal)
        if call.generation.messages is None:
            raise Forbidden("a visitor's token is for conversations, not for raw text", param="prompt")
        return
    for name, given in (("instructions", call.turn.instructions), ("prompt", call.turn.prompt)):
        if given is not None:
            raise Forbidden(f"a visitor's token does not allow '{name}'", param=name)
    check_roles((item.message.role for item in call.turn.input), principal)


def check_roles(roles: Iterable[Role], principal: Principal) -> None:
    """Raises `Forbidden` when a visitor speaks as anybody but a customer."""
    if principal.visitor is not None and any(role in ("system", "developer") for role in roles):
        raise Forbidden("a visitor's token does not allow system and developer messages", param="input")
