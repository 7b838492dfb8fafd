"""Parked prefixes: the index against a model that looks at everything, and what parking saves in the engine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.drive import House, Plan
from tests.engine.oracle import VOCAB

from frontdesk.engine.batch import Park, Restore
from frontdesk.engine.core import OutOfCells
from frontdesk.engine.kv_cache import KVCache
from frontdesk.engine.parked import Parked, ParkedPrefixes, common_prefix, decode, encode

BASE, EACH = 5, 2  # bytes of a state, and of a token in it
TOKENS = st.lists(st.sampled_from([0, 1, 255, 256, 70_000]), min_size=1, max_size=6)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "adopt", "touch", "remove"]), st.integers(0, 1), TOKENS, st.integers(0, 3)
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(limit=st.sampled_from([0, 10, 30, 80, 1000]), actions=ACTIONS, query=TOKENS, public=st.integers(0, 3))
def test_the_index_is_what_a_plain_list_would_be(
    limit: int, actions: list[tuple[str, int, list[int], int]], query: list[int], public: int
) -> None:
    """A handle would leak, memory would go over its limit, or the best prefix would be overlooked."""
    index = ParkedPrefixes(limit, BASE, EACH)
    held: dict[int, Parked] = {}  # in order of use
    for action, tenant, tokens, open_to_all in actions:
        found, _ = index.match(tenant, tokens, len(tokens))
        if action in ("add", "adopt") and not index.covers(tenant, tokens):
            added = (
                index.add(tenant, tokens, None, open_to_all)
                if action == "add"
                else index.adopt(tenant, tokens, open_to_all)
            )
            if added is None:
                assert action == "add"
                assert BASE + EACH * len(tokens) > limit
                continue
            handle, dropped = added
            for old in dropped:
                oldest = next((entry.handle for entry in held.values() if entry.size), None)
                gone = held.pop(old)
                assert old == oldest or (gone.tenant == tenant and tokens[: gone.length] == decode(gone.key))
            entry = next(entry for entry in index.entries() if entry.handle == handle)
            assert (entry.tenant, decode(entry.key)) == (tenant, tokens)
            assert entry.public == min(open_to_all, len(tokens))
            held = {**held, handle: entry} if action == "add" else {handle: entry, **held}
        elif action == "touch" and found:
            index.touch(found)
            held[found.handle] = held.pop(found.handle)
        elif action == "remove" and found:
            index.remove(found)
            del held[found.handle]
        assert [entry.handle for entry in index.entries()] == list(reversed(held))
        assert index.used == sum(BASE + EACH * e.length for e in index.entries() if e.size) <= limit
    for tenant in (0, 1):
        own = [decode(entry.key) for entry in index.entries() if entry.tenant == tenant]
        longest = max((common_prefix(tokens, query, 99) for tokens in own), default=0)
        match, length = index.match(tenant, query, 99)
        assert length == longest
        assert (match is None) == (longest == 0)
        assert index.match(tenant, query, 1)[1] == min(1, longest)
        assert index.covers(tenant, query) == any(tokens[: len(query)] == query for tokens in own)
        mine = query[:public]
        head = max((len(mine) for e in index.entries() if e.public == len(mine) and decode(e.head) == mine), default=0)
        assert index.match(tenant, query, 99, public)[1] == max(longest, head)
        assert index.match(tenant, query, 1, public)[1] == min(1, max(longest, head))


@given(a=TOKENS, b=TOKENS)
def test_keys_sort_as_token_ids_do(a: list[int], b: list[int]) -> None:
    """The neighbours in the index would not be the ones that begin alike."""
    assert (encode(a) < encode(b)) == (a < b)
    assert decode(encode(a)) == a


def test_least_recently_used_goes_first() -> None:
    """Whoever is just about to come back would be the one who was forgotten."""
    index = ParkedPrefixes(3 * (BASE + EACH), BASE, EACH)
    for token in (1, 2, 3):
        index.add(0, [token])
    oldest, _ = index.match(0, [1], 1)
    assert oldest
    index.touch(oldest)
    added = index.add(0, [4])
    assert added
    assert added[1] == [2]  # the second handle


def test_what_is_pinned_stays() -> None:
    """A state would be dropped in the very step that restores it."""
    index = ParkedPrefixes(2 * (BASE + EACH), BASE, EACH)
    index.add(0, [1])
    index.add(0, [2])
    pinned, _ = index.match(0, [1], 1)
    added = index.add(0, [3], pinned)
    assert added
    assert added[1] == [2]
    assert index.add(0, [4, 5, 6], pinned) is None


# --- in the engine ----------------------------------------------------------------------------------------------------


def conversation(i: int, length: int = 120) -> list[int]:
    return [i % VOCAB, *((7 * j * j + i) % VOCAB for j in range(length - 1))]


@pytest.mark.parametrize("unified", [True, False])
def test_a_conversation_comes_back(unified: bool) -> None:
    """With more visitors than slots every turn would be computed from its first token on."""
    house = House(Plan(slots=2, idle=1, cells=300, unified=unified, parked=100_000))
    ids = [house.ask(conversation(i)) for i in range(8)]
    for id in ids:
        house.run_to_end(id)
    returned = [house.ask([*conversation(i), *house.told[i].tokens, 1, 2]) for i in ids]
    for id in returned:
        house.run_to_end(id)
    assert [house.told[id].cached for id in returned] == [[127]] * 8  # the reply's last token was never computed
    house.run()


@pytest.mark.parametrize(("limit", "came_back"), [(0, 0), (2 * 400, 2), (100_000, 8)])
def test_the_limit_holds(limit: int, came_back: int) -> None:
    """Parked conversations would take more memory than was allowed, or none would be kept."""
    house = House(Plan(slots=1, idle=0, cells=200, unified=False, window=200, parked=limit))
    for i in range(9):
        house.run_to_end(house.ask(conversation(i)))
    found = 0
    for i in (7, 6, 5, 4, 3, 2, 1, 0):  # the ninth still lies in the slot
        handles = {entry.handle for entry in house.cache.parked.entries()}
        match = house.cache.match(0, [*conversation(i), 1])
        found += match.parked is not None and match.parked.handle in handles
    assert found == came_back


def test_strangers_get_nothing_that_is_parked() -> None:
    """One customer could find out by its timing what another one has asked."""
    house = House(Plan(slots=1, idle=0, unified=False, parked=100_000))
    house.run_to_end(house.ask(conversation(1), tenant=1))
    house.run_to_end(house.ask(conversation(2), tenant=1))
    stranger = house.ask(conversation(1), tenant=2)
    house.run_to_end(stranger)
    assert house.told[stranger].cached == [0]


def test_who_steps_back_is_parked() -> None:
    """A full cache would cost its victims everything that was computed of them."""
    computed = {}
    for parked in (0, 100_000):
        house = House(Plan(slots=5, idle=4, cells=600, window=256, parked=parked))
        for i in range(8):
            house.ask(conversation(i, 100), max_tokens=150)
        house.run()
        assert house.preempted > 0
        computed[parked] = sum(batch.rows for batch in house.oracle.executed)
    assert computed[0] > 8 * 249 + 100
    assert computed[100_000] < 8 * 249 + 8 * 64


def test_a_part_is_enough() -> None:
    """A parked conversation would help nobody but those who continue all of it, and would be gone after one use."""
    house = House(Plan(slots=1, idle=0, unified=False, parked=100_000))
    house.run_to_end(house.ask([*conversation(1), 1, 1, 1]))
    house.run_to_end(house.ask(conversation(2)))
    for branch in (2, 3):
        id = house.ask([*conversation(1), branch, branch])
        house.run_to_end(id)
        assert house.told[id].cached == [120]
    ops = [op for batch in house.oracle.executed for op in batch.ops]
    assert sum(isinstance(op, Restore) for op in ops) == 1  # the second branch finds it in the slot
    assert sum(isinstance(op, Park) for op in ops) == 2


def test_nothing_is_parked_twice() -> None:
    """Copies of one system prompt would fill the memory that conversations need."""
    house = House(Plan(slots=4, idle=0, unified=False, parked=100_000))
    for _ in range(3):
        house.ask(conversation(1))
    house.run()
    house.oracle.fault = OutOfCells
    house.ask(conversation(2))
    house.step()  # every idle slot is emptied
    house.run()
    parked = [decode(entry.key)[:120] for entry in house.cache.parked.entries()]
    assert sorted(parked) == sorted([conversation(1), conversation(2)])


def test_a_damaged_state_is_not_counted_on() -> None:
    """A file that cannot be read would leave a hole in somebody's history."""
    house = House(Plan(slots=1, idle=0, unified=False, parked=100_000))
    house.run_to_end(house.ask(conversation(1)))
    house.run_to_end(house.ask(conversation(2)))
    house.cache._loadable = lambda _: False
    id = house.ask([*conversation(1), 5])
    house.run_to_end(id)
    assert house.told[id].cached == [0]
    assert house.cache.match(0, conversation(1)).parked is None
    house.run()


def test_no_branch_of_a_damaged_conversation_is_counted_on() -> None:
    """Behind one file that cannot be read the next best one would be believed unseen."""
    house = House(Plan(slots=1, idle=0, unified=False, parked=100_000))
    for branch in (2, 3):
        house.run_to_end(house.ask([*conversation(1), branch, branch]))
        house.run_to_end(house.ask(conversation(7 + branch)))
    assert sum(decode(entry.key)[:120] == conversation(1) for entry in house.cache.parked.entries()) == 2
    house.cache._loadable = lambda _: False
    id = house.ask([*conversation(1), 5])
    house.run_to_end(id)
    assert house.told[id].cached == [0]
    house.run()


def test_of_twins_one_is_kept() -> None:
    """Of two slots that hold the same neither would be kept, each left out for the other; or one customer's talk
    would not, since another has said the same."""
    cache = KVCache(4, 4 * 200, unified=False, parked=ParkedPrefixes(0, BASE, EACH))
    for slot, (tenant, length) in enumerate([(1, 100), (1, 100), (2, 100), (1, 150)]):
        cache.slots[slot].tenant = tenant
        cache.append(slot, list(range(length)))
    assert [(kept.slot, len(kept.tokens)) for kept in cache.kept()] == [(3, 150), (2, 100)]
    cache.append(3, [7])
    for slot in (0, 1, 2):
        cache.append(slot, [8])
    assert [(kept.slot, len(kept.tokens)) for kept in cache.kept()] == [(2, 101), (1, 101), (3, 151)]
