"""A checker over what clients saw of replies while engines and servers were killed: nothing lost, repeated or changed.

Pure: it knows no server, no socket and no database. A client notes each of its visits to a reply (a first request, a
retry, a resume by whatever route) with every event as it came. The laws that are checked:

- a visit that asked for what follows number N gets N+1, N+2, ... without a gap;
- a number says the same in every visit;
- the numbers of all visits together run from 0 to exactly one end;
- the deltas together are the final text, the final text is `expected` (what the same request gives when nothing is
  killed), and there are as many tokens as were asked for: a token lost or repeated *before* events were numbered shows
  here;
- the journal holds these tokens and no others, and the ledger one row for them (`check_books`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ENDS = ("response.completed", "response.incomplete", "response.failed")
FIRST = -1  # `after` of a visit that asked for everything

FaultKind = Literal["lost", "repeated", "changed", "no end", "failed", "journal", "ledger"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken law. `reply` is the client's name of it, or the response's id."""

    kind: FaultKind
    reply: str
    what: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One event: its sequence number, its JSON, and when it came in seconds of the client's clock."""

    number: int
    data: bytes
    at: float


@dataclass(slots=True)
class Visit:
    """One connection of a client to a reply. `after` is the last number that it said it had."""

    way: str
    after: int = FIRST
    seen: list[Seen] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """All visits of one client to one reply, in order. `id` is the response's, once a client could know it."""

    name: str
    id: str = ""
    visits: list[Visit] = field(default_factory=list)
    last: int = FIRST
    ended: bool = False
    problems: list[str] = field(default_factory=list)  # answers that a client must never get, such as a 404

    def visit(self, way: str, *, everything: bool = False) -> Visit:
        """Begin a visit: of everything, or of what follows the last number."""
        self.visits.append(Visit(way, FIRST if everything else self.last))
        return self.visits[-1]

    def note(self, data: bytes, at: float) -> dict[str, Any]:
        """Add an event to the newest visit; returns it parsed."""
        event = json.loads(data)
        self.visits[-1].seen.append(Seen(event["sequence_number"], data, at))
        self.last = max(self.last, event["sequence_number"])
        self.ended = self.ended or event["type"] in ENDS
        if not self.id and "response" in event:
            self.id = event["response"]["id"]
        return event


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told of one reply in the end: text and token counts."""

    id: str
    text: str
    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What a database holds of one reply: the text of its journalled tokens, and its rows in the ledger."""

    id: str
    text: str
    prompt: int
    tokens: int
    gapless: bool  # the journal's entries follow each other position by position
    rows: tuple[tuple[int, int], ...]  # (prompt, completion) of each


def check(history: History, *, expected: str | None = None, tokens: int | None = None) -> list[Fault]:
    """Every broken law of one reply. `expected` is the undisturbed text, `tokens` how many were asked for."""
    faults = [Fault("failed", history.name, problem) for problem in history.problems]
    agreed: dict[int, Any] = {}
    for visit in history.visits:
        faults += _check_visit(history.name, visit, agreed)
    faults += _check_numbers(history.name, agreed)
    if not faults and (told := final(history)) is not None:
        faults += _check_text(history.name, agreed, told, expected, tokens)
    return faults


def final(history: History) -> Told | None:
    """What the end of a reply said; `None` without an end."""
    for visit in history.visits:
        for seen in visit.seen:
            event = json.loads(seen.data)
            if event["type"] in ENDS:
                response, usage = event["response"], event["response"]["usage"] or {}
                parts = [part["text"] for item in response["output"] for part in item["content"]]
                counts = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
                return Told(response["id"], "".join(parts), *counts)
    return None


def _check_visit(name: str, visit: Visit, agreed: dict[int, Any]) -> list[Fault]:
    """Numbers in order, and the same event for each as `agreed` has from earlier visits; fills `agreed`."""
    faults: list[Fault] = []
    wanted = visit.after + 1
    for seen in visit.seen:
        if seen.number != wanted:
            kind = "lost" if seen.number > wanted else "repeated"
            faults.append(Fault(kind, name, f"{visit.way}: {seen.number} where {wanted} was due"))
        wanted = seen.number + 1
        event = json.loads(seen.data)
        if agreed.setdefault(seen.number, event) != event:
            faults.append(Fault("changed", name, f"{visit.way}: {seen.number} is {event}, was {agreed[seen.number]}"))
    return faults


def _check_numbers(name: str, agreed: Mapping[int, Any]) -> list[Fault]:
    faults = [Fault("lost", name, f"nobody saw {n}") for n in range(max(agreed, default=FIRST)) if n not in agreed]
    ends = [number for number, event in agreed.items() if event["type"] in ENDS]
    if not ends:
        faults.append(Fault("no end", name, f"nothing after {max(agreed, default=FIRST)}"))
    elif ends != [max(agreed)]:
        faults.append(Fault("repeated", name, f"ends at {ends}, last event {max(agreed)}"))
    failed = [event for event in agreed.values() if event["type"] in ("error", "response.failed")]
    return faults + [Fault("failed", name, str(event)[:300]) for event in failed]


def _check_text(
    name: str, agreed: Mapping[int, Any], told: Told, expected: str | None, tokens: int | None
) -> list[Fault]:
    deltas = [e["delta"] for _, e in sorted(agreed.items()) if e["type"] == "response.output_text.delta"]
    faults: list[Fault] = []
    if (text := "".join(deltas)) != told.text:
        faults.append(Fault("changed", name, f"deltas {_differ(text, told.text)} the final text"))
    if expected is not None and told.text != expected:
        faults.append(Fault("changed", name, f"the text {_differ(told.text, expected)} the undisturbed one"))
    if tokens is not None and told.completion != tokens:
        kind = "lost" if told.completion < tokens else "repeated"
        faults.append(Fault(kind, name, f"{told.completion} tokens of {tokens}"))
    return faults


def check_books(told: Collection[Told], kept: Collection[Kept]) -> list[Fault]:
    """Compare what clients were told with what the database holds: the same replies, tokens and charges, each once."""
    books = {each.id: each for each in kept}
    faults = [Fault("ledger", id, "a reply that no client asked for") for id in books.keys() - {t.id for t in told}]
    for each in told:
        if (book := books.get(each.id)) is None:
            faults.append(Fault("journal", each.id, "the database does not know this reply"))
            continue
        if not book.gapless:
            faults.append(Fault("journal", each.id, "the journal's entries do not follow each other"))
        if book.tokens != each.completion:
            faults.append(Fault("journal", each.id, f"{book.tokens} tokens kept, {each.completion} told"))
        if book.text != each.text:
            faults.append(Fault("journal", each.id, f"the kept text {_differ(book.text, each.text)} the one told"))
        if book.prompt != each.prompt or book.rows != ((each.prompt, each.completion),):
            charge = f"charged {book.rows}, told {(each.prompt, each.completion)}, prompt of {book.prompt} tokens"
            faults.append(Fault("ledger", each.id, charge))
    return faults


def _differ(a: str, b: str) -> str:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"(...{a[max(0, at - 20) : at + 20]!r}, {len(a)} characters) differs from character {at} on from"
