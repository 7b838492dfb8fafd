"""The exact tokenizer of a model: text to ids, ids to bytes. Text never becomes a control token here.

Two implementations of one protocol. tiktoken, built from the GGUF's own vocabulary (never from the network), about
three times as fast, for byte-level BPE with a known pre-tokenizer; it is compared with llama.cpp when a model is opened
for the first time and dropped on any difference. Otherwise llama.cpp's vocab-only load, which is exact by definition.
Knows no chat template: which control tokens a prompt holds is decided in `chat/template`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog
import tiktoken

from frontdesk.errors import InvalidRequest
from frontdesk.fleet.gguf import Value, read_metadata
from frontdesk.fleet.literals import Literals, Swallowing
from frontdesk.fleet.pretokenizers import CONTROL, PATTERNS, SAMPLE, WHOLE_WORDS, byte_alphabet
from frontdesk.fleet.vocabulary import Known, VocabularyFolder
from frontdesk.llamacpp.vocab import Vocab, VocabFacts

Kind = Literal["tiktoken", "llama.cpp"]
PRE: Final = "tokenizer.ggml.pre"
LONGEST_RUN: Final = 8_000  # characters that one match of llama.cpp's std::regex, which recurses for each, may have
LONGEST_SPACE: Final = 100_000  # characters: tiktoken's regex gives up, in a panic, after a million steps back
# What the regexes of llama.cpp's families match in one piece: a kind of characters, or all but some signs (bloom).
_RUNS: Final = (re.compile(r"[^\W\d_]+|\d+|\s+|(?:[^\w\s]|_)+"), re.compile(r"[^\s(|.,!?…。，、।۔،]+"))
# exaone-moe takes words in, with the single spaces between them: letters, marks (among other signs) and such spaces.
_PHRASES: Final = (*_RUNS, re.compile(r"(?:[^\W\d_]|[^\w\s!-~]| (?! ))+"))
_SPACES: Final = (re.compile(r"\s+"),)

log = structlog.stdlib.get_logger("frontdesk.fleet")


class Tokenizer(Protocol):
    """What the service needs of a vocabulary. Safe to use from several threads.

    `special` maps the text of every control token to its id (as a `Swallowing`, which says which of them swallow white
    space); `bos` and `eos` are -1 where the model has none; `add_bos` says whether a prompt starts with `bos`; `eog`
    are the ids that end a turn.
    """

    @property
    def kind(self) -> Kind: ...
    @property
    def special(self) -> Mapping[str, int]: ...
    @property
    def bos(self) -> int: ...
    @property
    def eos(self) -> int: ...
    @property
    def add_bos(self) -> bool: ...
    @property
    def eog(self) -> frozenset[int]: ...
    @property
    def n_vocab(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text, never a control token. Raises `InvalidRequest` for a lone surrogate."""
        ...

    def count(self, text: str) -> int:
        """How many tokens `encode` gives."""
        ...

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token: b"" for a control token or an id outside the vocabulary."""
        ...


def open_tokenizer(path: Path | str, folder: VocabularyFolder | None = None) -> Tokenizer:
    """The tokenizer of a GGUF file; `kind` says which implementation it is. `folder` keeps what is found out.

    Raises `ModelLoadFailed` or `ConfigError` for an unusable file.
    """
    metadata = read_metadata(path)
    vocab = Vocab(path)
    reference = LlamaTokenizer(vocab, metadata)
    if (ids := _ranked(metadata, reference.facts)) is None:
        return reference
    known = Known(pre=str(metadata[PRE]), facts=reference.facts, special=dict(reference.special), ids=ids)
    candidate = TiktokenTokenizer(known)
    if not agree(candidate, reference):
        return reference
    vocab.close()
    if folder is not None and not folder.keep(path, known):
        log.info("what was found out about the vocabulary cannot be remembered")
    return candidate


def recalled_tokenizer(path: Path | str, folder: VocabularyFolder | None) -> Tokenizer | None:
    """The tokenizer of a file that an earlier start has opened, without a word of llama.cpp; None if none has.

    Raises as `read_metadata` does.
    """
    known = folder.recall(path) if folder is not None else None
    return TiktokenTokenizer(known) if known is not None else None


def agree(candidate: Tokenizer, reference: Tokenizer) -> bool:
    """Whether both give the same ids for a fixed, varied sample and for the text of every control token."""
    sample = [*SAMPLE, "".join(SAMPLE), *(f"a {literal}b" for literal in list(reference.special)[:64])]
    return all(candidate.encode(text) == reference.encode(text) for text in sample)


class _Table:
    """The part that both share: what is known about single tokens."""

    kind: Kind

    def __init__(self, facts: VocabFacts, special: Mapping[str, int]) -> None:
        self.special: Mapping[str, int] = Swallowing(special, facts.swallows_before, facts.swallows_after)
        self.bos = facts.bos
        self.eos = facts.eos
        self.add_bos = facts.add_bos and facts.bos >= 0
        self.eog = facts.eog
        self.n_vocab = len(facts.pieces)
        hidden = frozenset(special.values())
        self._pieces = tuple(b"" if i in hidden else piece for i, piece in enumerate(facts.pieces))

    def token_bytes(self, id: int) -> bytes:
        return self._pieces[id] if 0 <= id < self.n_vocab else b""


class TiktokenTokenizer(_Table):
    """tiktoken over the model's own merges. `ids` maps tiktoken's ranks to token ids."""

    kind: Kind = "tiktoken"

    def __init__(self, known: Known) -> None:
        facts = known.facts
        super().__init__(facts, known.special)
        ranks: dict[bytes, int] = {}
        for rank, id in enumerate(known.ids):
            ranks.setdefault(facts.pieces[id], rank)
        pattern = PATTERNS[known.pre]
        self._encoding = tiktoken.Encoding("gguf", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self._ids = known.ids
        # User-defined tokens match in ordinary text too (llama.cpp, Hugging Face), longest first, before the regex.
        hidden = frozenset(known.special.values())
        self._literals = Literals({text: id for text, id in facts.user_defined.items() if id not in hidden})

    def encode(self, text: str) -> list[int]:
        check_text(text)
        return [id for piece in in_pieces(text, _SPACES, LONGEST_SPACE) for id in self._encoded(piece)]

    def _encoded(self, text: str) -> list[int]:
        ids = self._ids
        if not self._literals.texts:
            return [ids[rank] for rank in self._encoding.encode_ordinary(text)]
        found: list[int] = []
        for part in self._literals.split(text):
            if isinstance(part, int):
                found.append(part)
            else:
                found += [ids[rank] for rank in self._encoding.encode_ordinary(part)]
        return found

    def count(self, text: str) -> int:
        return len(self.encode(text))


class LlamaTokenizer(_Table):
    """llama.cpp's own tokenizer."""

    kind: Kind = "llama.cpp"

    def __init__(self, vocab: Vocab, metadata: Mapping[str, Value]) -> None:
        self.facts = vocab.facts()
        super().__init__(self.facts, _control_tokens(self.facts, metadata))
        self._vocab = vocab
        self._by_regex = metadata.get("tokenizer.ggml.model") == "gpt2"
        self._runs = _PHRASES if metadata.get(PRE) == "exaone-moe" else _RUNS
        self._hidden = {id: text for text, id in self.special.items()}
        self._by_bytes = {piece: id for id, piece in enumerate(self._pieces) if piece}

    def encode(self, text: str) -> list[int]:
        check_text(text)
        pieces = in_pieces(text, self._runs, LONGEST_RUN) if self._by_regex else [text]
        ids = [id for piece in pieces for id in self._vocab.tokenize(piece)]
        if self._hidden.keys().isdisjoint(ids):
            return ids
        return [plain for id in ids for plain in (self._spelled(id) if id in self._hidden else (id,))]

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def _spelled(self, id: int) -> list[int]:
        """A control token's text in tokens of one character or one byte. llama.cpp's merges can reach a control token
        without parsing it (`</s>` of SentencePiece vocabularies), and it types a few control tokens as user-defined."""
        spelled: list[int] = []
        for character in self._hidden[id]:
            if (whole := self._by_bytes.get(character.encode())) is not None:
                spelled.append(whole)
            else:
                parts = (bytes([byte]) for byte in character.encode())
                spelled += [self._by_bytes[part] for part in parts if part in self._by_bytes]
        return spelled


def check_text(text: str, param: str | None = None) -> None:
    """Raises `InvalidRequest` when `text` holds a lone surrogate, which has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{param or 'the text'} holds a lone surrogate, U+{ord(text[error.start]):04X}, at {error.start}; "
            "send valid Unicode",
            param=param,
        ) from None


def in_pieces(text: str, runs: Sequence[re.Pattern[str]], longest: int) -> list[str]:
    """The text, cut within runs that are longer than any regex would survive. No real text has such a run."""
    if len(text) <= longest:
        return [text]
    found = (match for run in runs for match in run.finditer(text) if match.end() - match.start() > longest)
    cuts = {at for match in found for at in range(match.start() + longest, match.end(), longest)}
    return [text[start:end] for start, end in pairwise([0, *sorted(cuts), len(text)])]


def _control_tokens(facts: VocabFacts, metadata: Mapping[str, Value]) -> dict[str, int]:
    """llama.cpp's control tokens, and those that the file calls control but llama.cpp re-types (gpt-oss)."""
    special = dict(facts.control)
    types = metadata.get("tokenizer.ggml.token_type")
    if isinstance(types, list):
        special |= {text: id for text, id in facts.user_defined.items() if id < len(types) and types[id] == CONTROL}
    return special


def _ranked(metadata: Mapping[str, Value], facts: VocabFacts) -> list[int] | None:
    """The ids in the order of tiktoken's ranks, or None where the vocabulary is not one that tiktoken can hold."""
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or str(metadata.get(PRE)) not in PATTERNS:
        return None
    if not isinstance(tokens, list) or not isinstance(merges, list) or len(tokens) != len(facts.pieces):
        return None
    outside = frozenset(facts.user_defined.values())  # matched before merging, not by it
    if outside & (facts.swallows_before | facts.swallows_after):
        return None  # llama.cpp drops white space within a text, too
    by_text = {str(text): id for id, text in enumerate(tokens) if facts.pieces[id] and id not in outside}
    names = [character for character, _ in byte_alphabet()]
    names += ["".join(str(merge).split(" ", 1)) if merge else "" for merge in merges]
    if metadata[PRE] in WHOLE_WORDS:
        names += [str(text) for text in tokens]  # whole words are looked up before merging: they need no merge
    ids = [by_text[name] for name in dict.fromkeys(names) if name in by_text]
    ranked = {facts.pieces[id] for id in ids}
    if any(bytes([byte]) not in ranked for byte in range(256)):
        return None  # llama.cpp drops such bytes, tiktoken panics
    return ids
