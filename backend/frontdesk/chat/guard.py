"""Keeps text from becoming control tokens while a template works on it.

A mark, one rare character that occurs nowhere else, is put into every message field so that no control-token
literal can come out of the rendering unless the template itself wrote it; after rendering the literals are cut out and
the marks dropped. Between the two the template sees nearly the text itself and may trim, split and compare it.

Why it holds. Take a literal in the rendering whose first character came from a field: in a field every character that
begins a literal is followed by the mark, or begins a string that the template itself looks for (`<think>`) and that is
no prefix and no extension of a literal, so it differs from each literal before it ends. Thus whatever the template cuts
out and joins, the literal cannot be whole. If the first character came from the template and a later one from a field,
then the template writes text that stops inside a literal (`'<|' + name`); with such a template a mark is put at the
start of fields too. The template is trusted not to attack its own user, by reversing text for example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from frontdesk.errors import InvalidRequest
from frontdesk.fleet.literals import Literals

# Yijing hexagrams first: rare, without case, no space, and printable, so that Python's repr, with which some templates
# write tool arguments, leaves them alone. Then private use. `sandbox` knows these ranges too.
MARKS: Final = (*map(chr, range(0x4DC0, 0x4E00)), *map(chr, range(0xE000, 0xF900)))


class Guard:
    """For one template. `strings` are all texts that the template itself can write or look for."""

    def __init__(self, literals: Literals, source: str, strings: Iterable[str]) -> None:
        self._literals = literals
        self._source = source
        known = sorted({*strings})
        firsts = "".join(sorted({text[0] for text in literals.texts}))
        self._first = re.compile(self._pattern(firsts, known)) if firsts else None
        self._all = "\0".join(literals.texts)
        self._endings = {text[k:] for text in literals.texts for k in range(1, len(text))}
        self._longest = max(map(len, literals.texts), default=0)
        prefixes = {text[:k] for text in literals.texts for k in range(1, len(text))}
        self._opens = any(text[-k:] in prefixes for text in known for k in range(1, min(self._longest, len(text) + 1)))

    def mark_for(self, texts: Iterable[str]) -> str:
        """A character that is in none of the texts and not in the template. Raises `InvalidRequest` without one."""
        used = set(self._source).union(*texts)
        for mark in MARKS:
            if mark not in used:
                return mark
        raise InvalidRequest(
            "the messages use every hexagram and every private-use character of Unicode", param="messages"
        )

    def protect(self, text: str, mark: str) -> str:
        """`text` with marks in it."""
        if self._first is None or not text:
            return text
        protected = self._first.sub(lambda found: found.group() + mark, text)
        if not self._opens:
            return protected
        bare = text.lstrip()
        margin = len(text) - len(bare)
        if margin and self._continues(bare):  # the template may trim the margin away
            protected = protected[:margin] + mark + protected[margin:]
        return mark + protected if self._continues(text) else protected

    def encode(self, rendered: str, mark: str, encode: Callable[[str], list[int]]) -> list[int]:
        """Ids of a rendering: the template's literals as control tokens, all between two of them as one text, without
        the white space that a literal swallows."""
        parts = [part if isinstance(part, int) else part.replace(mark, "") for part in self._literals.split(rendered)]
        ids: list[int] = []
        for part in self._literals.swallow(parts):
            ids += [part] if isinstance(part, int) else encode(part)
        return ids

    def _pattern(self, firsts: str, known: list[str]) -> str:
        looked_for = {text[k:] for text in known for k, character in enumerate(text) if character in firsts}
        kept = [text for text in looked_for if len(text) > 1 and not self._meets_literal(text)]
        keep = f"(?!{'|'.join(map(re.escape, sorted(kept)))})" if kept else ""
        return f"{keep}[{re.escape(firsts)}]"

    def _meets_literal(self, text: str) -> bool:
        return any(text.startswith(literal) or literal.startswith(text) for literal in self._literals.texts)

    def _continues(self, text: str) -> bool:
        """Whether a literal that was begun before `text` could go on with its first characters."""
        if len(text) < self._longest and text in self._all:
            return True
        return any(text[:k] in self._endings for k in range(1, self._longest))
