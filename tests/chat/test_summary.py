"""The rolling summary: what the model is asked, and what its answer becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat.talks import CHATML, item, turns

from frontdesk.chat.context import Policy
from frontdesk.chat.cutting import MARK, cut_to_fit, without_middle
from frontdesk.chat.fitting import ContextManager
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.summary import SummaryTask, summary_item, summary_message, summary_task, transcript
from frontdesk.chat.template import ChatTemplate
from frontdesk.config import prompts_folder
from frontdesk.fleet.tokenizer import Tokenizer
from frontdesk.generation import ContextReport
from frontdesk.messages import Item, Message, ToolCall

PERSONA = load_personas(prompts_folder())["summary"].text


class Asker:
    """`summary_task` with defaults. Checks that every task fits."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.template = ChatTemplate(CHATML, tokenizer)
        self.manager = ContextManager(self.template)

    def count(self, messages: Sequence[Message]) -> int:
        return len(self.template.render(messages))

    def __call__(self, items: list[Item], left: set[str] | None = None, **wanted: Any) -> SummaryTask | None:
        settings = {"old": None, "pinned": (), "window": 512, **wanted}
        gone = {each.id for each in items} if left is None else left
        task = summary_task(items, gone, persona=PERSONA, count=self.count, **settings)  # pyright: ignore[reportArgumentType]
        if task is not None:
            request = task.request
            assert request.messages is not None
            assert request.max_tokens is not None
            assert self.count(request.messages) + request.max_tokens <= settings["window"]
            assert request.messages[0] == Message("system", PERSONA)
            assert not request.persona
        return task


@pytest.fixture(scope="module")
def ask(tokenizer: Tokenizer) -> Asker:
    return Asker(tokenizer)


def asked(task: SummaryTask | None) -> str:
    assert task is not None
    assert task.request.messages is not None
    return task.request.messages[1].content


def answered(task: SummaryTask | None, answer: str = "They talked.") -> Item:
    assert task is not None
    made = summary_item(task, answer, 7)
    assert made is not None
    return made


def test_what_left_is_asked_as_a_transcript(ask: Asker) -> None:
    """The model was trained on lines of Customer and Assistant, and would not know anything else."""
    task = ask(turns(3, words=0), left={"u0", "a0", "u1", "a1"})
    assert asked(task) == "Customer: user says 0: \nAssistant: assistant says 0: \n" + (
        "Customer: user says 1: \nAssistant: assistant says 1: "
    )
    made = answered(task, " <think>hm</think>Ann asked twice. ")
    assert made == Item(
        made.id, "summary", Message("system", "Ann asked twice."), created=7, covers=("u0", "a0", "u1", "a1")
    )
    assert made.id.startswith("cmp_")
    assert summary_message(made).content == "Summary of the conversation so far: Ann asked twice."


def test_tools_and_reasoning_in_a_transcript() -> None:
    """A summary would know nothing of what a tool found, or be made of reasoning."""
    call = Message("assistant", "", tool_calls=(ToolCall("1", "look", '{"n": 3}'),))
    items = [
        Item("1", "function_call", call),
        Item("2", "function_call_output", Message("tool", "late", tool_call_id="1")),
        item("3", "assistant", "<think>so</think>It is late."),
        item("4", "developer", "Speak French."),
    ]
    assert transcript(items).splitlines() == [
        'Assistant: look({"n": 3})', "Tool: late", "Assistant: It is late.", "Note: Speak French."
    ]  # fmt: skip


def test_the_old_summary_stays_in_front(ask: Asker) -> None:
    """Each round would forget what the round before knew."""
    first = answered(ask(turns(2), left={"u0", "a0"}), "Ann has a dog.")
    second = answered(ask(turns(2), old=first), "She bought a pan.")
    assert second.message.content == "Ann has a dog. She bought a pan."
    assert second.covers == ("u0", "a0", "u1", "a1")
    assert ask(turns(2), old=second) is None


def test_a_long_summary_is_condensed(ask: Asker) -> None:
    """It would grow until it fills the window."""
    old = Item("cmp_1", "summary", Message("system", "Ann asked a thing. " * 20), covers=("u0", "a0"))
    task = ask(turns(2), old=old)
    assert asked(task).startswith("Summary so far: Ann asked a thing. ")
    assert answered(task, "Short.").message.content == "Short."


def test_pinned_items_are_not_summed_up(ask: Asker) -> None:
    """What is sent verbatim would be told twice, and told wrong the second time."""
    task = ask(turns(2), pinned={"u0"})
    assert "user says 0" not in asked(task)
    assert answered(task).covers == ("a0", "u1", "a1")
    assert ask(turns(1), pinned={"u0", "a0"}) is None
    assert ask(turns(1), left=set()) is None


def test_what_is_pinned_later_leaves_the_summary(ask: Asker) -> None:
    """What is sent verbatim would be told once more, in the words of a summary that was made before the pin."""
    old = Item("cmp", "summary", Message("system", "Ann said 0."), covers=("u0", "a0"))
    task = ask(turns(2), left={"u1"}, old=old, pinned={"u0"})
    assert "user says 0" not in asked(task)
    made = answered(task, "Nothing else.")
    assert made.message.content == "Nothing else."
    assert made.covers == ("a0", "u1")
    assert ask(turns(2), left={"u1"}, old=made, pinned={"u0"}) is None


@pytest.mark.parametrize(("words", "window", "turns_at_once"), [(0, 512, 7), (8, 512, 1), (30, 200, 0)])
def test_a_few_turns_at_once_oldest_first(ask: Asker, words: int, window: int, turns_at_once: int) -> None:
    """The request to sum up would be refused, or be more than a small model can sum up; or turns would be torn apart
    that need not be."""
    items, old, sizes = turns(12, words), None, []
    while task := ask(items, old=old, window=window):
        made = answered(task, f"Round {len(sizes)}.")
        assert made.covers == tuple(each.id for each in items[: len(made.covers)])
        sizes.append(len(made.covers) - (len(old.covers) if old else 0))
        old = made
    assert sum(sizes) == 24
    assert sizes[0] == max(1, 2 * turns_at_once)


def test_a_model_that_repeats_itself(ask: Asker) -> None:
    """The summary would fill with one sentence, as small models write it over and over."""
    old = Item("cmp", "summary", Message("system", "The name is Ann. It costs $88.00."), covers=("u0", "a0"))
    made = answered(ask(turns(2), old=old), "It costs $88.00. Open at 9. Open at 9. It costs $88.00. Open at")
    assert made.message.content == "The name is Ann. It costs $88.00. Open at 9. Open at"
    assert answered(ask(turns(1)), "- a\n- b\n- a\n").message.content == "- a\n- b"


def test_one_message_that_is_too_long(ask: Asker) -> None:
    """A single long message would block the summary of all that comes after it."""
    items = [item("long", "user", "word " * 900), item("next", "assistant", "Yes.")]
    task = ask(items)
    assert MARK in asked(task)
    assert answered(task).covers == ("long",)
    assert ask(items, window=40) is None


def test_more_than_a_template_takes(ask: Asker) -> None:
    """A conversation with one turn of megabytes could never be compacted: the template's limit, in a field that the
    request does not have, would be all that its client hears of it."""
    items = [item("long", "user", "word " * 450_000), item("next", "assistant", "Yes.")]
    task = ask(items)
    assert MARK in asked(task)
    assert answered(task).covers == ("long",)
    assert ask(items[1:], old=answered(task, "Long. " * 400_000)) is not None
    assert ask(items[1:], old=Item("cmp", "summary", Message("system", "word " * 450_000))) is None


def test_an_empty_answer_is_no_summary(ask: Asker) -> None:
    """What left would count as summed up, and be lost without a trace."""
    task = ask(turns(1))
    assert task is not None
    assert summary_item(task, " \n", 0) is None
    assert summary_item(task, "<think>never mind", 0) is None


def test_summing_up_a_growing_conversation(ask: Asker) -> None:
    """Fitting and summing up would not agree on what left: items would be lost or told twice, or what left would come
    back as soon as a part of it is summed up, and the prompt's beginning would change with every turn."""
    everything, old, drops = turns(60), None, 0

    def report(end: int) -> ContextReport:
        return ask.manager.fit(
            system=[Message("system", "Be brief.")], items=everything[:end], input=[item("new", "user", "And now?")],
            summary=old, pinned={"u0"}, window=1024, max_tokens=None, reserve=64, policy=Policy(summarise=True),
        ).report  # fmt: skip

    for end in range(2, 120, 2):
        found = report(end)
        assert {*found.kept, *found.dropped, *found.summarised} == {*(each.id for each in everything[:end]), "new"}
        assert found.summarised == (old.covers if old else ())
        assert found.prompt_tokens <= 1024 - 64
        drops += bool(found.dropped)
        while task := ask(everything[:end], left=set(found.dropped), old=old, pinned={"u0"}, window=1024):
            old = answered(task, f"All of {task.covers[-1]} was about tea and biscuits, as so often in this shop.")
            assert report(end).kept == found.kept
    assert 3 < drops < 15


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60), limit=st.integers(0, 80))
def test_cutting_is_exact(text: str, limit: int) -> None:
    """More would be taken out of a message than is needed. Tokens are characters here, so that all can be tried."""
    cut = cut_to_fit(text, len, limit)
    fitting = [kept for kept in range(len(text)) if len(without_middle(text, kept)) <= limit]
    assert cut == (without_middle(text, fitting[-1] if fitting else 0) if len(MARK) <= limit else None)
