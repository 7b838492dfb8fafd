"""JSON values of every kind, unwelcome ones more often than chance would bring them, and the smallest good bodies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from frontdesk.wire._format import Identity

MINIMAL: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "x"}]},
    "openai_completions": {"prompt": "x"},
    "openai_responses": {"input": "x"},
}
WORDS = (
    "type", "role", "content", "text", "user", "assistant", "tool", "message", "input_text", "function_call", "call_id",
    "arguments", "name", "function", "id", "include_usage", "format", "1", "none", "auto", "tool_calls", "output",
)  # fmt: skip
numbers = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, -(2**63) - 1, 2**64, 10**400, 5e-324, -0.0])
strings = st.text(max_size=8) | st.sampled_from(WORDS) | st.just("\ud800") | st.just("<string>")
values = st.recursive(
    st.none() | st.booleans() | numbers | strings,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=5),
    max_leaves=12,
)
IDENTITY = Identity("0" * 32, "m", 1)
