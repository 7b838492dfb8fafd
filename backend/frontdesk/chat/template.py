"""A conversation to token ids, through the model's own chat template.

The template decides which control tokens a prompt holds and where; text from messages never adds one (see `guard`).
Tokenizing joins a turn's fixed text with its content ("user\\n" + content), as the model saw it in training.
Reasoning would be shown as part of the answer, so models are asked to answer at once. Knows neither engine nor window.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import jinja2
from jinja2 import nodes

from frontdesk.chat.guard import Guard
from frontdesk.chat.sandbox import MAX_CHARACTERS, MAX_SPENT, Sandbox, TemplateRaised, TooSlow, limits
from frontdesk.chat.turns import without_system_role
from frontdesk.errors import InvalidRequest, TemplateFailed
from frontdesk.fleet.literals import Literals
from frontdesk.fleet.tokenizer import Tokenizer, check_text
from frontdesk.messages import Message, ToolCall

RENDER_SECONDS: Final = 1.0
MAX_ARGUMENT_DEPTH: Final = 32
PROBE: Final = "Kilimanjaro"  # a word that no template writes by itself
# What gpt-oss writes between its reasoning and its answer; its template leaves open which of both comes next.
ANSWERS: Final = "<|channel|>final<|message|>"


class ChatTemplate:
    """One model's chat template, compiled. Safe to use from several threads."""

    def __init__(
        self,
        source: str,
        tokenizer: Tokenizer,
        bos_text: str | None = None,
        eos_text: str | None = None,
        *,
        seconds: float = RENDER_SECONDS,
    ) -> None:
        """`bos_text` and `eos_text` are what the template sees as `bos_token` and `eos_token`; by default the
        tokenizer's own. Raises `TemplateFailed` for a template that does not compile or leaves out what is said."""
        texts = {id: text for text, id in tokenizer.special.items()}
        self._tokenizer = tokenizer
        self._bos = texts.get(tokenizer.bos, "") if bos_text is None else bos_text
        self._eos = texts.get(tokenizer.eos, "") if eos_text is None else eos_text
        self._seconds = seconds
        self._wants_argument_text = "arguments is string" in source
        sandbox = Sandbox()
        self._template = self._compile(sandbox, source)
        strings = [*_strings(sandbox.parse(source)), self._bos, self._eos]
        self._knows_developer = "developer" in strings  # a word of its own, not a part of a variable's name
        self._guard = Guard(Literals(tokenizer.special), source, strings)
        self._answers = ANSWERS if "<|channel|>" in source and "<|return|>" in tokenizer.special else ""
        self._typed = False
        if (said := self._says(PROBE)) is not True:
            self._typed = True
            self._typed = self._says(PROBE) is True
            if said is False and not self._typed:
                raise TemplateFailed("the model's chat template leaves out what the user says")

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of the prompt, BOS included where the model wants one. A template that refuses a conversation
        with the system message that it begins with gets its text as the user's (`without_system_role`).

        Raises `InvalidRequest` (`param` names the field) for text that is not Unicode and for a conversation that the
        template refuses, `TemplateFailed` when the template breaks, writes too much or takes longer than `seconds`.
        """
        texts = list(_texts(messages))
        if (characters := sum(map(len, texts))) > MAX_CHARACTERS // 2:
            raise InvalidRequest(
                f"messages hold {characters} characters (at most {MAX_CHARACTERS // 2})", param="messages"
            )
        mark = self._guard.mark_for(texts)

        def written(messages: Sequence[Message]) -> str:
            values = [self._message(message, lambda text: self._guard.protect(text, mark)) for message in messages]
            text = self._run(values, add_generation_prompt, mark, characters)
            return text + self._answers if add_generation_prompt else text

        try:
            text = written(messages)
        except InvalidRequest as refused:
            if (others := without_system_role(messages)) is None:
                raise
            try:
                text = written(others)
            except (InvalidRequest, TemplateFailed):  # the system role was not to blame
                raise refused from None
        ids = self._guard.encode(text, mark, self._tokenizer.encode)
        bos = self._tokenizer.bos
        return [bos, *ids] if self._tokenizer.add_bos and ids[:1] != [bos] else ids

    def count(self, text: str) -> int:
        """Tokens of a text alone. Raises `InvalidRequest` for text that is not Unicode."""
        return self._tokenizer.count(text)

    def _compile(self, sandbox: Sandbox, source: str) -> jinja2.Template:
        try:
            return sandbox.load(source)
        except TooSlow:
            raise TemplateFailed("the model's chat template takes too long to compile") from None
        except Exception as error:  # a template can raise whatever Python can
            raise TemplateFailed(f"the model's chat template does not compile: {_reason(error)}") from None

    def _says(self, word: str) -> bool | None:
        """Whether a message of the user's gets into the prompt; `None` if the template refuses it or breaks."""
        try:
            text = self._run([self._message(Message("user", word), str)], True, "", len(word))
        except (InvalidRequest, TemplateFailed):
            return None
        return word.lower() in text.lower()

    def _run(self, values: list[dict[str, object]], add_generation_prompt: bool, mark: str, characters: int) -> str:
        try:
            with limits(self._seconds, MAX_SPENT + 16 * characters):
                return self._template.render(
                    messages=values,
                    add_generation_prompt=add_generation_prompt,
                    bos_token=self._bos,
                    eos_token=self._eos,
                    tools=None,
                    documents=None,
                    enable_thinking=False,
                )
        except TemplateRaised as error:
            raise InvalidRequest(
                f"messages: the model's chat template refuses this conversation: {str(error).replace(mark, '')}",
                param="messages",
            ) from None
        except TooSlow:
            raise TemplateFailed(f"the model's chat template took longer than {self._seconds:g} s") from None
        except Exception as error:  # a template can raise whatever Python can
            raise TemplateFailed(f"the model's chat template failed: {_reason(error).replace(mark, '')}") from None

    def _message(self, message: Message, protect: Callable[[str], str]) -> dict[str, object]:
        """The dict that Hugging Face templates expect. Those of models that see (SmolVLM, LLaVA) look for parts of a
        content, and would find none in a text."""
        role = "system" if message.role == "developer" and not self._knows_developer else message.role
        text = protect(message.content)
        value: dict[str, object] = {"role": role, "content": [{"type": "text", "text": text}] if self._typed else text}
        if message.name is not None:
            value["name"] = protect(message.name)
        if message.tool_calls:
            value["tool_calls"] = [self._tool_call(call, protect) for call in message.tool_calls]
        if message.tool_call_id is not None:
            value["tool_call_id"] = protect(message.tool_call_id)
        return value

    def _tool_call(self, call: ToolCall, protect: Callable[[str], str]) -> dict[str, object]:
        arguments = call.arguments if self._wants_argument_text else _parsed(call.arguments)
        function = {"name": protect(call.name), "arguments": _each_text(arguments, protect)}
        return {"type": "function", "id": protect(call.id), "function": function}


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    """Every text of every message, checked. Raises `InvalidRequest` naming the field."""
    for i, message in enumerate(messages):
        for name, text in _fields(message):
            check_text(text, f"messages.{i}.{name}")
            yield text


def _fields(message: Message) -> Iterator[tuple[str, str]]:
    yield "content", message.content
    yield "name", message.name or ""
    yield "tool_call_id", message.tool_call_id or ""
    for j, call in enumerate(message.tool_calls):
        yield f"tool_calls.{j}.id", call.id
        yield f"tool_calls.{j}.function.name", call.name
        yield f"tool_calls.{j}.function.arguments", call.arguments
        if "\\u" in call.arguments:  # escapes may hide a lone surrogate
            yield f"tool_calls.{j}.function.arguments", json.dumps(_parsed(call.arguments), ensure_ascii=False)


def _parsed(arguments: str) -> object:
    """Most templates write `arguments | tojson` and so want an object. What is no JSON object, or is nested deeper than
    `MAX_ARGUMENT_DEPTH`, stays text."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) and _shallow(value, MAX_ARGUMENT_DEPTH) else arguments


def _shallow(value: object, depth: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_shallow(item, depth - 1) for item in items)


def _each_text(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    return value


def _strings(tree: nodes.Template) -> Iterator[str]:
    """Every text in the template: what it writes and what it compares with."""
    for node in tree.find_all((nodes.TemplateData, nodes.Const)):
        text = getattr(node, "data", None) or getattr(node, "value", None)
        if isinstance(text, str):
            yield text


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
