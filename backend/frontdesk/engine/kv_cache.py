"""Whose KV is where: an exact mirror of llama.cpp's KV cache, kept in integers.

A slot is a llama.cpp sequence id. It is running (has an owner), idle (its request ended; the KV is kept for the next
one that begins the same way) or empty. In the unified layout all slots draw cells from one pool and may share them;
with streams every slot has its own cells and a copied prefix is a real copy. Requests of one tenant share whatever
they have in common; those of several tenants what is public in both: the operator's own words at the beginning.

What an idle slot holds, or a sequence that has to step back, is parked before it is trimmed (`engine/parked`): saved
outside of the cache, and put back into a slot when a request comes that begins alike.

Every method that changes the cache appends to `ops` what llama.cpp must do; the scheduler hands them to the runner.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from frontdesk.engine.batch import CacheOp, Copy, Drop, Park, Restore, Swap, Trim
from frontdesk.engine.parked import Parked, ParkedPrefixes, common_prefix, decode
from frontdesk.engine.sequence import Sequence

MIN_SHARED = 16  # tokens; copying less is not worth the bookkeeping
TAKE_OVER = 0.9  # an idle slot of one's own is taken over when this part of it is reused, else kept and copied from
MIN_PARKED = 64  # tokens; computing fewer again is as good as keeping them


@dataclass(slots=True)
class Slot:
    """`tokens` are the ids whose KV the slot holds, `cells` where (one cell a token)."""

    tokens: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    tenant: int = 0
    public: int = 0  # of its tokens, so many at the beginning are anybody's
    owner: Sequence | None = None
    used: int = 0  # tick of last use


@dataclass(frozen=True, slots=True)
class Match:
    """`length` tokens of a prefix are held by slot `slot`, or else by `parked`; by neither if `length` is 0."""

    length: int = 0
    slot: int = -1
    parked: Parked | None = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens, and the slot or the handle of the parked state that holds its KV."""

    tenant: int
    public: int
    tokens: list[int]
    slot: int = -1
    handle: int = 0


class KVCache:
    """`cells` for all slots together; `unified` says whether they share one pool (see module docstring).

    `loadable` is asked before a parked state is counted on; a state that lies on disk may be damaged. Without `swaps`
    no sequence ever changes its slot.
    """

    def __init__(
        self,
        slots: int,
        cells: int,
        *,
        unified: bool,
        swaps: bool = True,
        parked: ParkedPrefixes | None = None,
        loadable: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.slots = [Slot() for _ in range(slots)]
        self.cells = cells
        self.unified = unified
        self.parked = ParkedPrefixes() if parked is None else parked
        self.ops: list[CacheOp] = []
        self._swaps = swaps
        self._loadable = loadable
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

    def match(self, tenant: int, tokens: Tokens[int], public: int = 0) -> Match:
        """The longest prefix of `tokens` held by a slot, or parked, that this tenant may share and that is worth it.

        At most `len(tokens) - 1`: the last token is always computed, for its logits. Of another tenant's no more than
        is among the first `public` tokens of both.
        """
        limit = len(tokens) - 1
        best, rank = -1, (0, False, 0)
        for i, slot in enumerate(self.slots):
            most = limit if slot.tenant == tenant else min(limit, public, slot.public)
            if slot.tokens and most:
                length = common_prefix(slot.tokens, tokens, most)
                found = (length, self._takes_over(slot, length, tenant), -len(slot.tokens))  # a copy copies all of it
                if length and found > rank:
                    best, rank = i, found
        best_length = rank[0]
        parked, length = self.parked.match(tenant, tokens, limit, public)
        if parked and length >= best_length + MIN_SHARED and self._fits(parked.length):
            return Match(length, parked=parked)
        return Match(best_length, best) if best_length >= MIN_SHARED else Match()

    def place(self, sequence: Sequence) -> int:
        """Give a waiting sequence a slot and as much of its prefix as is cached; returns the length of that prefix.

        There must be a slot without owner. Idle slots may lose their contents, least recently used first.
        """
        match = self.match(sequence.tenant, sequence.tokens, sequence.public)
        while match.parked and not self._loadable(match.parked.handle):
            self._drop(match.parked)
            match = self.match(sequence.tenant, sequence.tokens, sequence.public)
        target = self._target(match, sequence.tenant)
        if target == match.slot:
            if not self._takes_over(self.slots[target], match.length, sequence.tenant):
                self._park(target)
            self._trim(target, match.length)
        else:
            self._give_up(target, match.parked)
            if match.parked:
                self._restore(match.parked, target, match.length, sequence.tenant)
            elif match.length:
                self._copy(match.slot, target, match.length)
        slot = self.slots[target]
        slot.owner, slot.tenant, slot.public = sequence, sequence.tenant, sequence.public
        sequence.slot, sequence.computed = target, match.length
        return match.length

    def append(self, slot_id: int, tokens: Tokens[int]) -> None:
        """Note that these tokens' KV was computed into the slot's end. The cells must be free."""
        slot = self.slots[slot_id]
        cells = [self._free.pop() for _ in tokens]
        for cell in cells:
            self._references[cell] = 1
        slot.tokens.extend(tokens)
        slot.cells.extend(cells)
        slot.used = self._now()

    def take_back(self, slot_id: int, length: int) -> None:
        """Forget what was computed into a slot from position `length` on: guesses that were wrong."""
        self._trim(slot_id, length)

    def release(self, sequence: Sequence, *, keep: bool) -> None:
        """The sequence leaves its slot. What was computed stays as an idle prefix if `keep`, else it is parked."""
        assert sequence.slot is not None
        slot = self.slots[sequence.slot]
        slot.owner = None
        slot.used = self._now()
        if not keep:
            self._give_up(sequence.slot)
        sequence.slot, sequence.computed = None, 0

    def evict_idle(self, wanted: int, pinned: Parked | None = None) -> bool:
        """Empty idle slots, least recently used first, until `wanted` cells are free. False if that is not enough."""
        while len(self._free) < wanted:
            if not (idle := self._idle()):
                return False
            self._give_up(min(idle, key=lambda i: self.slots[i].used), pinned)
        return True

    def evict_all(self) -> bool:
        """Empty every idle slot. False if there was none."""
        idle = self._idle()
        for slot_id in idle:
            self._give_up(slot_id)
        return bool(idle)

    def compact(self) -> None:
        """Close holes: running sequences move to the lowest slots. For streams: neighbours are computed together."""
        if self.unified or not self._swaps:
            return
        running = [i for i, slot in enumerate(self.slots) if slot.owner is not None]
        for hole in range(len(running)):
            if self.slots[hole].owner is None:
                self._swap(running.pop(), hole)

    def adopt(self, tenant: int, public: int, tokens: Tokens[int]) -> int | None:
        """Take a state that lies on disk for parked: its handle, or `None` if it is not needed."""
        if (added := self.parked.adopt(tenant, tokens, public)) is None:
            return None
        handle, dropped = added
        self.ops.extend(Drop(old) for old in dropped)
        return handle

    def kept(self) -> list[Prefix]:
        """All that is worth keeping when the engine stops, in slots and parked in memory; last used first."""
        found: list[Prefix] = []
        for index, slot in sorted(enumerate(self.slots), key=lambda item: -item[1].used):
            if self._worth(slot) < MIN_PARKED or self._begins_elsewhere(slot, len(slot.tokens), more=1):
                continue
            if not any(twin.tenant == slot.tenant and twin.tokens == slot.tokens for twin in found):
                found.append(Prefix(slot.tenant, slot.public, list(slot.tokens), slot=index))
        parked = (entry for entry in self.parked.entries() if entry.size)
        return found + [Prefix(entry.tenant, entry.public, decode(entry.key), handle=entry.handle) for entry in parked]

    # --- the mirror's own moves ---------------------------------------------------------------------------------------

    def _fits(self, length: int) -> bool:
        """Could a state of so many tokens be put back into a slot, now?"""
        if not self.unified:
            return length <= self.cells // len(self.slots)
        return length <= len(self._free) or length <= self.reclaimable_cells()

    def _idle(self) -> list[int]:
        return [i for i, slot in enumerate(self.slots) if slot.owner is None and slot.tokens]

    def _give_up(self, slot_id: int, pinned: Parked | None = None) -> None:
        """Park what a slot without owner holds, if that is worth it, and empty it. `pinned` stays parked."""
        self._park(slot_id, pinned)
        self._trim(slot_id, 0)

    def _park(self, slot_id: int, pinned: Parked | None = None) -> None:
        slot = self.slots[slot_id]
        if self._worth(slot) < MIN_PARKED or self._begins_elsewhere(slot, len(slot.tokens)):
            return
        if added := self.parked.add(slot.tenant, slot.tokens, pinned, slot.public):
            handle, dropped = added
            self.ops.extend(Drop(old) for old in dropped)
            self.ops.append(Park(slot_id, handle))

    def _worth(self, slot: Slot) -> int:
        """How many tokens would have to be computed again without this slot: not those that are public and that another
        slot or something parked begins with as well."""
        public = min(slot.public, len(slot.tokens))
        return len(slot.tokens) - (public if self._begins_elsewhere(slot, public, public=True) else 0)

    def _begins_elsewhere(self, slot: Slot, length: int, *, public: bool = False, more: int = 0) -> bool:
        """Does another slot, at least so many tokens `more` long, or something parked begin with the first `length`
        tokens of this one? One of the same tenant; or, if `public`, one where they are anybody's."""
        head = slot.tokens[:length]
        return (self.parked.begins(head) if public else self.parked.covers(slot.tenant, head)) or any(
            other is not slot
            and (other.public >= length if public else other.tenant == slot.tenant)
            and len(other.tokens) >= length + more
            and other.tokens[:length] == head
            for other in self.slots
        )

    def _restore(self, parked: Parked, slot_id: int, length: int, tenant: int) -> None:
        """Fill an empty slot from a parked state, which goes if the slot now holds all of it."""
        if self.unified and not self.evict_idle(parked.length, parked):
            raise AssertionError("a state was matched that there is no room for")
        slot = self.slots[slot_id]
        slot.tokens[:] = decode(parked.key)[:length]
        slot.cells[:] = [self._free.pop() for _ in range(length)]
        slot.tenant = tenant
        for cell in slot.cells:
            self._references[cell] = 1
        self.ops.append(Restore(parked.handle, slot_id, length))
        if length == parked.length:
            self._drop(parked)
        else:
            self.parked.touch(parked)

    def _drop(self, parked: Parked) -> None:
        self.parked.remove(parked)
        self.ops.append(Drop(parked.handle))

    def _target(self, match: Match, tenant: int) -> int:
        """The slot that a new sequence gets: the matching one if it may take that over, else the least useful one."""
        if match.slot >= 0 and self._takes_over(self.slots[match.slot], match.length, tenant):
            return match.slot
        free = [i for i, slot in enumerate(self.slots) if slot.owner is None]
        return min(free, key=lambda i: (bool(self.slots[i].tokens), self.slots[i].used))

    def _takes_over(self, slot: Slot, length: int, tenant: int) -> bool:
        """May a sequence that shares so much of an idle slot trim the rest away? Of another tenant's, nothing: that
        is somebody's talk."""
        return slot.owner is None and length >= len(slot.tokens) * (TAKE_OVER if slot.tenant == tenant else 1)

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
