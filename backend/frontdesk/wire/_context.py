"""`context`, our extension of every answer: what of the conversation the model was shown, as JSON. Knows no format."""

from __future__ import annotations

from typing import Any

from frontdesk.generation import ContextReport


def context_json(report: ContextReport) -> dict[str, Any]:
    """All numbers are tokens; `parts` adds up to `prompt_tokens`."""
    return {
        "window": report.window,
        "reserve": report.reserve,
        "prompt_tokens": report.prompt_tokens,
        "parts": dict(report.parts),
        "kept": list(report.kept),
        "dropped": list(report.dropped),
        "summarised": list(report.summarised),
        "dropped_tokens": report.dropped_tokens,
        "summarised_tokens": report.summarised_tokens,
        "cut": report.cut,
    }


def context_field(report: ContextReport | None) -> dict[str, Any]:
    """The field for answers of formats that leave out what they do not know."""
    return {} if report is None else {"context": context_json(report)}
