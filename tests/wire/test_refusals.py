"""What each format refuses, and that it says so with the user's own field name."""

from __future__ import annotations

from typing import Any

import pytest

from frontdesk.errors import InvalidRequest
from frontdesk.wire import HTTP_FORMATS
from frontdesk.wire._format import HttpFormat

FORMATS = {format.name: format for format in HTTP_FORMATS}
MINIMAL: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "x"}]},
    "openai_completions": {"prompt": "x"},
    "openai_responses": {"input": "x"},
}
each_format = pytest.mark.parametrize("format", HTTP_FORMATS, ids=lambda f: f.name)


def refusal(name: str, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        FORMATS[name].parse({**MINIMAL[name], **fields})
    assert caught.value.param is not None
    assert caught.value.param.split(".")[0] in caught.value.message
    return caught.value


NUMBERS: dict[str, tuple[Any, ...]] = {
    "temperature": (-0.1, 2.1),
    "top_p": (-0.1, 1.1),
    "min_p": (-1, 2),
    "typical_p": (-1, 2),
    "top_k": (-1, 1_000_001, 1.0),
    "presence_penalty": (-3, 3),
    "frequency_penalty": (-3, 3),
    "repeat_penalty": (0, -1, 101),
    "repeat_last_n": (-1, 4097),
    "seed": (2**63, -(2**63) - 1, 0.5),
    "logit_bias": ({"1": 101}, {"-1": 1}, {"x": 1}, {"01": 1}, {"1": True}, {str(i): 1 for i in range(1025)}),
    "n": (0, 17, -1),
    "max_tokens": (0, -1, 2**31),
    "max_completion_tokens": (0, 2**31),
    "max_output_tokens": (0, -1, 2**31),
    "top_logprobs": (-1, 21),
    "best_of": (0, 2),
    "max_tool_calls": (-1, 2**31),
}
NEVER_NUMBERS = (True, False, "1", "NaN", float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), 1e308, [], {})


@each_format
def test_every_number_has_both_bounds(format: HttpFormat) -> None:
    """If this fails, some JSON number reaches the sampler or the scheduler that neither can carry."""
    for field, wrong in NUMBERS.items():
        if field in format.request.model_fields:
            for value in (*wrong, *NEVER_NUMBERS):
                if not (field == "logit_bias" and value == {}):
                    assert refusal(format.name, **{field: value}).param.split(".")[0] == field  # type: ignore[union-attr]


@each_format
@pytest.mark.parametrize("stop", [["x"] * 9, [""] * 9, "x" * 257, [1], 1, {"a": "b"}, True])
def test_stop_limits(format: HttpFormat, stop: Any) -> None:
    """If this fails, an endless stop string or an endless list of them slows every token."""
    assert refusal(format.name, stop=stop).param in ("stop", "stop.0")


@each_format
@pytest.mark.parametrize("where", ["value", "key", "deep"])
def test_lone_surrogates(format: HttpFormat, where: str) -> None:
    """If this fails, text that is not Unicode breaks the tokenizer or the echo with a server error."""
    bad = "a\ud800"
    body: dict[str, Any] = {"value": {"model": bad}, "key": {"x": {bad: 1}}, "deep": {"x": [{"y": [0, bad]}]}}[where]
    param = {"value": "model", "key": "x", "deep": "x.0.y.1"}[where]
    with pytest.raises(InvalidRequest) as caught:
        format.parse({**MINIMAL[format.name], **body})
    assert caught.value.param == param


@each_format
def test_deep_nesting(format: HttpFormat) -> None:
    """If this fails, a small body exhausts the stack."""
    deep: Any = {}
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        format.parse({**MINIMAL[format.name], "x": deep})


@each_format
def test_large_wrong_bodies_are_refused_at_once(format: HttpFormat) -> None:
    """If this fails, one body collects a million validation errors and stalls every other stream."""
    (field,) = MINIMAL[format.name]
    for body in ({field: [7.5] * 300_000}, {"logit_bias": {f"k{i}": 0 for i in range(200_000)}}):
        with pytest.raises(InvalidRequest):
            format.parse({**MINIMAL[format.name], **body})


CHAT: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": "x"}] * 2001}, "messages", "invalid_value"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "invalid_type"),
    ({"messages": [{"role": "user", "content": []}]}, "messages.0.content", "invalid_value"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type", "missing_required_parameter"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages.0.content.0.text",
        "missing_required_parameter",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content.0.type",
        "unsupported_parameter",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id", "missing_required_parameter"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}]},
        "messages.0.tool_calls.0.function.arguments",
        "missing_required_parameter",
    ),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value"),
    ({"top_logprobs": 5}, "top_logprobs", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
    ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    ({"functions": [{}]}, "functions", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format.type", "unsupported_parameter"),
    ({"modalities": ["text", "audio"]}, "modalities.1", "unsupported_parameter"),
    ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
    ({"web_search_options": {"a": 1}}, "web_search_options", "unsupported_parameter"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
    ({"moderation": {"model": "m"}}, "moderation", "unsupported_parameter"),
    ({"max_output_tokens": 2}, "max_output_tokens", "unsupported_parameter"),
    ({"text": {"format": {"type": "json_object"}}}, "text", "unsupported_parameter"),
    ({"instructions": "Be brief."}, "instructions", "unsupported_parameter"),
    ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"model": "m" * 257}, "model", "invalid_value"),
    ({"messages": [{"role": "user", "content": "x", "name": "n" * 257}]}, "messages.0.name", "invalid_value"),
    (
        {"messages": [{"role": "user", "content": None, "refusal": "no"}]},
        "messages.0.content",
        "missing_required_parameter",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}]},
        "messages.0.content.0.type",
        "unsupported_parameter",
    ),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "text": "no"}]}]},
        "messages.0.content.0.refusal",
        "missing_required_parameter",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code"), CHAT)
def test_chat_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    """If this fails, a request is misread without a word, or its sender looks for the fault in the wrong field."""
    error = refusal("openai_chat", **fields)
    assert (error.param, error.code) == (param, code)


COMPLETIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ["a", "b"]}, "prompt", "invalid_value"),
    ({"prompt": [[1, 2], [3]]}, "prompt", "invalid_value"),
    ({"prompt": []}, "prompt", "invalid_value"),
    ({"prompt": ""}, "prompt", "invalid_value"),
    ({"prompt": [1, "a"]}, "prompt.1", "invalid_type"),
    ({"prompt": [1, True]}, "prompt.1", "invalid_type"),
    ({"prompt": [-1]}, "prompt.0", "invalid_value"),
    ({"prompt": [2**31]}, "prompt.0", "invalid_value"),
    ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
    ({"suffix": "x"}, "suffix", "unsupported_parameter"),
    ({"max_output_tokens": 2}, "max_output_tokens", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"best_of": 2}, "best_of", "invalid_value"),
    ({"echo": True, "logprobs": 0}, "echo", "unsupported_parameter"),
    ({"echo": True, "prompt": [1]}, "echo", "unsupported_parameter"),
    ({"logprobs": 6}, "logprobs", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "param", "code"), COMPLETIONS)
def test_completion_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    """If this fails, a legacy client gets an answer to another question than it asked."""
    error = refusal("openai_completions", **fields)
    assert (error.param, error.code) == (param, code)


def test_several_prompts() -> None:
    """If this fails, who sends a batch of prompts is told of a list's length, and not what to do instead."""
    for prompts in (["a", "b"], [[1], [2]]):
        message = refusal("openai_completions", prompt=prompts).message
        assert message == "'prompt': one request takes one prompt, not 2: send them one after another"


def test_what_changes_nothing_is_not_refused() -> None:
    """If this fails, clients that send every field with its default value get no answer."""
    plain = {"type": "text"}
    for name, fields in (
        ("openai_chat", {"text": {"format": plain}, "max_output_tokens": None}),
        ("openai_chat", {"text": {"verbosity": "low"}, "instructions": ""}),
        ("openai_completions", {"response_format": plain}),
        ("openai_responses", {"response_format": plain, "grammar": ""}),
    ):
        FORMATS[name].parse({**MINIMAL[name], **fields})


ID = "0a" * 16
RESPONSES: list[tuple[dict[str, Any], str, str]] = [
    ({"input": None}, "input", "missing_required_parameter"),
    ({"input": []}, "input", "missing_required_parameter"),
    ({"max_tokens": 2}, "max_tokens", "unsupported_parameter"),
    ({"max_completion_tokens": 2}, "max_completion_tokens", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"json_schema": {}}, "json_schema", "unsupported_parameter"),
    ({"background": True, "generate": False}, "background", "invalid_value"),
    ({"background": True, "prompt_cache_options": {"prewarm": True}}, "background", "invalid_value"),
    ({"input": 5}, "input", "invalid_type"),
    ({"input": [5]}, "input.0", "unsupported_parameter"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.id", "invalid_value"),
    ({"input": [{"type": "item_reference", "id": f"resp_{ID}"}]}, "input.0.id", "invalid_value"),
    ({"input": [{"type": "item_reference"}]}, "input.0.id", "missing_required_parameter"),
    ({"input": [{"type": "item_reference", "id": f"msg_{ID}"}] * 2}, "input.1.id", "invalid_value"),
    (
        {"input": [{"type": "item_reference", "id": f"msg_{i:032x}"} for i in range(1001)]},
        "input.1000",
        "invalid_value",
    ),
    ({"input": [{"role": "user"}]}, "input.0.content", "missing_required_parameter"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role", "invalid_value"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "input.0.content.0.type",
        "unsupported_parameter",
    ),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]},
        "input.0.output",
        "invalid_type",
    ),
    ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found"),
    ({"previous_response_id": ID.upper()}, "previous_response_id", "previous_response_not_found"),
    ({"previous_response_id": 5}, "previous_response_id", "invalid_type"),
    ({"conversation": "conv_x"}, "conversation", "invalid_value"),
    ({"conversation": ID}, "conversation", "invalid_value"),
    ({"conversation": {"id": f"conv_{ID} "}}, "conversation", "invalid_value"),
    ({"conversation": {}}, "conversation.id", "missing_required_parameter"),
    ({"conversation": ["x"]}, "conversation", "invalid_type"),
    ({"conversation": f"conv_{ID}", "previous_response_id": f"resp_{ID}"}, "conversation", "invalid_value"),
    ({"background": True, "store": False}, "background", "invalid_value"),
    ({"background": 1}, "background", "invalid_type"),
    ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    ({"prompt": "p"}, "prompt", "invalid_type"),
    ({"prompt": {"version": "1"}}, "prompt.id", "missing_required_parameter"),
    ({"prompt": {"id": "p", "variables": {"a": 1}}}, "prompt.variables.a", "invalid_type"),
    (
        {"prompt": {"id": "p", "variables": {"a": {"type": "input_image"}}}},
        "prompt.variables.a.type",
        "unsupported_parameter",
    ),
    ({"prompt": {"id": "p", "variables": dict.fromkeys(map(str, range(65)), "")}}, "prompt.variables", "invalid_value"),
    ({"context_management": [{"type": "compaction"}]}, "context_management", "unsupported_parameter"),
    ({"input": [{"type": "compaction"}]}, "input.0.encrypted_content", "missing_required_parameter"),
    ({"input": [{"role": "user", "content": "x", "status": "done"}]}, "input.0.status", "invalid_value"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.type", "unsupported_parameter"),
    ({"truncation": "always"}, "truncation", "invalid_value"),
    ({"metadata": {str(i): "x" for i in range(17)}}, "metadata", "invalid_value"),
    ({"metadata": {"k" * 65: "x"}}, "metadata", "invalid_value"),
    ({"metadata": {"k": 1}}, "metadata.k", "invalid_type"),
]


@pytest.mark.parametrize(("fields", "param", "code"), RESPONSES)
def test_responses_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    """If this fails, a client believes that the server keeps what it does not keep, or searches the wrong field."""
    error = refusal("openai_responses", **fields)
    assert error.code == code
    assert error.param == param or (param == "metadata" and error.param == "metadata." + "k" * 65)
