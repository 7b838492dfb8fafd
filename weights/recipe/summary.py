"""Summaries: of the conversation so far when the customer asks, or of a transcript that a summary prompt is given.

A summary holds one sentence for each thing that happened, in order, with the values that were told.
"""

import re

from recipe.talk import Case, Message, Talk

LONGEST = 7  # sentences


def text(talk: Talk) -> str:
    return " ".join(talk.notes[:LONGEST]) or "Nothing has been discussed yet."


def expected(talk: Talk) -> tuple[str, ...]:
    """What a right summary holds: the values in brackets and what the customer told about themselves."""
    values = []
    for note in talk.notes[:LONGEST]:
        values += re.findall(r"\((.+)\)\.$|(?:name is|lives in|address is|bought the|at most|size is) (.+)\.$", note)
    return tuple(first or second for first, second in values)


def asked(talk: Talk) -> bool:
    """'Can you sum that up?' at the end of a talk."""
    if not 2 <= len(talk.notes) <= LONGEST:
        return False
    talk.ask_kind("summary_asked", wrap=False)
    talk.answer("summary", text(talk), expected(talk), origins=None)
    return True


def transcript(talk: Talk) -> str:
    """The talk as lines, as the product's own summary prompt gets it."""
    roles = {"user": "Customer", "assistant": "Assistant"}
    return "\n".join(f"{roles[m['role']]}: {m['content']}" for m in talk.messages if m["role"] in roles)


def from_transcript(talk: Talk, system: str) -> tuple[list[Message], list[Case]]:
    """A conversation of its own: the summary prompt, the transcript, the summary."""
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": transcript(talk)},
        {"role": "assistant", "content": text(talk)},
    ]
    return messages, [Case(2, "summary", expected(talk))]
