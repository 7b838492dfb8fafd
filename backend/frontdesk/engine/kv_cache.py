"""Whose KV is where: an exact mirror of llama.cpp's KV cache, kept in integers.

A slot is a llama.cpp sequence id. It is running (has an owner), idle (its request ended; the KV is kept for the next
one that begins the same way) or empty. In the unified layout all slots draw cells from one pool and may share them;
with streams every slot has its own cells and a copied prefix is a real copy. Only requests of one tenant share.

Every method that changes the cache appends to `ops` what llama.cpp must do; the scheduler hands them to the runner.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from frontdesk.engine.batch import CacheOp, Copy, Swap, Trim
from frontdesk.engine.sequence import Sequence

MIN_SHARED = 16  # tokens; copying less is not worth the bookkeeping
TAKE_OVER = 0.9  # an idle slot is taken over when this part of it is reused, else it is kept and copied from


@dataclass(slots=True)
class Slot:
    """`tokens` are the ids whose KV the slot holds, `cells` where (one cell a token)."""

    tokens: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    tenant: int = 0
    owner: Sequence | None = None
    used: int = 0  # tick of last use


class KVCache:
    """`cells` for all slots together; `unified` says whether they share one pool (see module docstring)."""

    def __init__(self, slots: int, cells: int, *, unified: bool) -> None:
        self.slots = [Slot() for _ in range(slots)]
        self.cells = cells
        self.unified = unified
        self.ops: list[CacheOp] = []
        self._free = list(range(cells - 1, -1, -1))
        self._references = [0] * cells
        self._tick = 0

    @property
    def used_cells(self) -> int:
        return self.cells - len(self._free)

    @property
    def free_cells(self) -> int:
        return len(self._free)

    def reclaimable_cells(self) -> int:
        """Cells that would be free if every idle slot were emptied."""
        running: dict[int, None] = {}
        for slot in self.slots:
            if slot.owner is not None:
                running.update(dict.fromkeys(slot.cells))
        return self.cells - len(running)

    def match(self, tenant: int, tokens: Tokens[int]) -> tuple[int, int]:
        """(slot, length) of the longest prefix of `tokens` held by any slot of this tenant that is worth sharing.

        (-1, 0) if there is none. At most `len(tokens) - 1`: the last token is always computed, for its logits.
        """
        best, best_length = -1, 0
        for i, slot in enumerate(self.slots):
            if slot.tokens and slot.tenant == tenant:
                length = common_prefix(slot.tokens, tokens, len(tokens) - 1)
                if length > best_length or (length == best_length and length and slot.owner is None):
                    best, best_length = i, length
        return (best, best_length) if best_length >= MIN_SHARED else (-1, 0)

    def place(self, sequence: Sequence) -> int:
        """Give a waiting sequence a slot and as much of its prefix as is cached; returns the length of that prefix.

        There must be a slot without owner. Idle slots may lose their contents, least recently used first.
        """
        match, length = self.match(sequence.tenant, sequence.tokens)
        target = self._target(match, length)
        slot = self.slots[target]
        if target != match:
            self._trim(target, 0)
            if length:
                self._copy(match, target, length)
        self._trim(target, length)
        slot.owner, slot.tenant = sequence, sequence.tenant
        sequence.slot, sequence.computed = target, length
        return length

    def append(self, slot_id: int, tokens: Tokens[int]) -> None:
        """Note that these tokens' KV was computed into the slot's end. The cells must be free."""
        slot = self.slots[slot_id]
        cells = [self._free.pop() for _ in tokens]
        for cell in cells:
            self._references[cell] = 1
        slot.tokens.extend(tokens)
        slot.cells.extend(cells)
        slot.used = self._now()

    def release(self, sequence: Sequence, *, keep: bool) -> None:
        """The sequence leaves its slot; what was computed stays there as an idle prefix if `keep`."""
        assert sequence.slot is not None
        slot = self.slots[sequence.slot]
        slot.owner = None
        slot.used = self._now()
        if not keep:
            self._trim(sequence.slot, 0)
        sequence.slot, sequence.computed = None, 0

    def evict_idle(self, wanted: int) -> bool:
        """Empty idle slots, least recently used first, until `wanted` cells are free. False if that is not enough."""
        while len(self._free) < wanted:
            idle = [i for i, slot in enumerate(self.slots) if slot.owner is None and slot.tokens]
            if not idle:
                return False
            self._trim(min(idle, key=lambda i: self.slots[i].used), 0)
        return True

    def evict_all(self) -> bool:
        """Empty every idle slot. False if there was none."""
        idle = [i for i, slot in enumerate(self.slots) if slot.owner is None and slot.tokens]
        for slot_id in idle:
            self._trim(slot_id, 0)
        return bool(idle)

    def compact(self) -> None:
        """Close holes: running sequences move to the lowest slots. For streams: neighbours are computed together."""
        if self.unified:
            return
        running = [i for i, slot in enumerate(self.slots) if slot.owner is not None]
        for hole in range(len(running)):
            if self.slots[hole].owner is None:
                self._swap(running.pop(), hole)

    # --- the mirror's own moves ---------------------------------------------------------------------------------------

    def _target(self, match: int, length: int) -> int:
        """The slot that a new sequence gets: the matching one if most of it is reused, else the least useful one."""
        free = [i for i, slot in enumerate(self.slots) if slot.owner is None]
        chosen = min(free, key=lambda i: (bool(self.slots[i].tokens), self.slots[i].used))
        if match in free and (length >= TAKE_OVER * len(self.slots[match].tokens) or chosen == match):
            chosen = match
        return chosen

    def _trim(self, slot_id: int, length: int) -> None:
        slot = self.slots[slot_id]
        if len(slot.tokens) <= length:
            return
        for cell in slot.cells[length:]:
            self._references[cell] -= 1
            if not self._references[cell]:
                self._free.append(cell)
        del slot.tokens[length:], slot.cells[length:]
        self.ops.append(Trim(slot_id, length))

    def _copy(self, src: int, dst: int, length: int) -> None:
        source, slot = self.slots[src], self.slots[dst]
        slot.tokens[:] = source.tokens[:length]
        if self.unified:
            slot.cells[:] = source.cells[:length]
            for cell in slot.cells:
                self._references[cell] += 1
        else:
            slot.cells[:] = [self._free.pop() for _ in range(length)]
            for cell in slot.cells:
                self._references[cell] = 1
        source.used = self._now()
        self.ops.append(Copy(src, dst, length))

    def _swap(self, a: int, b: int) -> None:
        self.slots[a], self.slots[b] = self.slots[b], self.slots[a]
        for i in (a, b):
            if (owner := self.slots[i].owner) is not None:
                owner.slot = i
        self.ops.append(Swap(a, b))

    def _now(self) -> int:
        self._tick += 1
        return self._tick


def common_prefix(a: Tokens[int], b: Tokens[int], limit: int) -> int:
    """Length of the common prefix of two token lists, at most `limit`. Bisects on slices, which compare in C."""
    high = min(len(a), len(b), limit)
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
