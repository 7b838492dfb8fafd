"""What verification needs of llama.cpp: the token ids of a text and the logits of a prompt."""

from pathlib import Path

import llama_cpp
import numpy as np


class Llama:
    def __init__(self, path: Path, context: int = 2048) -> None:
        self.inner = llama_cpp.Llama(str(path), n_ctx=context, n_threads=1, logits_all=True, verbose=False)

    def tokenize(self, text: str) -> list[int]:
        """Plain text: special tokens in it are not recognised."""
        return self.inner.tokenize(text.encode(), add_bos=False, special=False)

    def logits(self, ids: list[int]) -> np.ndarray:
        """The logits after every position."""
        self.inner.reset()
        self.inner.eval(ids)
        return np.array(self.inner.scores[: len(ids)])
