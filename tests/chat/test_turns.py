"""What belongs together in a conversation, and what the model is shown of it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.chat.turns import messages_of, number_turns, with_partners, without_reasoning
from frontdesk.messages import Item, Message, ToolCall


def user(text: str = "u") -> Message:
    return Message("user", text)


def assistant(text: str = "a") -> Message:
    return Message("assistant", text)


def call(id: str) -> Message:
    return Message("assistant", "", tool_calls=(ToolCall(id, "f", "{}"),))


def result(id: str | None) -> Message:
    return Message("tool", "r", tool_call_id=id)


def item(id: str, message: Message) -> Item:
    kind = "function_call" if message.tool_calls else "function_call_output" if message.role == "tool" else "message"
    return Item(id, kind, message)


MESSAGES = st.lists(
    st.one_of(
        st.just(user()),
        st.just(assistant()),
        st.just(Message("system", "s")),
        st.builds(call, st.sampled_from("xyz")),
        st.builds(result, st.sampled_from(["x", "y", "z", "gone", None])),
    ),
    max_size=25,
)


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([], []),
        ([user(), assistant(), user(), assistant()], [0, 0, 1, 1]),
        ([assistant(), user(), assistant(), user()], [0, 1, 1, 2]),
        ([result("gone"), user()], [0, 1]),
        ([user(), call("x"), result("x"), assistant(), user()], [0, 0, 0, 0, 1]),
        ([user(), call("x"), call("y"), user(), result("y"), user(), result("x"), user()], [0, 0, 0, 0, 0, 0, 0, 1]),
        ([user(), call("x"), result("x"), user(), call("x"), result("x")], [0, 0, 0, 1, 1, 1]),
        ([user(), result("x"), user(), call("x"), user()], [0, 0, 1, 1, 2]),
    ],
)
def test_turns(messages: list[Message], turns: list[int]) -> None:
    """Turns would be cut in the middle, or all of a conversation would be one that can never leave."""
    assert number_turns(messages) == turns


@settings(max_examples=500, deadline=None)
@given(messages=MESSAGES)
def test_a_call_and_its_result_are_of_one_turn(messages: list[Message]) -> None:
    """Models and templates break on a result without its call."""
    turns = number_turns(messages)
    assert turns == sorted(turns)
    assert set(turns) == set(range(len(set(turns))))
    calls: dict[str | None, int] = {}
    for i, message in enumerate(messages):
        if message.role == "tool" and message.tool_call_id in calls:
            assert turns[calls[message.tool_call_id]] == turns[i]
        calls |= {each.id: i for each in message.tool_calls}
    for before, after in zip(range(len(turns)), range(1, len(turns)), strict=False):
        if turns[after] != turns[before]:
            assert messages[after].role == "user"


def test_a_pin_takes_its_partners_along() -> None:
    """A pinned tool result would stay without the call that it answers."""
    talk = [user(), call("x"), call("y"), result("x"), result("y"), assistant()]
    items = [item(str(i), message) for i, message in enumerate(talk)]
    assert with_partners(items, {"3"}) == {"1", "3"}
    assert with_partners(items, {"2", "5", "unknown"}) == {"2", "4", "5"}
    assert with_partners(items, ()) == frozenset()


def test_calls_of_one_answer_are_one_message() -> None:
    """The model wrote them in one turn; two assistant turns in a row are refused by many templates."""
    talk = [user(), assistant("let me see"), call("x"), call("y"), result("x"), result("y"), call("z"), assistant()]
    messages = messages_of([item(str(i), message) for i, message in enumerate(talk)])
    assert [message.role for message in messages] == [
        "user", "assistant", "tool", "tool", "assistant", "assistant"
    ]  # fmt: skip
    assert messages[1].content == "let me see"
    assert [each.id for each in messages[1].tool_calls] == ["x", "y"]
    assert [each.id for each in messages[4].tool_calls] == ["z"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain", "plain"),
        ("<think>why</think>\n\nyes", "yes"),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("why</think>\nyes", "yes"),
        ("<think>cut off", ""),
        ("  <think>cut off", ""),
        ("write <think> to begin", "write <think> to begin"),
        ("<think>a</think>see <think> there", "see <think> there"),
        ("<think></think>", ""),
        ("a </think> b </think> c", "b </think> c"),
    ],
)
def test_reasoning_is_taken_out(text: str, left: str) -> None:
    """Later turns would be filled with reasoning, or an answer that only speaks of the tag would be lost."""
    assert without_reasoning(text) == left
    message = Message("assistant", text)
    assert messages_of([item("1", message)])[0].content == left
    assert messages_of([item("1", user(text))])[0].content == text


def test_many_tags_take_no_time() -> None:
    """A client could stall the server with a megabyte of opening tags."""
    began = time.thread_time()
    without_reasoning("<think>" * 150_000)
    without_reasoning("<think></think>" * 60_000)
    assert time.thread_time() - began < 1
