"""One request inside the engine: its token ids, what has been computed of them, and when it ends.

There is no prefill phase and no decode phase: a sequence has tokens, `computed` of them are in the KV cache, and every
step lets it catch up by some. Knows no KV layout and no sampling arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from frontdesk.engine.request import SamplingParams
from frontdesk.engine.speculative import Guesser


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` is the prompt followed by the reply so far; `slot` is the llama.cpp sequence id that holds its KV."""

    id: int
    tokens: list[int]
    n_prompt: int
    max_tokens: int
    window: int
    stop_tokens: frozenset[int]
    sampling: SamplingParams
    top_logprobs: int = -1
    tenant: int = 0
    public: int = 0  # tokens at the beginning whose KV any tenant may share
    slot: int | None = None
    computed: int = 0
    cached: int = -1  # prompt tokens found in the KV cache at first admission
    preemptions: int = 0
    reading_told: bool = False
    cached_told: bool = False
    guesser: Guesser = field(default_factory=Guesser)
    guess: list[int] = field(default_factory=list)  # what `guesser` expects next, in the step that is planned

    def sharable(self, other: Sequence) -> int:
        """How many tokens at the beginning may be shared with another, as far as they are the same."""
        return len(other.tokens) if other.tenant == self.tenant else min(other.public, self.public)

    @property
    def generated(self) -> int:
        """Tokens of the reply so far, those of an earlier engine included."""
        return len(self.tokens) - self.n_prompt

    @property
    def remaining(self) -> int:
        """Tokens whose KV is still to be computed: 1 while decoding."""
        return len(self.tokens) - self.computed

    @property
    def finish(self) -> str:
        """'' while it goes on, else 'stop' or 'length'."""
        if self.generated and self.tokens[-1] in self.stop_tokens:
            return "stop"
        if self.generated >= self.max_tokens or len(self.tokens) >= self.window:
            return "length"
        return ""
