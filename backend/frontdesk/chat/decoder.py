"""Token ids to text, a step at a time: whole UTF-8 characters only, and nothing of a stop string.

Text that may be the beginning of a stop string is held back until it is clear. A token is reported in the `Delta`
that brings the last of its text, so that the tokens of all deltas add up to `tokens_used` and logprobs travel with
their text. The result does not depend on how the tokens are cut into calls. Pure: knows no engine, no log and no clock.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Sequence

from frontdesk.generation import Delta, TokenLogprob

_utf8 = codecs.getincrementaldecoder("utf-8")


class Decoder:
    """One reply's text. Bytes that can no longer become a character turn into U+FFFD, one per maximal invalid part.

    `stopped` is the stop string that was met; of several that one which was complete first, of these the longest.
    `tokens_used` counts the tokens fed so far, up to and including the one that completed the stop string.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], stop: Sequence[str] = ()) -> None:
        self.stopped: str | None = None
        self.tokens_used = 0
        self._bytes = token_bytes
        self._utf8 = _utf8("replace")
        self._matches = [_Match(text) for text in dict.fromkeys(stop) if text]
        self._firsts = frozenset(match.text[0] for match in self._matches)
        self._held = ""  # decoded, but may be the beginning of a stop string
        self._released = 0  # characters given out
        self._decoded = 0  # characters decoded; the last ones may be held
        # Tokens not yet reported: (index of the first character, characters that must be out, logprob)
        self._waiting: deque[tuple[int, int, TokenLogprob | None]] = deque()
        self._ended = False

    def feed(self, tokens: Sequence[int], logprobs: Sequence[TokenLogprob] = ()) -> list[Delta]:
        """At most one `Delta`, none while everything is held back. After a stop string or `finish`, nothing.

        `logprobs` is empty or as long as `tokens`.
        """
        out: list[str] = []
        for index, token in enumerate(tokens):
            if self._ended:
                break
            self.tokens_used += 1
            data = self._bytes(token)
            text = self._utf8.decode(data)
            first = self._decoded
            self._decoded += len(text)
            # With half a character at the end, the token is out when that character is.
            partial = bool(data) and data[-1] >= 0x80 and bool(self._utf8.getstate()[0])
            self._waiting.append((first, self._decoded + partial, logprobs[index] if logprobs else None))
            out.append(self._pass(text))
        return self._deltas("".join(out))

    def finish(self) -> list[Delta]:
        """What was held back, when no more tokens come. Does nothing the second time."""
        if self._ended:
            return []
        text = self._utf8.decode(b"", final=True)
        self._decoded += len(text)
        out = self._pass(text)
        if not self._ended:
            out += self._held
            self._held, self._ended = "", True
        return self._deltas(out)

    def _pass(self, text: str) -> str:
        """Take new text, return what may go out now."""
        if not self._held and self._firsts.isdisjoint(text):
            return text
        window = self._held + text
        for index, character in enumerate(text):
            complete = [match for match in self._matches if match.step(character)]
            if complete:
                return self._stop(window, len(self._held) + index + 1, max((match.text for match in complete), key=len))
        keep = len(window) - max(match.length for match in self._matches)
        self._held = window[keep:]
        return window[:keep]

    def _stop(self, window: str, end: int, stop: str) -> str:
        self.stopped, self._held, self._ended = stop, "", True
        return window[: end - len(stop)]

    def _deltas(self, text: str) -> list[Delta]:
        self._released += len(text)
        waiting = self._waiting
        done: list[tuple[int, int, TokenLogprob | None]] = []
        while waiting and (self._ended or waiting[0][1] <= self._released):
            done.append(waiting.popleft())
        if not text and not done:
            return []
        # Of a stop string's own tokens no logprobs are told, as their text is not.
        shown = (token for token in done if self.stopped is None or token[0] < self._released)
        return [Delta(text, len(done), tuple(entry for _, _, entry in shown if entry is not None))]


class _Match:
    """How much of one stop string the text so far ends with (Knuth, Morris, Pratt), at the same cost for any length."""

    __slots__ = ("_back", "length", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.length = 0
        self._back = [0] * len(text)  # of the first n+1 characters: the longest proper prefix that is also their suffix
        for end in range(1, len(text)):
            length = self._back[end - 1]
            while length and text[end] != text[length]:
                length = self._back[length - 1]
            self._back[end] = length + (text[end] == text[length])

    def step(self, character: str) -> bool:
        """Take one character; whether the string is complete now."""
        while self.length and self.text[self.length] != character:
            self.length = self._back[self.length - 1]
        self.length += self.text[self.length] == character
        return self.length == len(self.text)
