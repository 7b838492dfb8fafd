"""What a caller may say, beyond what its wire format allows. Knows no text, only who speaks in whose name.

A visitor's token stands in a web page, where anybody can take it and send what they like. It is good for what a
customer does, to ask: the shop's instructions are the shop's, and so are the prompts. A widget's token is narrower: to
whom its visitor talks is fixed, and the visitor speaks in nobody's name but their own.
"""

from __future__ import annotations

from collections.abc import Iterable

from frontdesk.errors import Forbidden
from frontdesk.messages import Role
from frontdesk.principal import Principal
from frontdesk.wire._format import Call

WIDGET_PATHS = ("/v1/responses", "/v1/conversations")  # with all below them: what a widget's visitor needs


def check_path(path: str, principal: Principal) -> None:
    """Raises `Forbidden` when a widget's visitor goes where none has anything to do."""
    if principal.persona is None or path.startswith(tuple(allowed + "/" for allowed in WIDGET_PATHS)):
        return
    if path not in WIDGET_PATHS:
        raise _not_for_visitors(f"a widget's token is good for {' and '.join(WIDGET_PATHS)}, not for {path[:100]}")


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
    tools = getattr(call.body, "tools", None) if principal.persona is not None else None
    for name, given in (("instructions", call.turn.instructions), ("prompt", call.turn.prompt), ("tools", tools)):
        if given:
            raise _refusal(f"a visitor's token does not allow '{name}'", name, principal)
    check_roles((item.message.role for item in call.turn.input[call.turn.remembered :]), principal)


def check_roles(roles: Iterable[Role], principal: Principal, param: str = "input") -> None:
    """Raises `Forbidden` when a visitor speaks as anybody but a customer. `param` is the field that holds it."""
    if principal.visitor is None:
        return
    spoken = set(roles)
    if spoken & {"system", "developer"}:
        raise _refusal("a visitor's token does not allow system and developer messages", param, principal)
    if principal.persona is not None and spoken - {"user"}:
        raise _refusal("a widget's visitor says user messages only", param, principal)


def check_change(fields: Iterable[str], principal: Principal) -> None:
    """Raises `Forbidden` when a visitor changes what of a conversation is not theirs to say: its budget, and for a
    widget's visitor everything, since the operator reads there who speaks. `fields` are those to be changed."""
    for field in fields:
        if principal.persona is not None:
            raise _refusal(f"a widget's visitor cannot set '{field}'", field, principal)
        if principal.visitor is not None and field == "budget":
            raise Forbidden("a visitor cannot set budgets", param="budget")


def _refusal(message: str, param: str, principal: Principal) -> Forbidden:
    return _not_for_visitors(message, param) if principal.persona is not None else Forbidden(message, param=param)


def _not_for_visitors(message: str, param: str | None = None) -> Forbidden:
    return Forbidden(message, param=param, code="not_for_visitors")
