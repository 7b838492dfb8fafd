"""Runs a GGUF file through llama.cpp the way the server does: chat template, token ids, greedy decoding.

Only what verification and evaluation need; the product has its own engine.
"""

from pathlib import Path

import llama_cpp
import numpy as np

from recipe.talk import Message
from recipe.tokenizer import END, START

LONGEST_REPLY = 160


class Llama:
    def __init__(self, path: Path, context: int = 2048) -> None:
        self.inner = llama_cpp.Llama(str(path), n_ctx=context, n_threads=1, logits_all=True, verbose=False)

    def tokenize(self, text: str) -> list[int]:
        """Plain text: special tokens in it are not recognised."""
        return self.inner.tokenize(text.encode(), add_bos=False, special=False)

    def prompt(self, messages: list[Message]) -> list[int]:
        """A ChatML conversation up to where the assistant begins."""
        ids: list[int] = []
        for message in messages:
            text = self.tokenize(f"{message['role']}\n{message['content']}")
            ids += [START, *text, END, *self.tokenize("\n")]
        return [*ids, START, *self.tokenize("assistant\n")]

    def logits(self, ids: list[int]) -> np.ndarray:
        """The logits after every position."""
        self.inner.reset()
        self.inner.eval(ids)
        return np.array(self.inner.scores[: len(ids)])

    def reply(self, messages: list[Message]) -> str:
        """The greedy answer."""
        ids = self.prompt(messages)
        reply: list[int] = []
        for token in self.inner.generate(ids, temp=0.0, repeat_penalty=1.0):
            if token == END or len(reply) == LONGEST_REPLY:
                break
            reply.append(token)
        return self.inner.detokenize(reply).decode(errors="replace")
