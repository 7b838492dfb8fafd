"""Fits a conversation into the model's window: what is sent, its exact token ids, and an honest report.

The plan (`context`) is made on remembered costs; what counts is the rendered prompt, which is made smaller until it
fits. Order of a prompt: instructions, pinned items of turns that left, the summary, the kept turns. A pinned item whose
turn is still there stays in its place, so nothing is sent twice, the dialogue stays one, and pinning something costs no
reading. All in front of the kept turns changes only when turns leave (or pins, instructions or the summary change), so
from one drop to the next every prompt begins with the whole one before it, and the engine reads only what is new.

Knows no store and no engine. Safe to use from several threads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from frontdesk.chat.context import FIXED, Part, PartKind, Plan, Policy, plan
from frontdesk.chat.costs import Costs
from frontdesk.chat.cutting import cut_to_fit
from frontdesk.chat.summary import summary_message, summary_room, transcript
from frontdesk.chat.template import ChatTemplate
from frontdesk.chat.turns import for_model, joined, messages_of, number_turns, with_partners
from frontdesk.errors import ContextLengthExceeded, InvalidRequest
from frontdesk.generation import ContextReport
from frontdesk.messages import Item, Message
from frontdesk.store.summaries import both_summaries

KINDS: tuple[PartKind, ...] = ("system", "pinned", "summary", "history", "input")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits. `tokens` is what the template makes of `messages`; `room` is how many tokens may follow."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]
    room: int
    report: ContextReport


class ContextManager:
    """For one model's template."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._costs = Costs(template)

    def fit(
        self,
        *,
        system: Sequence[Message],
        items: Sequence[Item],
        input: Sequence[Item],
        pinned: Collection[str] = (),
        summary: Item | None = None,
        window: int,
        max_tokens: int | None,
        reserve: int,
        policy: Policy,
    ) -> Fitted:
        """What to send of `system` (instructions), `items` (the conversation, oldest first) and `input` (what is new).

        `pinned` are ids of items that never leave. `summary` stands for the items that it covers; the last summary
        among the items is sent too, behind it. Items without an id are not in the report. The answer gets `max_tokens`
        (at most half of the window), else `reserve` (at most a quarter); when what must stay does not leave that much,
        as little as `reserve` will do.

        Raises `ContextLengthExceeded` and `InvalidRequest`, which name `input`, and what the template raises.
        """
        talk = self._talk(system, items, input, pinned, summary)
        if policy.summarise:
            used = sum(part.tokens for part in talk.parts if part.kind == "summary")
            talk = replace(talk, spare=max(0, summary_room(window) - used))
        if not (talk.system or talk.entries or talk.summary):
            raise InvalidRequest("there is nothing to answer: no message and no instructions", param="input")
        if policy.truncation == "disabled":
            prompt = self._render(talk, plan(talk.parts, limit=window, policy=policy, first=talk.first))
            if len(prompt.tokens) >= window:
                raise ContextLengthExceeded(len(prompt.tokens), window, param="input")
            return self._fitted(prompt, window, 0)
        least = min(reserve, window // 4)
        kept = least if max_tokens is None else min(max_tokens, window // 2)
        prompt = self._smaller(talk, window - max(kept, 1), policy)
        if len(prompt.tokens) > window - max(kept, 1) and kept > least:
            kept = least
            prompt = self._smaller(talk, window - max(kept, 1), policy)
        limit = window - max(kept, 1)
        if len(prompt.tokens) <= limit:
            return self._fitted(prompt, window, kept)
        if policy.long_message == "cut" and (cut := self._cut(prompt, limit)):
            return self._fitted(cut, window, kept)
        raise ContextLengthExceeded(len(prompt.tokens), window, param="input", reserve=kept)

    def _talk(
        self,
        system: Sequence[Message],
        items: Sequence[Item],
        input: Sequence[Item],
        pinned: Collection[str],
        summary: Item | None,
    ) -> _Talk:
        old = [item for item in items if item.kind != "summary"]
        entries = (*old, *(item for item in input if item.kind != "summary"))
        given = next((item for item in (*input[::-1], *items[::-1]) if item.kind == "summary"), None)
        summary = both_summaries(summary, given) if summary and given else summary or given
        covered = frozenset(summary.covers if summary else ())
        stay = with_partners(entries, pinned)
        turns = number_turns([item.message for item in entries])
        opening = _opening(entries)
        uncovered = (turns[i] for i, item in enumerate(entries) if i not in opening and item.id not in covered | stay)
        first = next(uncovered, turns[-1] if turns else 0)
        parts: list[Part] = []
        for i, (item, cost) in enumerate(zip(entries, self._each(entries), strict=True)):
            if i in opening:
                parts.append(Part(item.id, "system", cost))
            elif item.id in stay:
                parts.append(Part(item.id, "pinned", cost, turns[i]))
            else:
                parts.append(Part(item.id, "history" if i < len(old) else "input", cost, turns[i]))
        heads = [Part("", "system", self._costs.of(message)) for message in system]
        if summary is not None:
            heads.append(Part(summary.id, "summary", self._costs.of(summary_message(summary))))
        return _Talk(tuple(system), entries, (*parts, *heads), summary, covered, first)

    def _each(self, entries: Sequence[Item]) -> list[int]:
        """The cost of each item; a tool call costs what it adds to the message that it is part of. That is measured
        beside one small call: beside all before it, two thousand calls would take a core for a minute."""
        costs: list[int] = []
        message: Message | None = None
        for item in entries:
            if message and (whole := joined(message, item)):
                costs.append(max(0, self._costs.of(whole) - self._costs.of(message)))
            else:
                whole = for_model(item.message)
                costs.append(self._costs.of(whole))
            small = tuple(replace(call, arguments="{}") for call in whole.tool_calls[:1])
            message = replace(whole, content="" if small else whole.content, tool_calls=small)
        return costs

    def _smaller(self, talk: _Talk, limit: int, policy: Policy) -> _Prompt:
        """The prompt of the plan for `limit` tokens, or for fewer when the template adds more than the parts cost. Of
        what must stay alone when nothing fits."""
        allowed = limit - self._costs.overhead - talk.spare
        while True:
            chosen = plan(talk.parts, limit=allowed, policy=policy, first=talk.first)
            try:
                prompt = self._render(talk, chosen)
            except InvalidRequest:
                # Many templates refuse a conversation that the assistant begins.
                if not talk.begins_without_user(chosen.first_turn):
                    raise
                talk = replace(talk, first=chosen.first_turn + 1)
                continue
            excess = len(prompt.tokens) - limit
            if excess <= 0 or chosen.first_turn >= talk.last_turn:
                return prompt
            allowed = min(allowed, chosen.tokens) - excess

    def _render(self, talk: _Talk, chosen: Plan) -> _Prompt:
        kept = [(talk.parts[i], talk.entries[i]) for i in talk.sent(chosen)]
        opening = [item for part, item in kept if part.kind == "system"]
        moved = [item for part, item in kept if part.kind == "pinned" and part.turn < chosen.first_turn]
        turns = [item for part, item in kept if part.kind != "system" and part.turn >= chosen.first_turn]
        front = [*talk.system, *messages_of(opening)]
        pins, rest = messages_of(moved), messages_of(turns)
        note = [summary_message(talk.summary)] if talk.summary else []
        messages = [*front, *pins, *note, *rest]
        try:
            tokens = self._template.render(messages)
        except InvalidRequest:
            if len(front) + len(note) < 2 and not pins:
                raise
            # Many templates know one system message only, and demand that user and assistant take turns.
            quoted = [Message("system", transcript(moved))] if moved else []
            text = "\n\n".join(message.content for message in (*front, *quoted, *note))
            messages = [Message("system", text), *rest]
            tokens = self._template.render(messages)
        return _Prompt(talk, chosen, tuple(messages), tuple(tokens))

    def _cut(self, whole: _Prompt, limit: int) -> _Prompt | None:
        """`whole` with the middle of its newest user message taken out, or None when that is not enough."""
        talk = whole.talk
        users = [i for i in talk.sent(whole.plan) if talk.entries[i].message.role == "user"]
        if not users:
            return None
        long = talk.entries[users[-1]]

        def prompt(text: str) -> _Prompt:
            message = replace(long.message, content=text)
            return self._render(talk.with_entry(users[-1], replace(long, message=message), 0), whole.plan)

        text = cut_to_fit(long.message.content, lambda text: len(prompt(text).tokens), limit)
        if text is None:
            return None
        shorter = prompt(text)
        item = shorter.talk.entries[users[-1]]
        counted = talk.with_entry(users[-1], item, self._costs.of(item.message))
        return replace(shorter, talk=counted, cut=len(whole.tokens) - len(shorter.tokens))

    def _fitted(self, prompt: _Prompt, window: int, reserve: int) -> Fitted:
        talk, total = prompt.talk, len(prompt.tokens)
        costs = dict.fromkeys(KINDS, 0)
        for i in prompt.plan.kept:
            costs[talk.parts[i].kind] += talk.parts[i].tokens
        # Messages that share a frame cost less together than apart: the largest parts bear the difference.
        shared = sum(costs.values()) - total
        for kind in sorted(KINDS, key=lambda kind: costs[kind], reverse=True):
            less = min(costs[kind], max(0, shared))
            costs[kind] -= less
            shared -= less
        kept = talk.sent(prompt.plan)
        left = sorted(set(range(len(talk.entries))).difference(kept))
        summarised = [i for i in left if talk.entries[i].id in talk.covered]
        dropped = [i for i in left if talk.entries[i].id not in talk.covered]

        def ids(places: Sequence[int]) -> tuple[str, ...]:
            return tuple(id for i in places if (id := talk.entries[i].id))

        def tokens(places: Sequence[int]) -> int:
            return sum(talk.parts[i].tokens for i in places)

        report = ContextReport(
            window=window,
            reserve=reserve,
            prompt_tokens=total,
            parts=(*costs.items(), ("template", total - sum(costs.values()))),
            kept=ids(kept),
            dropped=ids(dropped),
            summarised=ids(summarised),
            cut=prompt.cut,
            dropped_tokens=tokens(dropped),
            summarised_tokens=tokens(summarised),
        )
        return Fitted(prompt.messages, prompt.tokens, window - total, report)


def _opening(entries: Sequence[Item]) -> set[int]:
    """Places of the instructions that the conversation itself begins with: they never leave."""
    roles = [item.message.role for item in entries]
    before = roles.index("user") if "user" in roles else len(roles)
    return {i for i in range(before) if roles[i] in ("system", "developer")}


@dataclass(frozen=True, slots=True)
class _Talk:
    """What there is. `entries` are all items but summaries; `parts` has one for each, and behind them those of `system`
    and `summary`. Turns before `first` are not sent: `summary`, which stands for the ids in `covered`, is sent instead.
    `spare` tokens are kept for what the summary may grow to."""

    system: tuple[Message, ...]
    entries: tuple[Item, ...]
    parts: tuple[Part, ...]
    summary: Item | None
    covered: frozenset[str]
    first: int
    spare: int = 0

    @property
    def last_turn(self) -> int:
        return max((part.turn for part in self.parts), default=FIXED)

    def sent(self, chosen: Plan) -> list[int]:
        """Indices of the entries that are kept."""
        return [i for i in chosen.kept if i < len(self.entries)]

    def begins_without_user(self, turn: int) -> bool:
        """Whether a turn has no user message, and is not the newest."""
        roles = {item.message.role for part, item in zip(self.parts, self.entries, strict=False) if part.turn == turn}
        return "user" not in roles and turn < self.last_turn

    def with_entry(self, index: int, item: Item, tokens: int) -> _Talk:
        part = replace(self.parts[index], tokens=tokens)
        return replace(
            self,
            entries=(*self.entries[:index], item, *self.entries[index + 1 :]),
            parts=(*self.parts[:index], part, *self.parts[index + 1 :]),
        )


@dataclass(frozen=True, slots=True)
class _Prompt:
    """`talk` as `plan` sends it. `cut` counts the tokens that were taken out of the newest message."""

    talk: _Talk
    plan: Plan
    messages: tuple[Message, ...]
    tokens: tuple[int, ...]
    cut: int = 0
