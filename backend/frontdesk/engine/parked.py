"""Which prefixes are parked outside of the KV cache: an index over token ids, with a limit in bytes.

A parked prefix is the saved state of a slot that had to make room. The states themselves lie with whoever computes
(`llamacpp/runner`, and on disk `worker/shelf`) under integer handles; here is decided which handle is kept, which is
the best match and which must go. Least recently used goes first. Prefixes of one tenant only are compared, but for
what is public at their beginning: there one stands for all that begin with the same public tokens.

Keys are the token ids as big-endian bytes in a sorted list: the longest common prefix with any query is then at one of
the two neighbours of the query's place. Of two keys that begin alike to the end of one, the longer one is enough.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked prefix of `length` tokens, the first `public` of which are anybody's. `size` is in bytes of memory; 0
    for a state that lies on disk."""

    handle: int
    tenant: int
    key: bytes
    size: int
    public: int = 0

    @property
    def head(self) -> bytes:
        """What other tenants may share; empty if that is nothing."""
        return self.key[: self.public * ID_BYTES]

    @property
    def length(self) -> int:
        return len(self.key) // ID_BYTES


class ParkedPrefixes:
    """`limit` is in bytes, 0 turns parking off. A state of n tokens takes `base` + n x `per_token` bytes."""

    def __init__(self, limit: int = 0, base: int = 0, per_token: int = 1) -> None:
        self.used = 0  # bytes of memory
        self._limit = limit
        self._base = base
        self._per_token = per_token
        self._handles = 0
        self._sorted: dict[int, list[bytes]] = {}  # by tenant
        self._by_key: dict[tuple[int, bytes], Parked] = {}
        self._by_head: dict[bytes, list[tuple[int, int]]] = {}  # (length, handle) by public tokens, shortest first
        self._by_use: OrderedDict[int, Parked] = OrderedDict()  # by handle, least recently used first

    def __len__(self) -> int:
        return len(self._by_use)

    def entries(self) -> list[Parked]:
        """All of them, most recently used first."""
        return list(reversed(self._by_use.values()))

    def size(self, length: int) -> int:
        """Bytes that the state of so many tokens takes."""
        return self._base + length * self._per_token

    def match(self, tenant: int, tokens: Tokens[int], limit: int, public: int = 0) -> tuple[Parked | None, int]:
        """The parked prefix that shares most with `tokens`, and how many tokens that is, at most `limit`. Another
        tenant's serves if it begins with the same `public` tokens."""
        query = encode(tokens)
        best, best_length = None, 0
        if shared := self._by_head.get(query[: public * ID_BYTES]):
            best, best_length = self._by_use[shared[0][1]], min(public, len(tokens), limit)
        keys = self._sorted.get(tenant, [])
        at = bisect_left(keys, query)
        for key in keys[max(0, at - 1) : at + 1]:
            length = min(common_prefix(key, query, len(query)) // ID_BYTES, limit)
            if length > best_length or (best and length == best_length):
                best, best_length = self._by_key[tenant, key], length
        return best, best_length

    def covers(self, tenant: int, tokens: Tokens[int]) -> bool:
        """Is there one that begins with all of `tokens`?"""
        keys, query = self._sorted.get(tenant, []), encode(tokens)
        at = bisect_left(keys, query)
        return at < len(keys) and keys[at].startswith(query)

    def begins(self, tokens: Tokens[int]) -> bool:
        """Is there one whose public tokens are these?"""
        return encode(tokens) in self._by_head

    def add(
        self, tenant: int, tokens: Tokens[int], pinned: Parked | None = None, public: int = 0
    ) -> tuple[int, list[int]] | None:
        """Enter a prefix that nothing covers: its handle, and the handles that go for it. `None` if it cannot stay.

        `pinned` never goes. The first `public` tokens are anybody's.
        """
        size = self.size(len(tokens))
        if size + (pinned.size if pinned else 0) > self._limit:
            return None
        key = encode(tokens)
        dropped = self._shorter(tenant, key, pinned)
        excess, victims = self.used + size - self._limit, []
        for old in self._by_use.values():
            if excess <= 0:
                break
            if old is not pinned and old.size:
                victims.append(old)
                excess -= old.size
        for old in victims:
            self.remove(old)
            dropped.append(old.handle)
        return self._enter(tenant, key, size, public).handle, dropped

    def adopt(self, tenant: int, tokens: Tokens[int], public: int = 0) -> tuple[int, list[int]] | None:
        """Enter a prefix that lies on disk, as least recently used. As `add`; `None` also if another one covers it."""
        if self.covers(tenant, tokens):
            return None
        key = encode(tokens)
        dropped = self._shorter(tenant, key, None)
        entry = self._enter(tenant, key, 0, public)
        self._by_use.move_to_end(entry.handle, last=False)
        return entry.handle, dropped

    def touch(self, entry: Parked) -> None:
        """It was used just now."""
        self._by_use.move_to_end(entry.handle)

    def remove(self, entry: Parked) -> None:
        """It is no longer there."""
        keys = self._sorted[entry.tenant]
        del keys[bisect_left(keys, entry.key)]
        if not keys:
            del self._sorted[entry.tenant]
        del self._by_key[entry.tenant, entry.key], self._by_use[entry.handle]
        if entry.head:
            shared = self._by_head[entry.head]
            del shared[bisect_left(shared, (entry.length, entry.handle))]
            if not shared:
                del self._by_head[entry.head]
        self.used -= entry.size

    def _enter(self, tenant: int, key: bytes, size: int, public: int) -> Parked:
        self._handles += 1
        entry = Parked(self._handles, tenant, key, size, min(public, len(key) // ID_BYTES))
        if entry.head:
            insort(self._by_head.setdefault(entry.head, []), (entry.length, entry.handle))
        insort(self._sorted.setdefault(tenant, []), key)
        self._by_key[tenant, key] = self._by_use[entry.handle] = entry
        self.used += size
        return entry

    def _shorter(self, tenant: int, key: bytes, pinned: Parked | None) -> list[int]:
        """Remove the one that `key` begins with: if there is one, it stands right before `key`."""
        keys = self._sorted.get(tenant, [])
        at = bisect_left(keys, key)
        if not at or not key.startswith(keys[at - 1]):
            return []
        entry = self._by_key[tenant, keys[at - 1]]
        if entry is pinned:
            return []
        self.remove(entry)
        return [entry.handle]


def encode(tokens: Tokens[int]) -> bytes:
    """Token ids as bytes that sort as the ids do."""
    ids = array("I", tokens)
    assert ids.itemsize == ID_BYTES
    if sys.byteorder == "little":
        ids.byteswap()
    return ids.tobytes()


def decode(key: bytes) -> list[int]:
    """The token ids of a key."""
    ids = array("I", key)
    if sys.byteorder == "little":
        ids.byteswap()
    return ids.tolist()


def common_prefix(a: Tokens[int], b: Tokens[int], limit: int) -> int:
    """Length of the common prefix of two sequences, at most `limit`. Bisects on slices, which compare in C."""
    high = min(len(a), len(b), limit)
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
