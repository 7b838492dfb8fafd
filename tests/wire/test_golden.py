"""The exact bytes of each format for scripted replies, against transcripts that a person has read.

After a wanted change `python tests/wire/test_golden.py` writes the transcripts anew; read the diff first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from frontdesk.errors import EngineDied
from frontdesk.generation import ContextReport, Delta, Event, Failed, Finished, Started, TokenLogprob, Usage
from frontdesk.wire import HTTP_FORMATS
from frontdesk.wire._format import Identity

GOLDEN = Path(__file__).parent / "golden"
PARTS = (("system", 5), ("history", 0), ("input", 4), ("template", 3))
CONTEXT = ContextReport(4096, 512, 12, PARTS, ("msg_2",), ("msg_0", "msg_1"), dropped_tokens=31)
IDENTITY = Identity("0123456789abcdef0123456789abcdef", "shop-small", 1_790_000_000, context=CONTEXT, store=True)
STARTED = Started("shop-small", 1_790_000_000)
USAGE = Usage(prompt=12, cached=8, completion=3)
DELTAS = [Delta("Grüß", 1), Delta("", 1), Delta(' "dich"\n\u2028🙂', 2)]
FOX = "🦊".encode()
LOGPROBS = [
    Delta("Hi ", 1, (TokenLogprob(7, b"Hi ", -0.25, ((7, b"Hi ", -0.25), (9, b"Yo", float("-inf")))),)),
    Delta(
        "🦊",
        2,
        (
            TokenLogprob(20, FOX[:2], -0.5, ((20, FOX[:2], -0.5), (21, FOX[:1], -2.0))),
            TokenLogprob(22, FOX[2:], -0.125, ()),
        ),
    ),
]

ENDINGS: dict[str, list[Event]] = {
    "stop": [STARTED, *DELTAS, Finished("stop", USAGE, "\n\n", 1_790_000_003)],
    "length": [STARTED, *DELTAS, Finished("length", USAGE)],
    "cancelled": [STARTED, DELTAS[0], Finished("cancelled", USAGE)],
    "failed": [STARTED, DELTAS[0], Failed(EngineDied("the engine died 3 times on this request"), USAGE)],
    "failed_at_once": [STARTED, Failed(EngineDied("the engine died 3 times on this request"), USAGE)],
    "empty": [STARTED, Finished("stop", Usage(12, 0, 1))],
    "logprobs": [STARTED, *LOGPROBS, Finished("stop", USAGE)],
}
BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "model": "shop-small",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "openai_completions": {"model": "shop-small", "prompt": "Say: ", "stream": True, "echo": True},
    "openai_responses": {"model": "shop-small", "input": "Hi", "stream": True, "metadata": {"shop": "7"}},
}
EXTRA: dict[tuple[str, str], dict[str, Any]] = {
    ("openai_chat", "logprobs"): {"logprobs": True, "top_logprobs": 2},
    ("openai_completions", "logprobs"): {"logprobs": 2, "echo": False},
    ("openai_responses", "logprobs"): {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
}
CASES = [(f.name, ending) for f in HTTP_FORMATS for ending in ENDINGS]


def stream(name: str, ending: str, *, one_by_one: bool) -> bytes:
    format = next(f for f in HTTP_FORMATS if f.name == name)
    call = format.parse({**BODIES[name], **EXTRA.get((name, ending), {})})
    encoder = format.encoder(call, IDENTITY)
    events = ENDINGS[ending]
    batches = [[event] for event in events] if one_by_one else [events]
    return encoder.start() + b"".join(encoder.encode(0, batch) for batch in batches) + encoder.end()


def whole(name: str, ending: str) -> bytes:
    format = next(f for f in HTTP_FORMATS if f.name == name)
    call = format.parse({**BODIES[name], **EXTRA.get((name, ending), {})})
    answer = format.collect(call, IDENTITY, [ENDINGS[ending]])
    return msgspec.json.format(msgspec.json.encode(answer), indent=1) + b"\n"


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_stream_is_byte_for_byte_the_transcript(name: str, ending: str) -> None:
    """If this fails, clients that parse today's stream may meet bytes that they do not expect."""
    assert stream(name, ending, one_by_one=False) == (GOLDEN / f"{name}.{ending}.sse").read_bytes()


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_batches_do_not_change_the_bytes(name: str, ending: str) -> None:
    """If this fails, a slow or resumed reader gets other bytes than a fast one, and cannot be continued by replay."""
    assert stream(name, ending, one_by_one=True) == stream(name, ending, one_by_one=False)


@pytest.mark.parametrize("name", [f.name for f in HTTP_FORMATS])
@pytest.mark.parametrize("ending", ["stop", "logprobs"])
def test_whole_answer_is_the_transcript(name: str, ending: str) -> None:
    """If this fails, clients that do not stream meet another answer than the documented one."""
    assert whole(name, ending) == (GOLDEN / f"{name}.{ending}.json").read_bytes()


def write() -> None:
    for name, ending in CASES:
        (GOLDEN / f"{name}.{ending}.sse").write_bytes(stream(name, ending, one_by_one=False))
    for name in BODIES:
        for ending in ("stop", "logprobs"):
            (GOLDEN / f"{name}.{ending}.json").write_bytes(whole(name, ending))


if __name__ == "__main__":
    write()
