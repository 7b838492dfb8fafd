"""Finds fixed strings in text as llama.cpp finds special tokens: longest literal first, leftmost occurrence first.

Source of the order: `llama_vocab::impl::tokenizer_st_partition` in llama.cpp. Knows strings and their numbers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Literals:
    """Literals with a number each. Those of a single character are left out: nothing could break them."""

    def __init__(self, ids: Mapping[str, int]) -> None:
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
