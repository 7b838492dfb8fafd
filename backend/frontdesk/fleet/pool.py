"""Which models run here, each with its tokenizer and its engine. One model; callers ask by name.

Starting a model: open the engine process first (a hostile file kills that process, not this one), then the tokenizer,
unless an earlier start has left all that is to be known of the vocabulary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from frontdesk.config import engine_environment, state_folder
from frontdesk.errors import EngineNotReady, ModelNotFound
from frontdesk.fleet.gguf import forget_metadata, read_metadata
from frontdesk.fleet.registry import ModelCard
from frontdesk.fleet.sameness import Sameness, sameness
from frontdesk.fleet.tokenizer import PRE, Tokenizer, open_tokenizer, recalled_tokenizer
from frontdesk.fleet.vocabulary import VocabularyFolder
from frontdesk.worker.client import EngineClient
from frontdesk.worker.protocol import Load

# What a model without a chat template of its own gets: ChatML, the most common one.
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURN_END: Final = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Backend:
    """One model that is being served. `template_assumed`: its file has no chat template and gets ChatML;
    `cuts_assumed`: it does not say how text is cut before its tokens are found, and llama.cpp takes the usual way."""

    card: ModelCard
    tokenizer: Tokenizer
    template_source: str
    engine: EngineClient
    sameness: Sameness = field(default_factory=Sameness)
    template_assumed: bool = False
    cuts_assumed: bool = False

    @property
    def turn_end(self) -> str:
        """Text that ends an answer in a chat, "" where a token does: to a model that never had ChatML it is text."""
        return TURN_END if self.template_assumed and TURN_END not in self.tokenizer.special else ""


class Pool:
    """The models of this server. `start` may be called while requests come in: they get `EngineNotReady`."""

    def __init__(self, card: ModelCard) -> None:
        self.cards = [card]
        self._backend: Backend | None = None
        self._closing = False

    @property
    def ready(self) -> bool:
        return self._backend is not None and self._backend.engine.alive and not self._closing

    @property
    def backend(self) -> Backend | None:
        return self._backend

    async def start(
        self,
        load: Load,
        on_progress: Callable[[float], None] | None = None,
        prepare: Callable[[Backend], Awaitable[object]] | None = None,
    ) -> Backend:
        """Open the model. `prepare` has it first; callers of `pick` get it after that.

        Raises `ModelLoadFailed` with llama.cpp's reason.
        """
        card = self.cards[0]
        folder = VocabularyFolder(state_folder() / "vocabularies")
        recalling = asyncio.create_task(asyncio.to_thread(recalled_tokenizer, card.path, folder))
        engine = EngineClient(load, engine_environment(load.spin))
        try:
            await engine.start(on_progress)
        except BaseException:  # given up or failed, and told by whoever called: nobody waits for the tokenizer
            recalling.cancel()
            raise
        try:
            tokenizer = await recalling or await asyncio.to_thread(open_tokenizer, card.path, folder)
            metadata = await asyncio.to_thread(read_metadata, card.path)
            source = metadata.get("tokenizer.chat_template")
            uncut = metadata.get("tokenizer.ggml.model") == "gpt2" and not metadata.get(PRE)
            same = await asyncio.to_thread(sameness, card.path)
            forget_metadata()
            own = source if isinstance(source, str) else ""
            backend = Backend(card, tokenizer, own or CHATML, engine, same, not own, uncut)
            if prepare is not None:
                await prepare(backend)
        except BaseException:  # given up or failed: no engine is left behind
            await engine.close()
            raise
        self._backend = backend
        return backend

    def pick(self, name: str | None) -> Backend:
        """The backend for a model's name; `None` takes the default. Raises `ModelNotFound`, `EngineNotReady`."""
        if name is not None and name not in (card.name for card in self.cards):
            known = ", ".join(card.name for card in self.cards)
            raise ModelNotFound(f"model {name!r} is not served here; known: {known}", param="model")
        if self._backend is None or self._closing:
            raise EngineNotReady("the server is shutting down" if self._closing else "Loading model", retry_after=2.0)
        return self._backend

    def refuse(self) -> None:
        """Take no new requests from now on; running replies go on."""
        self._closing = True

    async def close(self) -> None:
        self._closing = True
        if self._backend is not None:
            await self._backend.engine.close()
