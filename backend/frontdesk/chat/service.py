"""One reply, from request to last event: render, check the window, submit, decode, log, finish.

The only place where tokens from an engine meet the decoder. Knows no wire format, no socket and no HTTP; a reader that
leaves is the edge's business, which then calls `Reply.cancel`.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from frontdesk.chat.decoder import Decoder
from frontdesk.chat.prompts import Persona
from frontdesk.chat.streams import StreamLog
from frontdesk.chat.template import ChatTemplate
from frontdesk.errors import ContextLengthExceeded, EngineFailed, FrontdeskError, InvalidRequest, Overloaded
from frontdesk.fleet.pool import Backend, Pool
from frontdesk.generation import (
    Delta,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    Sampling,
    Started,
    TokenLogprob,
    Usage,
)
from frontdesk.messages import Message
from frontdesk.worker.protocol import SamplingParams, SequenceOutput

# llama.cpp's own defaults, so that a GGUF answers here as it does there.
DEFAULTS = SamplingParams(
    temperature=0.8,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    typical_p=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    repeat_penalty=1.0,
    repeat_last_n=64,
    logit_bias=(),
    seed=0,
)

INLINE_CHARACTERS = 20_000  # longer texts are rendered in a thread: about 5 ms of tokenizing


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request made ready for an engine. `tokens` are the prompt's ids, `room` how many tokens may follow them."""

    backend: Backend
    tokens: tuple[int, ...]
    room: int


class Reply:
    """One reply being written. Ends exactly once, as finished, cancelled or failed, and its log says which.

    `sampling` is what is really used, every default filled in.
    """

    def __init__(self, id: str, prompt: Prompt, request: GenerationRequest, tenant: int) -> None:
        self.id = id
        self.created = int(time.time())
        self.model = prompt.backend.card.name
        self.log = StreamLog()
        self._backend = prompt.backend
        self._decoder = Decoder(prompt.backend.tokenizer.token_bytes, request.stop)
        self._prompt_tokens = len(prompt.tokens)
        self._cached = 0
        self._completion = 0
        params = sampling_params(request.sampling, prompt.backend.card.sampling)
        self.sampling = Sampling(**{name: getattr(params, name) for name in params.__struct_fields__})
        self.log.append(Started(self.model, self.created))
        self._ticket = prompt.backend.engine.submit(
            prompt.tokens,
            sampling=params,
            max_tokens=0 if not request.generate else min(request.max_tokens or prompt.room, prompt.room),
            stop_tokens=() if request.sampling.ignore_eos else tuple(sorted(prompt.backend.tokenizer.eog)),
            top_logprobs=-1 if request.top_logprobs is None else request.top_logprobs,
            tenant=tenant,
            on_output=self._on_output,
            on_failed=self._fail,
        )

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt_tokens, self._cached, self._completion)

    @property
    def place(self) -> int:
        """Place in the waiting line: 1 is next, 0 is being worked on or over."""
        return self._backend.engine.place(self._ticket)

    def cancel(self) -> None:
        """Stop now; what was generated stays. Does nothing when the reply has ended."""
        if not self.log.ended:
            self._backend.engine.abort(self._ticket)
            self._finish("cancelled")

    def _on_output(self, output: SequenceOutput) -> None:
        if self.log.ended:
            return
        if output.cached >= 0:
            self._cached = output.cached
        if output.finish == "error":
            self._fail(EngineFailed("the engine could not compute this request"))
            return
        self._append(self._decoder.feed(output.tokens, self._logprobs(output)))
        if self._decoder.stopped is not None:
            self._completion = self._decoder.tokens_used
            self._backend.engine.abort(self._ticket)
            self._finish("stop")
            return
        self._completion += len(output.tokens)
        if output.finish:
            self._finish("length" if output.finish == "length" else "stop")

    def _append(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            self.log.append(delta)

    def _finish(self, reason: FinishReason) -> None:
        self._append(self._decoder.finish())
        self.log.append(Finished(reason, self.usage, self._decoder.stopped))

    def _fail(self, error: FrontdeskError) -> None:
        if not self.log.ended:
            self.log.append(Failed(error, self.usage))

    def _logprobs(self, output: SequenceOutput) -> tuple[TokenLogprob, ...]:
        data = self._backend.tokenizer.token_bytes
        return tuple(
            TokenLogprob(
                token,
                data(token),
                entry.logprob,
                tuple((t, data(t), p) for t, p in zip(entry.top_ids, entry.top_logprobs, strict=True)),
            )
            for token, entry in zip(output.tokens, output.logprobs, strict=False)
        )


class ChatService:
    """Starts replies. One per process; must be used from its event loop."""

    def __init__(self, pool: Pool, personas: Mapping[str, Persona], *, max_waiting: int = 512) -> None:
        self.pool = pool
        self._personas = personas
        self._max_waiting = max_waiting
        self._templates: dict[str, ChatTemplate] = {}

    async def prepare(self, request: GenerationRequest) -> Prompt:
        """Render the prompt and check that it fits. Raises `RequestRefused`, `Unavailable`, `TemplateFailed`."""
        backend = self.pool.pick(request.model)
        if _characters(request) > INLINE_CHARACTERS:
            tokens = await asyncio.to_thread(self._tokens, backend, request)
        else:
            tokens = self._tokens(backend, request)
        window = backend.engine.window
        if not tokens:
            raise InvalidRequest("the prompt is empty", param="messages" if request.messages is not None else "prompt")
        if len(tokens) >= window:
            raise ContextLengthExceeded(
                len(tokens), window, param="messages" if request.messages is not None else "prompt"
            )
        return Prompt(backend, tuple(tokens), window - len(tokens))

    async def start(self, request: GenerationRequest, *, n: int = 1, tenant: str = "") -> list[Reply]:
        """Start `n` replies to one request; they share the prompt's KV. Raises like `prepare`, and `Overloaded`."""
        prompt = await self.prepare(request)
        if prompt.backend.engine.open_requests + n > self._max_waiting:
            raise Overloaded(f"the waiting line is full ({self._max_waiting} requests)", retry_after=2.0)
        ids = (secrets.token_hex(16) for _ in range(n))
        return [Reply(id, prompt, _with_seed(request, i), tenant_number(tenant)) for i, id in enumerate(ids)]

    def _tokens(self, backend: Backend, request: GenerationRequest) -> list[int]:
        if request.tokens is not None:
            return _checked_ids(request.tokens, backend.tokenizer.n_vocab)
        if request.text is not None:
            ids = backend.tokenizer.encode(request.text)
            return [backend.tokenizer.bos, *ids] if backend.tokenizer.add_bos and backend.tokenizer.bos >= 0 else ids
        messages = self._with_persona(backend, request)
        return self._template(backend).render(messages)

    def _with_persona(self, backend: Backend, request: GenerationRequest) -> list[Message]:
        messages = list(request.messages or ())
        name = backend.card.persona
        if request.persona and name and not any(m.role in ("system", "developer") for m in messages):
            messages.insert(0, Message("system", self._personas[name].text))
        return messages

    def _template(self, backend: Backend) -> ChatTemplate:
        if (template := self._templates.get(backend.card.name)) is None:
            template = ChatTemplate(backend.template_source, backend.tokenizer)
            self._templates[backend.card.name] = template
        return template


def sampling_params(wanted: Sampling, model: Sampling) -> SamplingParams:
    """Fill every gap: what the request says, else the model's default, else llama.cpp's."""

    def pick(name: str) -> object:
        for source in (wanted, model):
            if (value := getattr(source, name)) is not None:
                return value
        return getattr(DEFAULTS, name)

    values = {name: pick(name) for name in SamplingParams.__struct_fields__ if name not in ("logit_bias", "seed")}
    seed = wanted.seed if wanted.seed is not None else secrets.randbits(63)
    return SamplingParams(**values, logit_bias=wanted.logit_bias or model.logit_bias, seed=seed)  # pyright: ignore[reportArgumentType]


def tenant_number(tenant: str) -> int:
    """A stable 63-bit number for a tenant's name, so that the engine sees integers only."""
    return int.from_bytes(hashlib.blake2b(tenant.encode(), digest_size=8).digest()) >> 1


def _with_seed(request: GenerationRequest, index: int) -> GenerationRequest:
    """Reply `index` of the same request draws other numbers than reply 0."""
    if index == 0 or request.sampling.seed is None:
        return request
    seed = (request.sampling.seed + index) % (1 << 63)
    return replace(request, sampling=replace(request.sampling, seed=seed))


def _characters(request: GenerationRequest) -> int:
    return len(request.text or "") + sum(len(message.content) for message in request.messages or ())


def _checked_ids(tokens: tuple[int, ...], n_vocab: int) -> list[int]:
    for i, token in enumerate(tokens):
        if not 0 <= token < n_vocab:
            raise InvalidRequest(f"token id {token} is not in the vocabulary (0 to {n_vocab - 1})", param=f"prompt.{i}")
    return list(tokens)
