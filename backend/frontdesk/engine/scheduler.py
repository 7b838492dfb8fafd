"""Who gets how many tokens of the next step. It only lets sequences catch up; it knows no phases.

Rules, in this order: every running sequence that lacks one token gets it; then one prompt at a time, in chunks (large
when nobody streams, small when somebody does), of the tenant that has the fewest running, first come first served; when
the KV cache runs out, idle prefixes go first, then the youngest sequence steps back and waits, before all others.
Nobody gets an error, and the oldest always advances, so that every request ends. Where every sequence gets one token,
guesses of the next ones may come along (`engine/speculative`), if that has proved to pay.
"""

from __future__ import annotations

from collections import Counter, deque

from frontdesk.engine.batch import Batch, Chunk, Sampled
from frontdesk.engine.kv_cache import KVCache
from frontdesk.engine.parked import common_prefix
from frontdesk.engine.sequence import Sequence
from frontdesk.engine.speculative import LENGTHS, StepCosts, plan_drafts

HEADROOM = 32  # tokens a sequence must be able to grow after admission, so that it is not preempted at once
PIECE = 32  # tokens of a prompt; a step with fewer takes nearly as long, so no such rest is left over
GROUP = 4  # rows that kernels compute together; those that are left of it are computed one by one
WAIT_FOR_PREFIX = 64  # tokens; a prompt waits for a step if a running prefill will give it that many more for nothing


def least_piece(chunk: int) -> int:
    """Tokens of a prompt that are worth a step, in chunks of this size."""
    return min(PIECE, chunk // 4)


def most_rows(slots: int, chunk: int, chunk_busy: int) -> int:
    """Of a step, for so many running sequences and prompts in such chunks."""
    most = max(chunk, chunk_busy)
    return slots + most + least_piece(most)


class Scheduler:
    """`chunk` and `chunk_busy`: prompt tokens a step without and with running streams. No guesses without `costs`."""

    def __init__(
        self, cache: KVCache, *, slots: int, chunk: int, chunk_busy: int, costs: StepCosts | None = None
    ) -> None:
        self.cache = cache
        self.waiting: deque[Sequence] = deque()  # who stepped back, then the others in order of arrival
        self.running: list[Sequence] = []  # in order of admission: the last is the youngest
        self._slots = slots
        self._chunk = chunk
        self._chunk_busy = chunk_busy
        self._costs = costs
        self._most_rows = most_rows(slots, chunk, chunk_busy)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """The sequence is done or no longer wanted. Its KV stays as an idle prefix."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self.cache.release(sequence, keep=True)
        self.cache.compact()

    def plan(self) -> Batch:
        """The next step; its `chunks` are empty when there is nothing to do."""
        batch = Batch()
        wants = self._decodes(batch)
        budget = self._chunk_busy if wants else self._chunk
        least = least_piece(budget)
        for sequence in list(self.running):
            if sequence.slot is not None and sequence.remaining > 1:
                budget -= self._take(batch, wants, sequence, budget, least)
        while budget >= max(1, least) and (admitted := self._admit(wants)):
            if not (taken := self._take(batch, wants, admitted, budget, least)):
                break  # it had to step back: not before another step
            budget -= taken
        batch.ops, self.cache.ops = self.cache.ops, []
        drafts = self._drafts(wants) if self._costs else {}
        chunks = (self._to_chunk(s, n, drafts.get(s, 0)) for s, n in wants.items())
        batch.chunks = sorted(chunks, key=lambda chunk: chunk.slot)
        return batch

    def update(self, batch: Batch, sampled: list[Sampled]) -> None:
        """Enter the outcome of a step: one `Sampled` for each chunk that asked for it, in the order of the chunks."""
        draws = iter(sampled)
        for chunk in batch.chunks:
            self.cache.append(chunk.slot, chunk.tokens)
            chunk.sequence.computed += len(chunk.tokens) - chunk.drafts
            if chunk.sample:
                tokens = [draw.token for draw in next(draws).all()]
                batch.accepted += len(tokens) - 1
                self._enter(chunk, tokens)

    def _enter(self, chunk: Chunk, tokens: list[int]) -> None:
        """The chunk's sequence got these tokens; all but the last were guessed, and their KV is there."""
        sequence = chunk.sequence
        sequence.guesser.learn(sequence.guess, tokens)
        sequence.guess = []
        sequence.computed += len(tokens) - 1
        sequence.tokens.extend(tokens)
        self.cache.take_back(chunk.slot, sequence.computed)

    def shrink(self) -> bool:
        """Make room although the books say there is some. False if there is nobody left who could make any."""
        if self.cache.evict_all():
            return True
        if len(self.running) < 2:
            return False
        self._preempt(self.running[-1])
        return True

    # --- parts of a plan ----------------------------------------------------------------------------------------------

    def _decodes(self, batch: Batch) -> dict[Sequence, int]:
        """One token for each sequence that lacks one; makes room for them."""
        wants: dict[Sequence, int] = {}
        for sequence in list(self.running):
            if sequence.slot is not None and sequence.remaining == 1 and self._room(batch, wants, sequence, 1):
                wants[sequence] = 1
        return wants

    def _take(self, batch: Batch, wants: dict[Sequence, int], sequence: Sequence, budget: int, least: int) -> int:
        """Enter about `budget` tokens of a sequence's catching up; returns how many. It leaves no rest below `least`,
        nor rows beyond whole groups."""
        if budget <= 0:
            return 0
        count = min(sequence.remaining, budget)
        rest = sequence.remaining - count
        if 0 < rest < least:
            count += rest
        elif rest and count > GROUP:
            count -= count % GROUP
        if not self._room(batch, wants, sequence, count):
            return 0
        wants[sequence] = count
        return count

    def _room(self, batch: Batch, wants: dict[Sequence, int], sequence: Sequence, count: int) -> bool:
        """Make room for `count` more tokens. False if `sequence` itself had to step back."""
        while not self.cache.evict_idle(sum(wants.values()) + count):
            victim = self.running[-1]
            self._preempt(victim)
            batch.preempted += 1
            wants.pop(victim, None)
            if victim is sequence:
                return False
        return True

    def _preempt(self, victim: Sequence) -> None:
        self.running.remove(victim)
        self.cache.release(victim, keep=False)
        victim.preemptions += 1
        self.waiting.appendleft(victim)
        self.cache.compact()

    def _admit(self, wants: dict[Sequence, int]) -> Sequence | None:
        """Move whoever is next into a slot, if there is one and the KV cache has room for its prompt: as long as there
        is none, nobody else overtakes it."""
        if not self.waiting or len(self.running) >= self._slots or self._prefilling(wants):
            return None
        sequence = self._next()
        match = self.cache.match(sequence.tenant, sequence.tokens, sequence.public)
        if self._better_wait(sequence, match.length, wants):
            return None
        running_match = match.slot >= 0 and self.cache.slots[match.slot].owner is not None
        # An idle match counts as reclaimable already.
        shared = match.length if self.cache.unified and running_match else 0
        needed = sum(wants.values()) + len(sequence.tokens) - shared + min(HEADROOM, sequence.max_tokens)
        if self.running and self.cache.reclaimable_cells() < needed:
            return None
        self.waiting.remove(sequence)
        reused = self.cache.place(sequence)
        if sequence.cached < 0:
            sequence.cached = min(reused, sequence.n_prompt)
        self.running.append(sequence)
        self.cache.compact()
        return sequence

    def _next(self) -> Sequence:
        """Of those who wait: the first who stepped back, else the first of the tenant with the fewest running."""
        if self.waiting[0].preemptions:
            return self.waiting[0]
        running = Counter(sequence.tenant for sequence in self.running)
        return min(self.waiting, key=lambda sequence: running[sequence.tenant])

    def _prefilling(self, wants: dict[Sequence, int]) -> bool:
        """Is somebody's prompt still unfinished after this step? Then nobody else starts one."""
        return any(sequence.remaining > wants.get(sequence, 0) for sequence in self.running)

    def _better_wait(self, sequence: Sequence, cached: int, wants: dict[Sequence, int]) -> bool:
        """Will a prefix that this very step computes save a good part of the prompt?"""
        limit = len(sequence.tokens) - 1
        coming = (
            common_prefix(other.tokens, sequence.tokens, min(limit, other.computed + count, sequence.sharable(other)))
            for other, count in wants.items()
            if count > 1
        )
        return max(coming, default=0) - cached >= WAIT_FOR_PREFIX

    def _drafts(self, wants: dict[Sequence, int]) -> dict[Sequence, int]:
        """Guess for whoever decodes. How many guessed tokens each computes, if all do nothing else."""
        assert self._costs is not None
        decoding = [s for s, count in wants.items() if count == 1 and s.remaining == 1 and s.generated and s.max_tokens]
        for sequence in decoding:
            sequence.guess = sequence.guesser.guess(sequence.tokens, LENGTHS[-1])
        if len(decoding) < len(wants) or not any(s.guess for s in decoding):
            return {}
        room = self.cache.free_cells if self.cache.unified else self._most_rows
        limits = [
            (s.guesser, len(s.guess), min(s.max_tokens - s.generated, s.window - len(s.tokens)) - 1) for s in decoding
        ]
        planned = plan_drafts(limits, self._costs, most_rows=min(self._most_rows, room), equal=not self.cache.unified)
        return dict(zip(decoding, planned, strict=True))

    def _to_chunk(self, sequence: Sequence, count: int, drafts: int) -> Chunk:
        assert sequence.slot is not None
        start = sequence.computed
        sample = count == sequence.remaining and sequence.max_tokens > 0
        tokens = sequence.tokens[start : start + count]
        guess = sequence.guess[:drafts]
        tokens += guess + [sequence.tokens[-1]] * (drafts - len(guess))
        return Chunk(sequence, sequence.slot, start, tokens, sample, drafts)
