"""The events of one reply as the typed events of the OpenAI Responses API, and the Response object they carry.

Plain dicts: SSE and the WebSocket frame them, and both must say the same. A stopped reply ends with
`response.incomplete` and status `cancelled`, since the protocol has no event of its own for it. Knows no framing.
"""

from __future__ import annotations

from typing import Any

from frontdesk.generation import Delta, Event, Failed, Finished, Started, Usage
from frontdesk.wire._context import context_json
from frontdesk.wire._errors import error_type
from frontdesk.wire._format import Call, Identity
from frontdesk.wire._ids import response_id
from frontdesk.wire._responses_body import ResponsesRequest
from frontdesk.wire._values import token_logprobs

JSON = dict[str, Any]


class ResponseEvents:
    """Feed it the events of a reply in order, from the first.

    `sequence_number` counts from 0, so feeding the same events again gives the same numbers: a reader that comes back
    is served by feeding everything and sending only what has a higher number than what it has.
    """

    def __init__(self, call: Call, identity: Identity) -> None:
        assert isinstance(call.body, ResponsesRequest)
        self.id = f"resp_{identity.id}"
        self.failed = False
        self.response = response_object(call.body, identity)
        self._ended = False
        self._generate = call.generation.generate
        self._item_id = f"msg_{identity.id}"
        self._next = 0
        self._open = False
        self._text: list[str] = []
        self._logprobs: list[JSON] = []

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._text)

    @property
    def last_number(self) -> int:
        """`sequence_number` of the last event so far; -1 before the first."""
        return self._next - 1

    def current(self) -> JSON:
        """The Response object as of the last event. While the reply is being written, with its text so far."""
        if self._open and not self._ended:
            return {**self.response, "output": [self._item("in_progress", [self._part()])]}
        return dict(self.response)

    def feed(self, event: Event) -> list[JSON]:
        match event:
            case Delta():
                return self._delta(event)
            case Started():
                return [self._snapshot("response.created"), self._snapshot("response.in_progress")]
            case Finished():
                return self._finish(event)
            case Failed():
                return self._fail(event)

    def _delta(self, event: Delta) -> list[JSON]:
        if not event.text and not event.logprobs:
            return []
        opening = [] if self._open else self._open_item()
        logprobs = token_logprobs(event.logprobs)
        self._text.append(event.text)
        self._logprobs += logprobs
        delta = {
            "type": "response.output_text.delta",
            "sequence_number": self._next,
            "item_id": self._item_id,
            "output_index": 0,
            "content_index": 0,
            "delta": event.text,
            "logprobs": logprobs,
        }
        self._next += 1
        return [*opening, delta] if opening else [delta]

    def _finish(self, event: Finished) -> list[JSON]:
        status = {"stop": "completed", "length": "incomplete", "cancelled": "cancelled"}[event.reason]
        if not self._generate:  # a warm-up that ran to its end has no text, and nothing is missing from it
            return [self._end("cancelled" if status == "cancelled" else "completed", event)]
        item_status = "completed" if status == "completed" else "incomplete"
        opening = [] if self._open else self._open_item()
        return [*opening, *self._close_item(item_status), self._end(status, event)]

    def _fail(self, event: Failed) -> list[JSON]:
        self.failed = True
        error = event.error
        report = self._event("error", code=error.code, message=error.message, param=error.param)
        # Clients know a closed list of codes on a Response; the event before it carries the exact one.
        self.response["error"] = {"code": "server_error", "message": error.message, "type": error_type(error)}
        if self._open:
            self.response["output"] = [self._item("incomplete", [self._part()])]
        return [report, self._end("failed", event)]

    def _end(self, status: str, event: Finished | Failed) -> JSON:
        self._ended = True
        self.response["status"] = status
        self.response["usage"] = response_usage(event.usage)
        if status == "completed":  # OpenAI gives the time of no other end
            self.response["completed_at"] = event.at
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        return self._snapshot("response.incomplete" if status == "cancelled" else f"response.{status}")

    def _open_item(self) -> list[JSON]:
        self._open = True
        empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return [
            self._event("response.output_item.added", output_index=0, item=self._item("in_progress", [])),
            self._part_event("response.content_part.added", part=empty),
        ]

    def _close_item(self, status: str) -> list[JSON]:
        part = self._part()
        item = self._item(status, [part])
        self.response["output"] = [item]
        return [
            self._part_event("response.output_text.done", text=part["text"], logprobs=part["logprobs"]),
            self._part_event("response.content_part.done", part=part),
            self._event("response.output_item.done", output_index=0, item=item),
        ]

    def _part(self) -> JSON:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self._logprobs}

    def _item(self, status: str, content: list[JSON]) -> JSON:
        return {"id": self._item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def _part_event(self, kind: str, **fields: Any) -> JSON:
        return self._event(kind, item_id=self._item_id, output_index=0, content_index=0, **fields)

    def _snapshot(self, kind: str) -> JSON:
        return self._event(kind, response=dict(self.response))

    def _event(self, kind: str, **fields: Any) -> JSON:
        self._next += 1
        return {"type": kind, "sequence_number": self._next - 1, **fields}


def response_object(request: ResponsesRequest, identity: Identity) -> JSON:
    """A response that has just begun: the 32 keys that the Open Responses schema requires, OpenAI's `conversation` and
    `prompt`, and our `context`."""
    previous = request.previous_response_id
    return {
        "id": f"resp_{identity.id}",
        "object": "response",
        "created_at": identity.created,
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "model": identity.model,
        "previous_response_id": None if previous is None else f"resp_{response_id(previous)}",
        "conversation": None if identity.conversation is None else {"id": identity.conversation},
        "instructions": request.instructions,
        "output": [],
        "error": None,
        "usage": None,
        "store": identity.store,
        "background": identity.background,
        "service_tier": "default",
        "reasoning": None,
        **_echo(request, identity),
        "context": None if identity.context is None else context_json(identity.context),
    }


def _echo(request: ResponsesRequest, identity: Identity) -> JSON:
    """What the request asked for. Sampling that it left open is told as far as the service knows it."""
    effective = identity.sampling
    choice = request.tool_choice
    return {
        "tools": [],
        "tool_choice": choice if choice in ("none", "auto", "required") else "auto",
        "truncation": identity.truncation or request.truncation or ("auto" if identity.conversation else "disabled"),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "text": {"format": {"type": "text"}},
        "prompt": request.prompt and request.prompt.model_dump(exclude_unset=True),
        "top_p": _first(request.top_p, effective.top_p, 1.0),
        "temperature": _first(request.temperature, effective.temperature, 1.0),
        "presence_penalty": _first(request.presence_penalty, effective.presence_penalty, 0.0),
        "frequency_penalty": _first(request.frequency_penalty, effective.frequency_penalty, 0.0),
        "top_logprobs": request.top_logprobs or 0,
        "user": request.user,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "safety_identifier": request.safety_identifier,
        "prompt_cache_key": request.prompt_cache_key,
    }


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def response_usage(usage: Usage) -> JSON:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }
