"""What tenants share: a persona's KV, computed once for all who talk to it, at nobody's expense."""

from __future__ import annotations

import pytest
from tests.engine.drive import House, Plan
from tests.engine.oracle import VOCAB

from frontdesk.engine.batch import Copy, Restore

PERSONA = [7 * i * i % VOCAB for i in range(200)]
OTHER = [(7 * i * i + 1) % VOCAB for i in range(200)]


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("parked", [False, True])
def test_tenants_share_what_is_public(unified: bool, parked: bool) -> None:
    """Every new visitor of a widget would wait until the persona that all of them talk to is computed once more; or
    one could find out by its timing what another one has said to it."""
    house = House(Plan(slots=8, idle=0, cells=1500, unified=unified, parked=100_000 * parked))
    persona, said = PERSONA[:80], [5, 6, 7, 8] * 10
    house.run_to_end(house.ask([*persona, *said], tenant=1, public=80))
    for other in range(8 * parked):  # so that every slot is wanted by somebody else
        house.run_to_end(house.ask([other, *OTHER[:90]], tenant=9))
    found = []
    for tenant, public in ((2, 80), (3, 30), (4, 0), (1, 80)):
        id = house.ask([*persona, *said, tenant], tenant=tenant, public=public)
        house.run_to_end(id)
        found += house.told[id].cached
    assert found == [80, 30, 0, 120]
    house.run()


def test_a_persona_that_is_being_computed_is_waited_for() -> None:
    """Visitors that come at once would each compute the persona, side by side."""
    house = House(Plan(chunk=200))
    persona = PERSONA[:150]
    ids = [house.ask([*persona, tenant, 1, 2], tenant=tenant, public=150) for tenant in range(1, 5)]
    for id in ids:
        house.run_to_end(id)
    assert [house.told[id].cached for id in ids] == [[0], [150], [150], [150]]


@pytest.mark.parametrize(("publics", "together"), [((0, 0), 2), ((150, 0), 2), ((0, 150), 2), ((150, 150), 1)])
def test_nobody_waits_for_what_is_not_shared(publics: tuple[int, int], together: int) -> None:
    """One could find out by the wait, a step longer, that another one is asking the very same."""
    house = House(Plan(chunk=200))
    for tenant, public in enumerate(publics, 1):
        house.ask([*PERSONA[:150], tenant, 1, 2], tenant=tenant, public=public)
    house.step()
    assert len(house.oracle.executed[0].chunks) == together
    house.run()


def talk(house: House, tenant: int, length: int, said: list[int] | None = None) -> tuple[list[int], int]:
    """One turn of a visitor, who has said something before or says so many tokens now: what the next turn begins with,
    and how much of this one was cached."""
    prompt = said or [*PERSONA[:150], tenant, *[(tenant + i * i) % VOCAB for i in range(length - 1)]]
    id = house.ask(prompt, tenant=tenant, public=150)
    house.run_to_end(id)
    return [*prompt, *house.told[id].tokens, 3, 4, 5], house.told[id].cached[0]


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("slots", [4, 2])
def test_who_comes_takes_nothing_from_who_was_there(unified: bool, slots: int) -> None:
    """A new visitor, of whose prompt the persona is nearly all, would take another one's slot over and trim their talk
    away: everybody's second turn would be computed from the persona on."""
    house = House(Plan(slots=slots, idle=0, cells=2000, unified=unified, parked=100_000))
    said = [talk(house, tenant, 9)[0] for tenant in (1, 2, 3)]
    if slots == 4:
        assert sum(bool(slot.tokens) for slot in house.cache.slots) == 3, "there was an empty one for each"
        for tenant, before in enumerate(said, 1):
            _, cached = talk(house, tenant, 0, before)
            assert cached == len(before) - 4  # a reply's last token, and what is said now
    house.run()


def test_few_words_are_not_parked_with_a_whole_persona() -> None:
    """Everybody who asks one question would park a copy of the persona, and push real talks out of memory."""
    house = House(Plan(slots=2, idle=0, unified=False, parked=5 * (7 + 3 * 250)))
    long, _ = talk(house, 99, 90)
    for tenant in range(1, 20):
        talk(house, tenant, 30)
    assert len(house.cache.parked) == 1
    _, cached = talk(house, 99, 0, long)
    assert cached == len(long) - 4
    house.run()


def test_one_copy_of_the_persona_is_kept() -> None:
    """After a while with other visitors nobody would have it any more, though it was parked for."""
    house = House(Plan(slots=1, idle=0, unified=False, parked=100_000))
    talk(house, 1, 9)
    house.run_to_end(house.ask(OTHER[:120], tenant=50))
    assert talk(house, 2, 9)[1] == 150
    assert [len(kept.tokens) for kept in house.cache.kept() if kept.public] == [150 + 9 + 7]
    house.run()


@pytest.mark.parametrize("parked", [False, True])
def test_the_shortest_is_copied(parked: bool) -> None:
    """A copy between streams moves all that the source holds: hundreds of megabytes of somebody's long talk, for a
    persona of a few, while everybody waits."""
    house = House(Plan(slots=1 if parked else 4, idle=0, unified=False, parked=100_000 * parked))
    for tenant, length in ((1, 66), (2, 80), (3, 90)):
        talk(house, tenant, length)
    if parked:
        house.run_to_end(house.ask(OTHER[:120], tenant=50))
    lengths = {entry.handle: entry.length for entry in house.cache.parked.entries()}
    lengths |= {-1 - i: len(slot.tokens) for i, slot in enumerate(house.cache.slots)}
    house.ask([*PERSONA[:150], 9, 9], tenant=7, public=150)
    house.step()
    sources = [op.handle for batch in house.oracle.executed[-1:] for op in batch.ops if isinstance(op, Restore)]
    sources += [-1 - op.src for batch in house.oracle.executed[-1:] for op in batch.ops if isinstance(op, Copy)]
    assert [lengths[source] for source in sources] == [150 + 66 + 7]
    house.run()
