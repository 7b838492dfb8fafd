"""Fitting into the window: exact counts, on the shipped model's tokenizer, llama.cpp's own, and awkward templates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat.talks import CHATML, item, turns

from frontdesk.chat.context import Policy
from frontdesk.chat.fitting import ContextManager, Fitted
from frontdesk.chat.template import ChatTemplate
from frontdesk.chat.turns import messages_of
from frontdesk.errors import ContextLengthExceeded, InvalidRequest, RequestRefused
from frontdesk.fleet.tokenizer import Tokenizer
from frontdesk.llamacpp.vocab import Vocab
from frontdesk.messages import Item, Message, ToolCall

TURNS = (
    "{% for m in messages if m.role != 'system' %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% endfor %}"
)
NO_SYSTEM = (  # as Gemma 2's
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role if m.role == 'user' else 'model' }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "no system": NO_SYSTEM,
    "alternates, one system": TURNS
    + "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('system comes first') }}"
    "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}",
    "no control tokens": "{% for m in messages %}{{ m.role }}: {{ m.content.strip() }} {% endfor %}",
    "own system": "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help, as you always did.<|im_end|>\n"
    "{% endif %}" + CHATML,
    "system goes last": "{% for m in messages if m.role != 'system' %}"
    "[{{ (messages[0].content ~ ' ') if loop.last and messages[0].role == 'system' }}{{ m.content }}]{% endfor %}",
    "the last is special": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last %}Mind this well: "
    "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}",
}
WORDS = st.text(alphabet="abc dé😀\n 12", max_size=40)
TALK = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "call", "result"]), WORDS), max_size=30)


def anything(talk: list[tuple[str, str]]) -> list[Item]:
    """Items of any kinds in any order, with results without a call and calls without a result."""
    items: list[Item] = []
    for i, (kind, text) in enumerate(talk):
        if kind == "call":
            message = Message("assistant", "", tool_calls=(ToolCall(text[:1], "look", '{"for": "it"}'),))
            items.append(Item(f"i{i}", "function_call", message))
        elif kind == "result":
            items.append(Item(f"i{i}", "function_call_output", Message("tool", text, tool_call_id=text[:1])))
        else:
            items.append(item(f"i{i}", kind, text))  # pyright: ignore[reportArgumentType]
    return items


class Fitter:
    """`fit` with defaults. Checks what must hold for every prompt."""

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        self.template = ChatTemplate(source, tokenizer, seconds=60.0)  # on a busy machine one may wait long
        self.manager = ContextManager(self.template)

    def __call__(self, items: list[Item], text: str = "And now?", **wanted: Any) -> Fitted:
        settings = {"system": [Message("system", "Be brief.")], "window": 400, "max_tokens": None, "reserve": 64}
        asked: list[Item] = wanted.pop("input", [item("new", "user", text)])
        settings |= {"policy": Policy()} | wanted
        fitted = self.manager.fit(items=items, input=asked, **settings)  # pyright: ignore[reportArgumentType]
        report = fitted.report
        assert list(fitted.tokens) == self.template.render(fitted.messages)
        assert report.prompt_tokens == len(fitted.tokens) == sum(tokens for _, tokens in report.parts)
        assert all(tokens >= 0 for _, tokens in report.parts)
        assert fitted.room == report.window - report.prompt_tokens
        assert fitted.room >= max(1, report.reserve)
        groups = (report.kept, report.dropped, report.summarised)
        everything = [each.id for each in (*items, *asked) if each.kind != "summary"]
        assert sorted(id for group in groups for id in group) == sorted(everything)
        assert all(sorted(group, key=everything.index) == list(group) for group in groups)
        assert min(report.dropped_tokens, report.summarised_tokens) >= 0
        assert report.dropped or report.dropped_tokens == 0
        assert report.summarised or report.summarised_tokens == 0
        return fitted


@pytest.fixture(scope="module")
def fitters(tokenizer: Tokenizer) -> dict[str, Fitter]:
    return {name: Fitter(source, tokenizer) for name, source in TEMPLATES.items()}


@pytest.fixture(scope="module")
def fit(fitters: dict[str, Fitter]) -> Fitter:
    return fitters["chatml"]


@pytest.fixture(scope="module")
def with_bos(rich: Tokenizer) -> Fitter:
    return Fitter(CHATML, rich)


def texts(fitted: Fitted) -> list[str]:
    return [message.content for message in fitted.messages]


def next_prompt(fit: Fitter, count: int, **wanted: Any) -> tuple[int, ...]:
    """The prompt of the turn after `count` turns of one long conversation."""
    return fit(turns(count), turns(count + 1)[-2].message.content, **wanted).tokens


def common(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))


def test_what_fits_is_sent_as_it_is(fit: Fitter) -> None:
    """A short conversation would be changed."""
    fitted = fit(turns(3))
    assert fitted.report.kept == ("u0", "a0", "u1", "a1", "u2", "a2", "new")
    assert [message.role for message in fitted.messages] == ["system", *["user", "assistant"] * 3, "user"]


@settings(max_examples=60, deadline=None)
@given(talk=st.lists(WORDS, min_size=1, max_size=60), window=st.integers(300, 600))
def test_counts_are_llama_cpps_own(
    with_bos: Fitter, rich: Tokenizer, rich_vocab: Vocab, talk: list[str], window: int
) -> None:
    """The engine would refuse a prompt that was said to fit, or room would be wasted. With BOS."""
    said = [item(f"i{i}", ("user", "assistant")[i % 2], text) for i, text in enumerate(talk[:-1])]
    fitted = with_bos(said, talk[-1], window=window)
    prompt = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in fitted.messages)
    ids = rich_vocab.tokenize(f"{prompt}<|im_start|>assistant\n", parse_special=True)
    assert list(fitted.tokens) == [rich.bos, *ids]


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(
    talk=TALK,
    window=st.integers(64, 250),
    max_tokens=st.none() | st.integers(1, 300),
    pins=st.sets(st.integers(0, 29), max_size=4),
)
def test_any_conversation_in_any_template(
    fitters: dict[str, Fitter],
    name: str,
    talk: list[tuple[str, str]],
    window: int,
    max_tokens: int | None,
    pins: set[int],
) -> None:
    """A prompt would be larger than it says, or a template that shares, strips or refuses would break the count.
    `Fitter` holds the totals and that nothing is lost; refusals are the template's or name the numbers."""
    try:
        fitted = fitters[name](
            anything(talk), window=window, max_tokens=max_tokens, pinned={f"i{i}" for i in pins}
        )
    except RequestRefused as error:
        refused = error
    else:
        assert {"new", *(f"i{i}" for i in pins if i < len(talk))} <= set(fitted.report.kept)
        return
    if isinstance(refused, ContextLengthExceeded):
        assert refused.details["n_ctx"] == window
    else:
        assert "refuses this conversation" in refused.message
        assert name in ("alternates, one system", "no system")


def test_many_calls_in_a_row_are_measured_one_by_one(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of two hundred kilobytes would take a core for a minute, whoever sent it."""
    fit, seen = Fitter(CHATML, tokenizer), []
    render = ChatTemplate.render

    def counted(template: ChatTemplate, messages: Sequence[Message], **options: Any) -> list[int]:
        seen.append(sum(len(message.tool_calls) for message in messages))
        return render(template, messages, **options)

    monkeypatch.setattr(ChatTemplate, "render", counted)
    calls = [Message("assistant", "", tool_calls=(ToolCall(str(i), "look", f'{{"for": {i}}}'),)) for i in range(200)]
    items = [item("first", "user", "Look."), *(Item(f"i{i}", "function_call", call) for i, call in enumerate(calls))]
    fit(items, window=100_000)
    assert sum(seen) < 10 * len(calls)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_long_conversation_never_fails(fitters: dict[str, Fitter], name: str) -> None:
    """Some template's overhead would be forgotten, and the hundredth turn would be an error."""
    fit = fitters[name]
    for count in range(0, 60, 3):
        fitted = fit(turns(count), window=300)
        first_user = next(message for message in fitted.messages if message.role != "system")
        assert first_user.role == "user"


@settings(max_examples=60, deadline=None)
@given(
    talk=st.lists(st.tuples(WORDS, st.booleans(), WORDS), min_size=1, max_size=20),
    covered=st.integers(0, 40),
    pins=st.sets(st.integers(0, 19), max_size=3),
    window=st.integers(150, 400),
    words=st.integers(0, 300),
)
def test_what_was_left_out_is_counted_exactly(
    fit: Fitter, talk: list[tuple[str, bool, str]], covered: int, pins: set[int], window: int, words: int
) -> None:
    """A meter would not add up: what was sent, dropped, summed up and cut must be all that was ever said, and each
    group what the template makes of it."""
    said: list[Item] = []
    for i, (question, looks_up, answer) in enumerate(talk):
        said.append(item(f"u{i}", "user", question))
        if looks_up:
            call = ToolCall(f"c{i}", "look_up", '{"order": 7}')
            said.append(Item(f"fc{i}", "function_call", Message("assistant", "", tool_calls=(call,))))
            said.append(Item(f"fco{i}", "function_call_output", Message("tool", answer, tool_call_id=f"c{i}")))
        said.append(item(f"a{i}", "assistant", answer))
    summary = Item("cmp", "summary", Message("system", "They asked."), covers=tuple(i.id for i in said[:covered]))
    asked = item("new", "user", "And now? " + "word " * words)
    policy = Policy(long_message="cut")
    try:
        fitted = fit(
            said, input=[asked], window=window, policy=policy, summary=summary if covered else None,
            pinned={f"u{i}" for i, (_, looks_up, _) in enumerate(talk) if i in pins and not looks_up},
        )  # fmt: skip
    except ContextLengthExceeded:  # pins that leave no room
        return
    report = fitted.report

    def tokens(items: list[Item]) -> int:
        return len(fit.template.render(messages_of(items), add_generation_prompt=False))

    assert report.dropped_tokens == tokens([each for each in said if each.id in report.dropped])
    assert report.summarised_tokens == tokens([each for each in said if each.id in report.summarised])
    sent = report.prompt_tokens - dict(report.parts)["summary"]
    whole = fit.template.render([Message("system", "Be brief."), *messages_of([*said, asked])])
    assert sent + report.dropped_tokens + report.summarised_tokens + report.cut == len(whole)


def test_prompts_grow_at_their_end(fit: Fitter) -> None:
    """The engine would read everything again: the prompt's beginning changes at drops only, and drops are rare."""
    system = len(fit.template.render([Message("system", "Be brief.")], add_generation_prompt=False))
    prompts = [next_prompt(fit, n, window=1000) for n in range(60)]
    dropped = [both for before, after in pairwise(prompts) if (both := common(before, after)) < len(before)]
    assert all(both >= system for both in dropped)
    new = len(fit.template.render([turn.message for turn in turns(60)], add_generation_prompt=False))
    assert 0 < len(dropped) <= new / (0.5 * (1000 - 64 - system - 3))


def test_tool_calls_stay_with_their_results(fit: Fitter) -> None:
    """A result without its call is refused by many templates and misleads every model."""
    talk: list[Item] = []
    for i in range(20):
        asked = ToolCall(f"c{i}", "look_up", f'{{"order": {i}}}')
        talk += [
            item(f"u{i}", "user", f"Where is my order {i}? " * 3),
            Item(f"fc{i}", "function_call", Message("assistant", "", tool_calls=(asked,))),
            Item(f"fco{i}", "function_call_output", Message("tool", f"order {i} is late", tool_call_id=f"c{i}")),
            item(f"a{i}", "assistant", "It is late."),
        ]
    fitted = fit(talk)
    answered = {message.tool_call_id for message in fitted.messages if message.role == "tool"}
    assert answered == {call.id for message in fitted.messages for call in message.tool_calls}
    assert 0 < len(answered) < 20


def test_pins_stand_in_front_once_their_turn_has_left(fit: Fitter) -> None:
    """A pinned item would be sent twice, not at all, or would move the prefix as long as nothing leaves."""
    early, late = fit(turns(4), pinned={"u1"}), fit(turns(30), pinned={"u1"})
    assert early.tokens == fit(turns(4)).tokens
    assert dict(early.report.parts)["pinned"] == dict(late.report.parts)["pinned"] > 0
    assert texts(late)[1].startswith("user says 1:")
    assert sum(text.startswith("user says 1:") for text in texts(late)) == 1
    assert "u1" in late.report.kept
    assert "a1" in late.report.dropped
    prompts = [next_prompt(fit, n, pinned={"u1"}) for n in range(30, 50)]
    assert sum(common(before, after) < len(before) for before, after in pairwise(prompts)) <= 8


def test_the_summary_takes_the_place_of_what_it_covers(fit: Fitter) -> None:
    """What was summed up would be sent as well, or be gone though somebody pinned it."""
    covers = tuple(id for i in range(10) for id in (f"u{i}", f"a{i}"))
    summary = Item("cmp", "summary", Message("system", "Ann asked nine things."), covers=covers)
    fitted = fit(turns(14), summary=summary, pinned={"u3"}, window=1000)
    assert [text[:12] for text in texts(fitted)][:4] == ["Be brief.", "user says 3:", "Summary of t", "user says 10"]
    assert texts(fitted)[2] == "Summary of the conversation so far: Ann asked nine things."
    assert fitted.report.summarised == tuple(id for id in covers if id != "u3")
    assert fitted.report.dropped == ()
    assert dict(fitted.report.parts)["summary"] > 0
    assert fit([summary, *turns(14)], pinned={"u3"}, window=1000).tokens == fitted.tokens


def test_a_turn_that_is_covered_in_part_is_sent_whole(fit: Fitter) -> None:
    """The model would see an answer without its question."""
    summary = Item("cmp", "summary", Message("system", "s"), covers=("u0", "a0", "u1"))
    fitted = fit(turns(3), summary=summary)
    assert fitted.report.summarised == ("u0", "a0")
    assert fitted.report.kept == ("u1", "a1", "u2", "a2", "new")


def test_everything_is_covered(fit: Fitter) -> None:
    """A conversation that was compacted and is asked nothing yet would be an error."""
    summary = Item("cmp", "summary", Message("system", "s"), covers=("u0", "a0", "u1", "a1"))
    assert fit(turns(2), summary=summary, input=[]).report.kept == ("u1", "a1")
    assert texts(fit([summary], input=[])) == ["Be brief.", "Summary of the conversation so far: s"]


def test_a_summary_beside_that_of_the_conversation(fit: Fitter) -> None:
    """The model would not see what the client gives it to go on from, once the conversation has a summary."""
    summary = Item("cmp", "summary", Message("system", "Ann likes tea."), covers=("u0", "a0"))
    given = Item("cmp2", "summary", Message("system", "Ann likes tea.\nAnn moved to Rome."))
    fitted = fit(turns(2), summary=summary, input=[given, item("new", "user", "And now?")])
    assert fitted.report.summarised == ("u0", "a0")
    assert texts(fitted)[1] == "Summary of the conversation so far: Ann likes tea.\nAnn moved to Rome."
    assert dict(fitted.report.parts)["summary"] > 0


def test_one_system_message_where_the_template_knows_no_more(fitters: dict[str, Fitter]) -> None:
    """A pin or a summary would make every later request of the conversation an error."""
    fit = fitters["alternates, one system"]
    summary = Item("cmp", "summary", Message("system", "s"), covers=("u0", "a0"))
    fitted = fit(turns(3), summary=summary, pinned={"u0"})
    text = f"Be brief.\n\nCustomer: {turns(1)[0].message.content}\n\nSummary of the conversation so far: s"
    assert fitted.messages[0] == Message("system", text)
    assert [message.role for message in fitted.messages[1:]] == ["user", "assistant"] * 2 + ["user"]


def test_a_greeting_leaves_where_the_template_refuses_it(fitters: dict[str, Fitter]) -> None:
    """A widget's greeting would make the conversation unusable with such models."""
    talk = [item("hello", "assistant", "Hello! How can I help?"), *turns(2)]
    strict = fitters["alternates, one system"]
    assert fitters["chatml"](talk).report.kept[0] == "hello"
    assert strict(talk).report.dropped == ("hello",)
    with pytest.raises(InvalidRequest, match="refuses"):
        strict(talk, policy=Policy(truncation="disabled"))


def test_instructions_in_the_conversation_never_leave(fit: Fitter) -> None:
    """A system message that a client put into the conversation would be lost on the way."""
    fitted = fit([item("rules", "developer", "Speak French."), *turns(40)])
    assert fitted.report.kept[0] == "rules"
    assert texts(fitted)[:2] == ["Be brief.", "Speak French."]
    assert "u0" in fitted.report.dropped


def test_reasoning_is_not_fed_back(fit: Fitter) -> None:
    """Reasoning of past turns would fill the window, and be counted."""
    plain = [item("u", "user", "why?"), item("a", "assistant", "Because.")]
    thought = [plain[0], item("a", "assistant", "<think>hm, why indeed</think>\n\nBecause.")]
    assert fit(thought).tokens == fit(plain).tokens
    assert fit(thought).report == fit(plain).report


def test_disabled_names_the_numbers(fit: Fitter) -> None:
    """The caller could not tell by how much to shorten."""
    policy = Policy(truncation="disabled")
    fitted = fit(turns(3), policy=policy, max_tokens=400)
    assert fitted.report.reserve == 0
    whole = len(fit(turns(40), window=4000, policy=policy).tokens)
    with pytest.raises(ContextLengthExceeded, match=rf"\({whole} tokens\).*\(400 tokens\)"):
        fit(turns(40), policy=policy)
    assert fit(turns(40), window=whole + 1, policy=policy).room == 1
    with pytest.raises(ContextLengthExceeded):
        fit(turns(40), window=whole, policy=policy)


def test_the_reserve(fit: Fitter) -> None:
    """Answers would be cut short, or `max_output_tokens` as large as the window would empty every conversation."""
    assert fit(turns(3)).report.reserve == 64
    assert fit(turns(3), reserve=5000).report.reserve == 100
    assert fit(turns(3), max_tokens=150).report.reserve == 150
    assert fit(turns(3), max_tokens=4000).report.reserve == 200
    assert fit(turns(30), max_tokens=4000).report.dropped
    long = fit([], "word " * 250, max_tokens=4000)
    assert (long.report.reserve, long.report.cut) == (64, 0)


def test_a_message_that_is_too_long(fit: Fitter) -> None:
    """It would be cut without a word, or refused without numbers."""
    with pytest.raises(ContextLengthExceeded, match=r"and 64 kept for the answer.*\(400 tokens\)") as refused:
        fit(turns(3), "word " * 600)
    least = refused.value.details["n_prompt_tokens"]
    assert least == len(fit.template.render([Message("system", "Be brief."), Message("user", "word " * 600)]))


@settings(max_examples=40, deadline=None)
@given(text=st.text(alphabet="ab é😀<|\n", min_size=400, max_size=2000), window=st.integers(120, 300))
def test_the_middle_is_cut_exactly(fit: Fitter, text: str, window: int) -> None:
    """More would be cut than is needed, or a character would be cut in two."""
    policy = Policy(long_message="cut")
    fitted = fit(turns(3), text, window=window, policy=policy)
    if not fitted.report.cut:
        return
    head, mark, tail = texts(fitted)[-1].partition(" […] ")
    assert (text.startswith(head), bool(mark), text.endswith(tail)) == (True, True, True)
    assert 0 <= len(head) - len(tail) <= 1
    limit = window - fitted.report.reserve
    whole = fit.template.render([Message("system", "Be brief."), Message("user", text)])
    assert fitted.report.cut == len(whole) - len(fitted.tokens)
    kept = len(head) + len(tail) + 1
    longer = text[: kept - kept // 2] + mark + text[len(text) - kept // 2 :]
    more = len(fit.template.render([Message("system", "Be brief."), Message("user", longer)]))
    assert len(fitted.tokens) == limit or more > limit


def test_nothing_left_to_cut(fit: Fitter) -> None:
    """Instructions that fill the window would be answered with an empty question."""
    with pytest.raises(ContextLengthExceeded):
        fit([], "word " * 900, system=[Message("system", "rule " * 500)], policy=Policy(long_message="cut"))
    with pytest.raises(InvalidRequest, match="nothing to answer"):
        fit([], input=[], system=[])


def test_stateless_input_is_truncated_too(fit: Fitter) -> None:
    """A client that sends its whole conversation as input would get an error at its end despite `auto`."""
    asked = [*turns(40), item("last", "user", "And now?")]
    fitted = fit([], input=asked)
    assert fitted.report.kept[-1] == "last"
    assert fitted.report.dropped[0] == "u0"
    assert dict(fitted.report.parts)["history"] == 0 < dict(fitted.report.parts)["input"]
