"""What each format understands: the same conversation in its own words becomes the same messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from frontdesk.generation import Delta, Finished, Sampling, Started, TokenLogprob, Usage
from frontdesk.messages import Message, ToolCall
from frontdesk.wire._format import Identity
from frontdesk.wire.openai_chat import OpenAIChat
from frontdesk.wire.openai_completions import OpenAICompletions
from frontdesk.wire.openai_responses import OpenAIResponses

REQUIRED = {  # by the Open Responses schema
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "user", "usage",
    "max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier",
    "prompt_cache_key",
}  # fmt: skip
IDENTITY = Identity("0" * 32, "m", 1, Sampling(temperature=0.8))
CONVERSATION = (
    Message("system", "Be kind."),
    Message("user", "Where is my parcel?"),
    Message("assistant", "Let me look.", tool_calls=(ToolCall("c1", "track", '{"id":7}'), ToolCall("c2", "eta", "{}"))),
    Message("tool", "in Bremen", tool_call_id="c1"),
    Message("tool", "tomorrow", tool_call_id="c2"),
    Message("user", "Thanks"),
)


def test_chat_conversation() -> None:
    """If this fails, the model is shown another conversation than the client sent."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in CONVERSATION[2].tool_calls
    ]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Where is "}, {"type": "text", "text": "my parcel?"}]},
        {"role": "assistant", "content": "Let me look.", "tool_calls": calls},
        {"role": "tool", "content": "in Bremen", "tool_call_id": "c1"},
        {"role": "tool", "content": "tomorrow", "tool_call_id": "c2"},
        {"role": "user", "content": "Thanks"},
    ]
    assert OpenAIChat().parse({"messages": messages}).generation.messages == CONVERSATION


def test_chat_assistant_content_may_be_null_beside_tool_calls() -> None:
    """If this fails, the second round of every tool loop is refused."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert OpenAIChat().parse(body).generation.messages == (
        Message("assistant", "", None, (ToolCall("1", "f", "{}"),)),
    )


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": None, "tool_calls": []}, ""),
        ({"content": None, "refusal": "I would rather not."}, "I would rather not."),
        ({"content": "", "refusal": "I would rather not."}, "I would rather not."),
        ({"content": "Yes.", "refusal": None}, "Yes."),
        ({"content": [{"type": "refusal", "refusal": "I would rather not."}]}, "I would rather not."),
        ({"content": [{"type": "text", "text": "Well, "}, {"type": "refusal", "refusal": "no."}]}, "Well, no."),
    ],
)
def test_chat_history_of_another_provider(said: dict[str, Any], text: str) -> None:
    """If this fails, a conversation in which another provider's model refused or said nothing can never go on here; or
    it loses a turn, and a template that wants user and assistant to alternate refuses it."""
    before, after = {"role": "user", "content": "x"}, {"role": "user", "content": "y"}
    parsed = OpenAIChat().parse({"messages": [before, {"role": "assistant", **said}, after]}).generation.messages
    assert parsed == (Message("user", "x"), Message("assistant", text), Message("user", "y"))


def test_what_is_empty_says_nothing() -> None:
    """If this fails, an empty stop string ends every reply, or a form that fills in every field gets no answer."""
    empty = {"model": "", "stop": "", "prediction": {"type": "content", "content": "x"}, "top_logprobs": 0}
    generation = OpenAIChat().parse({"messages": [{"role": "user", "content": "x", "name": ""}], **empty}).generation
    assert generation.messages == (Message("user", "x"),)
    assert (generation.model, generation.stop, generation.top_logprobs) == (None, (), None)
    for format, input in ((OpenAICompletions(), "prompt"), (OpenAIResponses(), "input")):
        generation = format.parse({input: "x", "model": "", "stop": ["", "a", ""]}).generation
        assert (generation.model, generation.stop) == (None, ("a",))


def test_chat_call() -> None:
    """If this fails, the number of replies, their length or the logprobs are not what was asked for."""
    body = {
        "messages": [{"role": "user", "content": "x"}], "n": 3, "stream": True, "max_tokens": 5,
        "max_completion_tokens": 5, "logprobs": True, "tools": [{}], "tool_choice": "none", "stop": ["a", "b"],
    }  # fmt: skip
    call = OpenAIChat().parse(body)
    assert (call.n, call.stream, call.generation.max_tokens, call.generation.top_logprobs) == (3, True, 5, 0)
    assert call.generation.stop == ("a", "b")


def test_chat_choices_interleave_and_count_the_prompt_once() -> None:
    """If this fails, texts of several choices mix, or the prompt is billed once per choice."""
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "n": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    call = OpenAIChat().parse(body)
    encoder = OpenAIChat().encoder(call, IDENTITY)
    stream = b"".join(encoder.encode(i, [Started("m", 1)]) for i in (0, 1))
    stream += encoder.encode(1, [Delta("b", 1)]) + encoder.encode(0, [Delta("a", 1)])
    stream += b"".join(encoder.encode(i, [Finished("stop", Usage(10, 10 * i, 2))]) for i in (1, 0)) + encoder.end()
    chunks = [json.loads(block.removeprefix(b"data: ")) for block in stream.split(b"\n\n")[:-2]]
    deltas = [(c["index"], c["delta"].get("content")) for chunk in chunks for c in chunk["choices"]]
    assert deltas == [(0, ""), (1, ""), (1, "b"), (0, "a"), (1, None), (0, None)]
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 4, 14)


def test_completion_prompts() -> None:
    """If this fails, legacy clients with one of the four spellings of a prompt are refused or misread."""
    for prompt, text, tokens in (
        ("x", "x", None),
        (["x"], "x", None),
        ([1, 2], None, (1, 2)),
        ([[1, 2]], None, (1, 2)),
    ):
        generation = OpenAICompletions().parse({"prompt": prompt}).generation
        assert (generation.text, generation.tokens, generation.messages) == (text, tokens, None)
        assert (generation.persona, generation.max_tokens) == (False, 16)


def test_responses_conversation() -> None:
    """If this fails, items of the Responses API lose their order, their tool calls or their text."""
    items: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Where is my parcel?"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "track", "arguments": '{"id":7}'},
        {"type": "function_call", "call_id": "c2", "name": "eta", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "in Bremen"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "tomorrow"}]},
        {"role": "user", "content": "Thanks"},
    ]
    call = OpenAIResponses().parse({"input": items, "instructions": "Be kind."})
    assert call.generation.messages is None
    assert call.turn is not None
    assert call.turn.instructions == "Be kind."
    asked, looked, track, eta, *rest = [item.message for item in call.turn.input]
    assert (asked, looked.content) == (CONVERSATION[1], "Let me look.")
    assert track.tool_calls + eta.tool_calls == CONVERSATION[2].tool_calls
    assert tuple(rest) == CONVERSATION[3:]


def test_response_has_all_required_keys_and_echoes() -> None:
    """If this fails, clients with a strict Open Responses schema reject every response."""
    body = {"input": "x", "metadata": {"a": "b"}, "top_p": 0.5, "max_output_tokens": 9}
    call = OpenAIResponses().parse(body)
    reply = [Started("m", 1), Delta("y", 1), Finished("length", Usage(3, 1, 9))]
    response = OpenAIResponses().collect(call, IDENTITY, [reply])
    assert set(response) == REQUIRED | {"conversation", "prompt", "context"}
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (response["metadata"], response["top_p"], response["temperature"]) == ({"a": "b"}, 0.5, 0.8)
    assert (response["store"], response["background"], response["truncation"]) == (False, False, "disabled")
    assert response["usage"]["input_tokens_details"] == {"cached_tokens": 1, "cache_write_tokens": 0}


def test_responses_warm_up_has_no_output() -> None:
    """If this fails, `generate: false` looks like an empty or cut answer."""
    prewarmed = {"instructions": "Be kind.", "prompt_cache_options": {"prewarm": True}}
    assert not OpenAIResponses().parse(prewarmed).generation.generate
    call = OpenAIResponses().parse({"instructions": "Be kind.", "generate": False})
    assert not call.generation.generate
    response = OpenAIResponses().collect(call, IDENTITY, [[Started("m", 1), Finished("length", Usage(3, 0, 0))]])
    assert (response["status"], response["output"]) == ("completed", [])


@pytest.mark.parametrize("stream", [True, False])
def test_offsets_of_tokens_whose_text_was_held_back(stream: bool) -> None:
    """If this fails, a legacy client marks the wrong words where a stop string that might come holds back text."""
    data = [b" Once", b" in", b" K\xc3", b"\xb6", b"ln"]
    logprobs = [TokenLogprob(i, piece, -1.0) for i, piece in enumerate(data)]
    deltas = (
        Delta(" Onc", 0), Delta("e i", 1, tuple(logprobs[:1])), Delta("n", 1, tuple(logprobs[1:2])),
        Delta(" K\u00f6", 2, tuple(logprobs[2:4])), Delta("l", 1, tuple(logprobs[4:])),
    )  # fmt: skip
    events = [Started("m", 1), *deltas, Finished("stop", Usage(1, 0, 5), "n", 2)]
    call = OpenAICompletions().parse({"prompt": "x", "logprobs": 0, "stream": stream})
    if stream:
        sent = OpenAICompletions().encoder(call, IDENTITY).encode(0, events).decode()
        chunks = [json.loads(line[6:]) for line in sent.splitlines() if line.startswith("data: {")]
        found = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    else:
        found = [OpenAICompletions().collect(call, IDENTITY, [events])["choices"][0]["logprobs"]]
    assert [offset for lists in found for offset in lists["text_offset"]] == [0, 5, 8, 10, 11]
