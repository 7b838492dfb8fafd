"""One request for text, and the events of the reply that answers it. Every wire format meets the others only here.

Pure values: ids are opaque; no socket, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from frontdesk.errors import FrontdeskError
from frontdesk.messages import Item, Message

FinishReason = Literal["stop", "length", "cancelled"]
Truncation = Literal["auto", "disabled"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. `None` means: the model's default from the manifest, else `DEFAULTS`.

    The order is llama.cpp's: bias and penalties, top_k, typical_p, top_p, min_p, temperature, draw. Temperature 0 takes
    the most likely token. Presence and frequency penalties look at the reply so far (OpenAI's definition), the repeat
    penalty at the last `repeat_last_n` tokens of prompt and reply (llama.cpp's).
    """

    temperature: float | None = None  # 0..2
    top_k: int | None = None  # 0 = off
    top_p: float | None = None  # 0..1
    min_p: float | None = None  # 0..1
    typical_p: float | None = None  # 0..1, 1 = off
    presence_penalty: float | None = None  # -2..2
    frequency_penalty: float | None = None  # -2..2
    repeat_penalty: float | None = None  # > 0, 1 = off
    repeat_last_n: int | None = None  # 0..4096 tokens
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, -100..100)
    seed: int | None = None  # 0..2**63-1; None = drawn once per reply
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to generate, free of any wire format.

    Exactly one of `messages` (rendered through the model's chat template), `text` and `tokens` (both raw) is set.
    """

    model: str | None
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None  # None = up to the end of the window
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None  # None = no logprobs; 0..20 alternatives a token
    persona: bool = True  # put the model's persona in front when no system message is given
    generate: bool = True  # False = prefill only (warm-up)


@dataclass(frozen=True, slots=True)
class PromptReference:
    """A prompt of `prompts/` by name. `version` None takes the newest; `variables` fill its `{{ name }}`."""

    id: str
    version: str | None = None
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """An item that a request names instead of saying it: its id, and its index in the input as it was sent."""

    place: int
    id: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What a request to the Responses API says beyond sampling: which conversation it goes on with, and how.

    At most one of `conversation` (an id) and `previous` (a response's id without its prefix) is set. `truncation` None
    means: as the conversation says, else `auto` in a conversation and `disabled` without one. `remembered`: so many
    items at the front of `input` were said before, and not by this request. `references`, in the order of their
    places, are what `input` lacks until the store has told what they stand for.
    """

    input: tuple[Item, ...]
    instructions: str | None = None
    prompt: PromptReference | None = None
    conversation: str | None = None
    previous: str | None = None
    store: bool = True
    background: bool = False
    truncation: Truncation | None = None
    remembered: int = 0
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class ContextReport:
    """What of a conversation was sent to the model, in exact tokens of the rendered template.

    `parts` adds up to `prompt_tokens`: system, pinned, summary, history, input and template (what the chat template
    adds around and between them). `kept`, `dropped` and `summarised` are ids of items, oldest first; an item whose
    content a summary stands for is in `summarised`, and in neither of the others. `cut` counts tokens that were taken
    from the middle of the newest message. `dropped_tokens` and `summarised_tokens` are what these items would take as
    rendered, each in its own frame; both are 0 in what was stored before they were counted.
    """

    window: int
    reserve: int
    prompt_tokens: int
    parts: tuple[tuple[str, int], ...]
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    summarised: tuple[str, ...] = ()
    cut: int = 0
    dropped_tokens: int = 0
    summarised_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one reply. `completion` counts every sampled token that was kept, end-of-turn token included."""

    prompt: int = 0
    cached: int = 0  # part of `prompt` whose KV was already there
    completion: int = 0


# Logs hold one or two of these for every token of every open reply. They are in no cycles, and the garbage collector is
# told so: walking through all of them stopped every stream for 0.2 s at 1,000 streams.
class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """Natural log of the model's own probability (before penalties and truncation) of one emitted token."""

    token: int
    data: bytes  # the token's bytes; may be part of a character
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


# --- the events of a reply: one Started, then Deltas, then exactly one Finished or Failed -----------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of every log, written before an engine has the reply; `created` is in seconds since 1970."""

    model: str
    created: int


class Delta(msgspec.Struct, frozen=True, gc=False):
    """More text: whole characters only. `tokens` is how many tokens it took, `logprobs` is filled when asked for.

    `text` may be empty when tokens were used up by a withheld stop string or a control token.
    """

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """`stop_string` is the one that was met, if any; it is not part of the text. `at` is in seconds since 1970."""

    reason: FinishReason
    usage: Usage
    stop_string: str | None = None
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """`usage` counts what was done before the failure; `at` is in seconds since 1970."""

    error: FrontdeskError
    usage: Usage
    at: int | None = None


Event = Started | Delta | Finished | Failed
