"""A model's vocabulary as llama.cpp itself sees it, from a vocab-only load: no weights, no context.

This is the reference for every question about tokens. Text is tokenized with special tokens off; a caller that needs
llama.cpp's own parsing of control tokens asks for it by name. Knows no chat template and no message.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import llama_cpp

from frontdesk.errors import ModelLoadFailed
from frontdesk.llamacpp.library import last_words, start

NO_TOKEN: Final = -1
_HIDDEN: Final = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_SINGLES: Final = (llama_cpp.llama_vocab_bos, llama_cpp.llama_vocab_eos, llama_cpp.llama_vocab_eot)
_USER_DEFINED: Final = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED


@dataclass(frozen=True, slots=True)
class VocabFacts:
    """What llama.cpp knows of a vocabulary. Ids are `NO_TOKEN` where the model has none.

    `pieces` is the bytes that each id stands for (b"" for control and unknown tokens), `control` and `user_defined` map
    a token's text to its id, `eog` are the ids that end a turn. White space in front of those in `swallows_before` and
    behind those in `swallows_after` is no part of a prompt.
    """

    pieces: tuple[bytes, ...]
    control: dict[str, int]
    user_defined: dict[str, int]
    bos: int
    eos: int
    eot: int
    add_bos: bool
    eog: frozenset[int]
    swallows_before: frozenset[int]
    swallows_after: frozenset[int]


class Vocab:
    """One vocab-only model. `close` (or the end of the object) frees it. Calls may come from any thread."""

    def __init__(self, path: Path | str) -> None:
        """Raises `ModelLoadFailed` when llama.cpp refuses the file. A hostile file may abort the process: the caller
        opens the model in a process of its own first."""
        start()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ModelLoadFailed(
                f"llama.cpp cannot read the vocabulary of {path}: {last_words() or 'no reason given'}"
            )
        self._vocab: Any = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        if self.n_vocab <= 0:
            self.close()
            raise ModelLoadFailed(f"{path} holds no vocabulary")

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Ids of `text`, no BOS and no EOS added. With `parse_special`, control-token text becomes control tokens."""
        data = text.encode()
        room = len(data) + 16
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), ids, room, False, parse_special)
        if count < 0:
            room = -count
            ids = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._vocab, data, len(data), ids, room, False, parse_special)
        return ids[:count]

    def facts(self) -> VocabFacts:
        """Everything about the vocabulary, read once: about a second for 150,000 tokens on a slow core."""
        vocab, ids = self._vocab, range(self.n_vocab)
        attributes = [llama_cpp.llama_vocab_get_attr(vocab, i) for i in ids]
        bos, eos, eot = (int(of(vocab)) for of in _SINGLES)  # pyright: ignore[reportArgumentType]
        return VocabFacts(
            pieces=tuple(self._pieces()),
            control=self._texts([i for i in ids if attributes[i] & _HIDDEN]),
            user_defined=self._texts([i for i in ids if attributes[i] & _USER_DEFINED]),
            bos=bos,
            eos=eos,
            eot=eot,
            add_bos=bool(llama_cpp.llama_vocab_get_add_bos(vocab)),
            eog=frozenset(i for i in ids if llama_cpp.llama_vocab_is_eog(vocab, i)),
            swallows_before=frozenset(i for i in ids if attributes[i] & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP),
            swallows_after=frozenset(i for i in ids if attributes[i] & llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP),
        )

    def close(self) -> None:
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self.close()

    def _pieces(self) -> list[bytes]:
        buffer = ctypes.create_string_buffer(1024)
        return [self._piece(i, buffer, special=False) for i in range(self.n_vocab)]

    def _texts(self, ids: list[int]) -> dict[str, int]:
        buffer = ctypes.create_string_buffer(1024)
        texts = ((self._piece(i, buffer, special=True).decode("utf-8", "replace"), i) for i in ids)
        return {text: i for text, i in texts if text}

    def _piece(self, token: int, buffer: ctypes.Array[ctypes.c_char], *, special: bool) -> bytes:
        size = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:size]
