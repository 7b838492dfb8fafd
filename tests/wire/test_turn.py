"""What a Responses body says about its conversation, and that it says the same when it is read again later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.values import IDENTITY, MINIMAL, values

from frontdesk.errors import InvalidRequest
from frontdesk.generation import PromptReference, Reference, Turn
from frontdesk.messages import ITEM_PREFIXES, Item, Message, ToolCall
from frontdesk.wire._format import Call
from frontdesk.wire._items import MAX_REFERENCES, item_json
from frontdesk.wire._responses_events import response_object
from frontdesk.wire.openai_responses import OpenAIResponses, request_json

FORMAT = OpenAIResponses()
ID = "0123456789abcdef" * 2


def turn(**fields: Any) -> Turn:
    parsed = FORMAT.parse({"input": "x", **fields}).turn
    assert parsed is not None
    return parsed


def test_where_a_turn_belongs() -> None:
    """If this fails, a turn is added to no conversation, or to the wrong one."""
    assert turn(conversation=f"conv_{ID}").conversation == f"conv_{ID}"
    assert turn(conversation={"id": f"conv_{ID}"}).conversation == f"conv_{ID}"
    assert turn(previous_response_id=f"resp_{ID}").previous == ID
    assert turn(previous_response_id=ID).previous == ID
    alone = turn()
    assert (alone.conversation, alone.previous, alone.truncation) == (None, None, None)


def test_what_is_kept() -> None:
    """If this fails, something is kept that nobody wanted kept, or the other way round."""
    assert [turn(store=store).store for store in (None, True, False)] == [True, True, False]
    assert (turn().background, turn(background=True).background) == (False, True)
    assert turn(truncation="auto").truncation == "auto"


def test_prompt_reference() -> None:
    """If this fails, a prompt of the server is filled with other words than the client's."""
    given = {"id": "shop", "version": "2", "variables": {"name": "Ann {{ x }}", "city": {"type": "input_text",
             "text": "Bremen"}}}  # fmt: skip
    assert turn(prompt=given).prompt == PromptReference("shop", "2", (("name", "Ann {{ x }}"), ("city", "Bremen")))
    call = FORMAT.parse({"prompt": given})
    assert response_object(call.body, IDENTITY)["prompt"] == given  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [{"instructions": "x"}, {"prompt": {"id": "p"}}, {"conversation": f"conv_{ID}"}, {"previous_response_id": ID}],
)
def test_input_may_be_empty_where_something_else_is_said(fields: dict[str, Any]) -> None:
    """If this fails, a conversation cannot be continued with what is in it already."""
    parsed = FORMAT.parse(fields).turn
    assert parsed is not None
    assert parsed.input == ()


def test_items_get_ids_of_their_own() -> None:
    """If this fails, a client that sends an item twice, or one of somebody else's, breaks the conversation."""
    given = {"type": "message", "id": "msg_1", "role": "user", "content": "x"}
    first, second = turn(input=[given, given]).input
    assert first.id != second.id
    assert all(item.id.startswith("msg_") and len(item.id) == 36 for item in (first, second))


def test_a_refusal_of_another_provider_is_what_was_said() -> None:
    """A conversation that another provider's assistant once refused could not go on here; or a customer's message
    would be taken for a refusal."""
    part = {"type": "refusal", "refusal": "I would rather not."}
    (item,) = turn(input=[{"role": "assistant", "content": [part]}]).input
    assert item.message.content == "I would rather not."
    with pytest.raises(InvalidRequest) as caught:
        turn(input=[{"role": "user", "content": [part]}])
    assert caught.value.param == "input.0.content.0.type"


def test_what_is_named_instead_of_said() -> None:
    """If this fails, an answer that is named comes at another place of the talk, or not at all."""
    named = [{"type": "item_reference", "id": f"{prefix}_{ID}"} for prefix in ("msg", "fc")]
    parsed = turn(input=[{"role": "user", "content": "x"}, named[0], {"role": "user", "content": "y"}, named[1]])
    assert parsed.references == (Reference(1, f"msg_{ID}"), Reference(3, f"fc_{ID}"))
    assert [item.message.content for item in parsed.input] == ["x", "y"]
    assert turn(input=named[:1]).references == (Reference(0, f"msg_{ID}"),)
    many = [{"type": "item_reference", "id": f"msg_{i:032x}"} for i in range(MAX_REFERENCES)]
    assert len(turn(input=many).references) == MAX_REFERENCES


texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
statuses = st.sampled_from(["completed", "incomplete", "in_progress"])
messages = st.builds(Message, st.sampled_from(["user", "assistant", "system", "developer"]), texts)
calls = st.builds(
    lambda id, name, args: Message("assistant", "", tool_calls=(ToolCall(id, name, args),)), names, names, texts
)
results = st.builds(lambda id, text: Message("tool", text, tool_call_id=id), names, texts)
items = st.one_of(
    st.builds(Item, st.just(""), st.just("message"), messages, statuses),
    st.builds(Item, st.just(""), st.just("function_call"), calls, statuses),
    st.builds(Item, st.just(""), st.just("function_call_output"), results, statuses),
    st.builds(Item, st.just(""), st.just("summary"), st.builds(Message, st.just("system"), texts)),
)


@given(said=st.lists(items, max_size=5))
def test_items_that_are_sent_back_say_the_same(said: list[Item]) -> None:
    """If this fails, a client that resends what it read changes the conversation by doing so."""
    again = turn(input=[item_json(item) for item in said] or "x").input
    if said:
        assert [replace(item, id="") for item in again] == said
        assert all(item.id.startswith(ITEM_PREFIXES[item.kind] + "_") for item in again)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_kept_request_is_read_again_as_the_same_call(data: st.DataObject) -> None:
    """If this fails, a reply that survives the server's death goes on as the answer to another request."""
    fields = sorted(FORMAT.request.model_fields)
    body = {**MINIMAL["openai_responses"], **data.draw(st.dictionaries(st.sampled_from(fields), values, max_size=3))}
    try:
        call = FORMAT.parse(body)
    except InvalidRequest:
        return
    again = FORMAT.parse(msgspec.json.decode(request_json(call)))
    assert without_ids(again) == without_ids(call)
    assert response_object(again.body, IDENTITY) == response_object(call.body, IDENTITY)  # type: ignore[arg-type]


def without_ids(call: Call) -> tuple[Any, ...]:
    assert call.turn is not None
    input = tuple(replace(item, id="") for item in call.turn.input)
    return call.generation, call.stream, call.n, replace(call.turn, input=input)
