"""From a request to the token ids that the model reads, and the report of what they are.

Puts together what a prompt is made of (persona, instructions, history, input) and has it fitted (`fitting`). Knows no
engine, no store and no wire format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar, TypeVarTuple

from frontdesk.chat.fitting import ContextManager
from frontdesk.chat.history import History
from frontdesk.chat.prompts import Personas
from frontdesk.chat.template import ChatTemplate
from frontdesk.engine.parked import common_prefix
from frontdesk.errors import ContextLengthExceeded, FrontdeskError, InvalidRequest, RequestRefused
from frontdesk.fleet.pool import Backend
from frontdesk.generation import ContextReport, GenerationRequest, Turn
from frontdesk.messages import Item, Message

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

INLINE_CHARACTERS = 20_000  # longer texts are rendered in a thread: about 5 ms of tokenizing
ITEM_CHARACTERS = 500  # what it costs to measure and render a message, whatever it says, in characters


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request made ready for an engine. `tokens` are the prompt's ids, `room` how many tokens may follow them; the
    first `public` ids are a persona of the server's, word for word."""

    backend: Backend
    tokens: tuple[int, ...]
    room: int
    report: ContextReport
    public: int = 0


class Prompting:
    """`reserve`: tokens that a conversation's history leaves free for an answer of unknown length."""

    def __init__(self, personas: Personas, reserve: int) -> None:
        self._personas = personas
        self._reserve = reserve
        self._templates: dict[str, ChatTemplate] = {}
        self._managers: dict[str, ContextManager] = {}
        self._openings: dict[tuple[date, str, str], tuple[int, ...]] = {}

    async def prompt(
        self, backend: Backend, request: GenerationRequest, turn: Turn | None = None, history: History | None = None
    ) -> Prompt:
        """Raises `InvalidRequest`, `ContextLengthExceeded`, `TemplateFailed`."""
        history = history or History()
        if request.tokens is not None:
            return self._raw(backend, _checked_ids(request.tokens, backend.tokenizer.n_vocab))
        if request.text is not None:
            return self._raw(backend, await _inline(len(request.text), _text_ids, backend, request.text))
        input = turn.input if turn else tuple(Item("", "message", message) for message in request.messages or ())
        size = _size(turn, history, input)
        return await _inline(size, self._fit, backend, request, turn, history, input)

    def count(self, backend: Backend, messages: Sequence[Message]) -> int:
        """Tokens of a prompt with these messages."""
        return len(self._template(backend).render(messages))

    def _fit(
        self,
        backend: Backend,
        request: GenerationRequest,
        turn: Turn | None,
        history: History,
        input: tuple[Item, ...],
    ) -> Prompt:
        if history.persona is not None:
            system = self._named(history.persona or backend.card.persona)
        else:
            said = (item.message for item in (*history.items, *input) if item.kind != "summary")
            system = self._system(backend, request, turn, said)
        if not (system or history.items or input):
            raise InvalidRequest("the prompt is empty", param="messages" if turn is None else "input")
        try:
            fitted = self._manager(backend).fit(
                system=system,
                items=history.items,
                input=input,
                pinned=history.pinned,
                summary=history.summary,
                window=backend.engine.window,
                max_tokens=request.max_tokens,
                reserve=history.reserve or self._reserve,
                policy=history.policy,
            )
        except RequestRefused as error:
            if turn is None and error.param == "input":
                error.param = "messages"  # the same thing has another name in the formats that keep nothing
            raise
        return Prompt(backend, fitted.tokens, fitted.room, fitted.report, self._public(backend, system, fitted.tokens))

    def _public(self, backend: Backend, system: Sequence[Message], tokens: tuple[int, ...]) -> int:
        """How many ids at the beginning a persona of the server's makes, the same for everybody who talks to it.

        Whoever sends its very text as instructions of their own knows it already.
        """
        text = system[0].content if system else None
        if text is None or all(persona.text != text for persona in self._personas.values()):
            return 0
        return common_prefix(self.opening(backend, text), tokens, len(tokens))

    def opening(self, backend: Backend, text: str) -> tuple[int, ...]:
        """The ids of a prompt that begins with this system message, as far as they do not depend on what follows."""
        key = (date.today(), backend.card.name, text)  # some templates write the day into the prompt
        if (found := self._openings.get(key)) is None:
            self._openings = {key: ids for key, ids in self._openings.items() if key[0] == date.today()}
            render, system = self._template(backend).render, Message("system", text)
            try:
                one, other = (render([system, Message("user", said)]) for said in ("a", "1"))
            except FrontdeskError:  # a template that wants a talk to begin otherwise
                one = other = []
            found = self._openings[key] = tuple(one[: common_prefix(one, other, len(one))])
        return found

    def _system(
        self, backend: Backend, request: GenerationRequest, turn: Turn | None, said: Iterable[Message]
    ) -> list[Message]:
        """The server's prompt and the caller's instructions; without any system message the model's own persona."""
        system: list[Message] = []
        if turn and turn.prompt:
            system.append(Message("system", self._personas.text(turn.prompt)))
        if turn and turn.instructions:
            system.append(Message("system", turn.instructions))
        if request.persona and not system and all(m.role not in ("system", "developer") for m in said):
            system += self._named(backend.card.persona)
        return system

    def _named(self, persona: str | None) -> list[Message]:
        return [Message("system", self._personas[persona].text)] if persona else []

    def _raw(self, backend: Backend, tokens: list[int]) -> Prompt:
        """A prompt that is no conversation: it fits as it is, or not at all."""
        window = backend.engine.window
        if not tokens:
            raise InvalidRequest("the prompt is empty", param="prompt")
        if len(tokens) >= window:
            raise ContextLengthExceeded(len(tokens), window, param="prompt")
        room = window - len(tokens)
        report = ContextReport(window, room, len(tokens), (("input", len(tokens)),))
        return Prompt(backend, tuple(tokens), room, report)

    def _manager(self, backend: Backend) -> ContextManager:
        if (manager := self._managers.get(backend.card.name)) is None:
            manager = self._managers[backend.card.name] = ContextManager(self._template(backend))
        return manager

    def _template(self, backend: Backend) -> ChatTemplate:
        if (template := self._templates.get(backend.card.name)) is None:
            template = ChatTemplate(backend.template_source, backend.tokenizer)
            self._templates[backend.card.name] = template
        return template


def _size(turn: Turn | None, history: History, input: Iterable[Item]) -> int:
    """How much work a prompt is, in characters."""
    size = len(turn.instructions or "") if turn else 0
    size += sum(len(value) for _, value in turn.prompt.variables) if turn and turn.prompt else 0
    for item in (*history.items, *input):
        size += ITEM_CHARACTERS + len(item.message.content)
        size += sum(len(call.arguments) for call in item.message.tool_calls)
    return size


async def _inline(size: int, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Do it here and now, or in a thread when it would hold up the event loop."""
    return await asyncio.to_thread(work, *arguments) if size > INLINE_CHARACTERS else work(*arguments)


def _text_ids(backend: Backend, text: str) -> list[int]:
    tokenizer = backend.tokenizer
    ids = tokenizer.encode(text)
    return [tokenizer.bos, *ids] if tokenizer.add_bos and tokenizer.bos >= 0 else ids


def _checked_ids(tokens: tuple[int, ...], n_vocab: int) -> list[int]:
    for i, token in enumerate(tokens):
        if not 0 <= token < n_vocab:
            raise InvalidRequest(f"token id {token} is not in the vocabulary (0 to {n_vocab - 1})", param=f"prompt.{i}")
    return list(tokens)
