"""Models whose template refuses the system role: what the system says reaches them with the user's first message."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat.talks import SHIPPED, item, turns
from tests.chat.test_fitting import NO_SYSTEM, Fitter, common, next_prompt

from frontdesk.chat.context import Policy
from frontdesk.chat.prompting import Prompting
from frontdesk.chat.prompts import load_personas
from frontdesk.chat.template import ChatTemplate
from frontdesk.config import prompts_folder
from frontdesk.errors import ContextLengthExceeded, InvalidRequest
from frontdesk.fleet.pool import Backend
from frontdesk.fleet.registry import card_for_file
from frontdesk.fleet.tokenizer import Tokenizer
from frontdesk.generation import GenerationRequest
from frontdesk.messages import Item, Message

RULES = "Be brief."


@pytest.fixture(scope="module")
def fit(tokenizer: Tokenizer) -> Fitter:
    return Fitter(NO_SYSTEM, tokenizer)


@pytest.fixture(scope="module")
def template(fit: Fitter) -> ChatTemplate:
    return fit.template


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_system_speaks_through_the_user(template: ChatTemplate, role: Any) -> None:
    """Every request with a persona would be refused, or the model not hear of it."""
    said = [Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "And now?")]
    with_rules = [Message("user", f"{RULES}\n\nHi"), *said[1:]]
    assert template.render([Message(role, RULES), *said]) == template.render(with_rules)
    assert template.render([Message(role, RULES)]) == template.render([Message("user", RULES)])


def test_what_is_refused_for_another_reason_says_so(template: ChatTemplate) -> None:
    """The reason told would be that of a conversation that nobody sent."""
    for said in (
        [Message("system", RULES), Message("assistant", "Hi"), Message("user", "Hi")],
        [Message("system", RULES), Message("user", "Hi"), Message("system", "More."), Message("user", "Hi")],
    ):
        with pytest.raises(InvalidRequest, match="System role not supported"):
            template.render(said)


def test_all_that_the_system_says_is_in_the_first_message_that_is_sent(fit: Fitter) -> None:
    """A pin, a summary or a turn that left would make every later request an error, or take the persona with it."""
    covers = tuple(id for i in range(10) for id in (f"u{i}", f"a{i}"))
    summary = Item("cmp", "summary", Message("system", "s"), covers=covers)
    fitted = fit(turns(12), summary=summary, pinned={"u0"}, window=1000)
    pin, first, *rest = (turns(12)[i].message for i in (0, *range(20, 24)))
    text = f"{RULES}\n\nCustomer: {pin.content}\n\nSummary of the conversation so far: s"
    spoken = [replace(first, content=f"{text}\n\n{first.content}"), *rest, Message("user", "And now?")]
    assert list(fitted.tokens) == fit.template.render(spoken)
    shorter = fit(turns(40))
    assert shorter.report.dropped
    assert shorter.messages[0] == Message("system", RULES)
    assert fit([summary], input=[]).report.prompt_tokens > 0  # of a conversation that was compacted


@settings(max_examples=40, deadline=None)
@given(
    talk=st.lists(st.tuples(*[st.text(alphabet="abc dé😀\n 12", max_size=40)] * 2), min_size=1, max_size=20),
    window=st.integers(100, 400),
    words=st.integers(0, 300),
)
def test_parts_add_up_exactly(fit: Fitter, talk: list[tuple[str, str]], window: int, words: int) -> None:
    """The report would charge the user with the system's words, or a meter not add up."""
    said = [
        item(f"{role}{i}", role, f"x{texts[n]}x")
        for i, texts in enumerate(talk)
        for n, role in enumerate(("user", "assistant"))
    ]  # fmt: skip
    asked = item("new", "user", "And now? " + "word " * words)
    try:
        fitted = fit(said, input=[asked], window=window, policy=Policy(long_message="cut"))
    except ContextLengthExceeded:
        return

    def tokens(*messages: Message, **options: Any) -> int:
        return len(fit.template.render(messages, **options))

    dropped = [each.message for each in said if each.id in fitted.report.dropped]
    assert fitted.report.dropped_tokens == (tokens(*dropped, add_generation_prompt=False) if dropped else 0)
    whole = tokens(Message("system", RULES), *(each.message for each in said), asked.message)
    assert fitted.report.prompt_tokens + fitted.report.dropped_tokens + fitted.report.cut == whole
    alone = tokens(Message("user", "x"))
    assert dict(fitted.report.parts)["system"] == tokens(Message("system", RULES), Message("user", "x")) - alone
    assert dict(fitted.report.parts)["template"] == alone - tokens(Message("user", "x"), add_generation_prompt=False)


def test_prompts_grow_at_their_end(fit: Fitter) -> None:
    """The engine would read the persona and the talk again with every turn."""
    prompts = [next_prompt(fit, n, window=1000) for n in range(60)]
    head = len(fit.template.render([Message("user", RULES)], add_generation_prompt=False)) - 2  # its end: <|im_end|>\n
    shared = [common(before, after) for before, after in pairwise(prompts)]
    end = len(fit.template.render([Message("user", "x")])) - len(
        fit.template.render([Message("user", "x")], add_generation_prompt=False)
    )
    drops = [both for both, (before, _) in zip(shared, pairwise(prompts), strict=True) if both < len(before) - end]
    assert all(both >= head for both in drops)
    assert 0 < len(drops) <= 8


@pytest.fixture(scope="module")
def backend(tokenizer: Tokenizer) -> Backend:
    engine: Any = SimpleNamespace(window=4096)
    return Backend(replace(card_for_file(SHIPPED), persona="demo_shop"), tokenizer, NO_SYSTEM, engine)


WORDS = ["When are you open?", "a", "1", "aa", "1a", "\n\n\n1", "  a", ".", "", "\n"]


@pytest.mark.parametrize("text", WORDS)
async def test_a_persona_is_shared_and_no_word_of_a_user(backend: Backend, tokenizer: Tokenizer, text: str) -> None:
    """Every visitor's first answer would wait for the persona to be read again; or another visitor find out by the
    time it takes what this one has said."""
    prompting = Prompting(load_personas(prompts_folder()), 64)
    persona = load_personas(prompts_folder())["demo_shop"].text
    prompt = await prompting.prompt(backend, GenerationRequest(None, messages=(Message("user", text),)))
    names = {id: name.encode() for name, id in tokenizer.special.items()}
    public = b"".join(names.get(id) or tokenizer.token_bytes(id) for id in prompt.tokens[: prompt.public]).decode()
    head = f"<|im_start|>user\n{persona.strip()}"
    assert f"{head}\n\n".startswith(public)
    assert len(public) > len(head) - 20  # the last token may be another one


async def test_a_longer_talk_shares_no_more(backend: Backend) -> None:
    """What was said first would become the server's own word, once there is an answer to it."""
    prompting = Prompting(load_personas(prompts_folder()), 64)
    said = (Message("user", "a"), Message("assistant", "b"), Message("user", "1"))
    begun = await prompting.prompt(backend, GenerationRequest(None, messages=said[:1]))
    prompt = await prompting.prompt(backend, GenerationRequest(None, messages=said))
    assert prompt.public == begun.public > 100
    assert prompt.public < len(begun.tokens)
