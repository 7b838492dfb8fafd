"""Finds fixed strings in text as llama.cpp finds special tokens: longest literal first, leftmost occurrence first.

Source of the order: `llama_vocab::impl::tokenizer_st_partition` in llama.cpp. Knows strings and their numbers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Final

SPACE: Final = " \t\n\v\f\r"  # what C's `isspace` knows of: llama.cpp asks it byte by byte


class Swallowing(dict[str, int]):
    """Literals with a number each, where the literals numbered in `before` swallow the white space in front of them,
    those in `after` the white space behind."""

    def __init__(self, ids: Mapping[str, int], before: Set[int], after: Set[int]) -> None:
        super().__init__(ids)
        self.before = before
        self.after = after


class Literals:
    """Literals with a number each. Those of a single character are left out: nothing could break them."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._before, self._after = (ids.before, ids.after) if isinstance(ids, Swallowing) else (set(), set())
        texts = sorted((text for text in ids if len(text) > 1), key=lambda text: (-len(text.encode()), ids[text]))
        self.texts: tuple[str, ...] = tuple(texts)
        self._ids = {text: ids[text] for text in texts}
        self._by_stem: dict[str, list[str]] = {}
        for text in texts:  # thousands of literals share a few stems, so that most texts need a handful of searches
            self._by_stem.setdefault(text[:2], []).append(text)
        self._rank = {text: i for i, text in enumerate(texts)}

    def present(self, text: str) -> list[str]:
        """The literals that occur in `text`, longest first."""
        found = [
            literal
            for stem, literals in self._by_stem.items()
            if stem in text
            for literal in literals
            if literal in text
        ]
        return sorted(found, key=self._rank.__getitem__)

    def split(self, text: str) -> list[str | int]:
        """`text` cut at every literal: the numbers of the literals with the non-empty text between them, in order."""
        parts: list[str | int] = [text] if text else []
        for literal in self.present(text):
            parts = [piece for part in parts for piece in self._cut(part, literal)]
        return parts

    def swallow(self, parts: list[str | int]) -> list[str | int]:
        """`parts` of `split` without the white space that the literals beside it swallow, nor texts that this empties.

        llama.cpp swallows while it cuts; that is the same unless a literal begins or ends with white space. Here all is
        cut before, so that no text can undo a literal beside it.
        """
        left: list[str | int] = []
        for here, part in enumerate(parts):
            if isinstance(part, str):
                if here and parts[here - 1] in self._after:
                    part = part.lstrip(SPACE)
                if here + 1 < len(parts) and parts[here + 1] in self._before:
                    part = part.rstrip(SPACE)
            if part != "":
                left.append(part)
        return left

    def starts(self, text: str) -> Iterator[int]:
        """Every index in `text` at which a literal begins, overlapping ones too; in no order, maybe repeated."""
        for literal in self.present(text):
            index = text.find(literal)
            while index >= 0:
                yield index
                index = text.find(literal, index + 1)

    def _cut(self, part: str | int, literal: str) -> list[str | int]:
        if isinstance(part, int) or literal not in part:
            return [part]
        pieces: list[str | int] = []
        for piece in part.split(literal):
            pieces += [piece, self._ids[literal]] if piece else [self._ids[literal]]
        return pieces[:-1]
