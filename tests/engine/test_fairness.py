"""Who gets the next slot: nobody takes the line for themselves, nobody starves, and who is next is not overtaken."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.engine.drive import House, Plan
from tests.engine.oracle import VOCAB

PROMPT = [(5 * i * i + 3) % VOCAB for i in range(100)]


def begun(house: House) -> list[int]:
    """Ids in the order in which they got a slot for the first time."""
    return [sequence.id for sequence in house.scheduler.begun]


def flood(house: House, tenant: int, count: int, max_tokens: int = 20) -> list[int]:
    return [house.ask([tenant, i, 1], max_tokens=max_tokens, tenant=tenant) for i in range(count)]


@pytest.mark.parametrize("slots", [1, 3])
def test_one_tenant_is_served_in_order_of_arrival(slots: int) -> None:
    """Where nobody says who they are, some would wait for no reason."""
    house = House(Plan(slots=slots))
    ids = [house.ask([i, *PROMPT[: i % 7 * 9]], max_tokens=1 + i % 5 * 4, tenant=7) for i in range(20)]
    house.run()
    assert begun(house) == ids


@pytest.mark.parametrize("unified", [True, False])
def test_a_flood_of_one_tenant_is_one_place_in_the_line(unified: bool) -> None:
    """Whoever sends a batch of requests would make everybody else wait until all of it is answered."""
    house = House(Plan(slots=4, unified=unified))
    batch = [house.ask([1, i, 1], max_tokens=20 + i, tenant=1) for i in range(40)]
    while len(house.scheduler.running) < 4:
        house.step()
    visitors = [house.ask([9, tenant], tenant=tenant) for tenant in (2, 3)]
    for visitor in visitors:
        house.run_to_end(visitor)
    assert begun(house)[:6] == [*batch[:4], *visitors]
    house.run()
    assert begun(house)[6:] == batch[4:]


def test_slots_are_shared_alike() -> None:
    """Of three who each send a batch, the first would have all the slots."""
    house = House(Plan(slots=6))
    for tenant in range(3):
        flood(house, tenant, 20)
    while len({sequence.tenant for sequence in house.scheduler.waiting}) == 3:
        house.step()
        counts = Counter(sequence.tenant for sequence in house.scheduler.running)
        assert max(counts.values(), default=0) <= 2
    house.run()


def test_newcomers_starve_nobody() -> None:
    """As long as new visitors come, somebody's second request would never be answered."""
    house = House(Plan(slots=1))
    batch = flood(house, 1, 4, max_tokens=2)
    coming = []
    for tenant in range(100, 130):
        coming.append(house.ask([tenant % VOCAB, 5], max_tokens=2, tenant=tenant))
        house.step()
    assert set(batch) <= set(begun(house))
    house.run()
    assert [id for id in begun(house) if id in coming] == coming


def test_who_stepped_back_comes_before_newcomers() -> None:
    """Somebody who reads a reply would see it stand still while others who came later get theirs."""
    house = House(Plan(slots=3, idle=0, cells=256))
    flood(house, 1, 3, max_tokens=150)
    while not house.preempted:
        house.step()
    house.ask([4, 5, 6], max_tokens=1, tenant=2)
    (back,) = [sequence for sequence in house.scheduler.waiting if sequence.preemptions]
    while back in house.scheduler.waiting:
        assert begun(house) == [0, 1, 2]
        house.step()
    house.run()
    assert house.told[3].finishes


def test_nobody_overtakes_who_is_next() -> None:
    """A long prompt that waits for room would wait for as long as short ones come that fit."""
    house = House(Plan(slots=4, idle=0, cells=256))
    flood(house, 1, 2, max_tokens=40)
    while not all(house.told[id].tokens for id in (0, 1)):
        house.step()
    long = house.ask(PROMPT * 2, tenant=2)
    short = [house.ask([3, i], max_tokens=1, tenant=tenant) for i, tenant in enumerate((1, 3))]
    house.run_to_end(short[1])
    assert begun(house) == [0, 1, long, short[1]]
    house.run()
