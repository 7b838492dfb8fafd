"""Whatever the arrival, the sizes and the accidents: every request gets exactly what it would get alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.engine.drive import House, Plan
from tests.engine.oracle import SAMPLING, VOCAB, alone

from frontdesk.engine.core import Interrupted, OutOfCells
from frontdesk.engine.request import Submit

FAMILIES = [[(7 * i * i + family) % VOCAB for i in range(200)] for family in range(2)]


@dataclass(frozen=True)
class Arrival:
    """A request that comes at a step and may be aborted some steps later."""

    step: int
    family: int
    shared: int  # tokens of the prompt that others may begin with as well
    own: tuple[int, ...]
    max_tokens: int
    stops: tuple[int, ...]
    emitted: int
    tenant: int
    public: int
    abort_after: int | None

    def submit(self, id: int, window: int) -> Submit:
        prompt = (*FAMILIES[self.family][: self.shared], *self.own)[: window - 1]
        public = min(self.public, self.shared, len(prompt))
        whole = Submit(id, prompt, (), self.max_tokens, self.stops, SAMPLING, -1, self.tenant, public)
        tokens, _ = alone(whole, window)
        emitted = tuple(tokens[: self.emitted])
        return Submit(id, prompt, emitted, self.max_tokens, self.stops, SAMPLING, -1, self.tenant, public)


ARRIVALS = st.builds(
    Arrival,
    step=st.integers(0, 60),
    family=st.integers(0, 1),
    shared=st.sampled_from([0, 10, 15, 16, 17, 40, 90, 150]),
    own=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=40).map(tuple),
    max_tokens=st.sampled_from([0, 1, 2, 5, 30, 200]),
    stops=st.sampled_from([(), (3,), tuple(range(8))]),
    emitted=st.sampled_from([0, 0, 1, 4, 300]),
    tenant=st.sampled_from([1, 1, 2]),
    public=st.sampled_from([0, 0, 16, 40, 90]),
    abort_after=st.sampled_from([None, None, None, 0, 1, 2, 3, 10, 40]),
)
FAULTS = st.dictionaries(st.integers(0, 120), st.sampled_from([Interrupted, OutOfCells]), max_size=12)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    window = draw(st.sampled_from([60, 100, 180, 250]))
    return Plan(
        slots=draw(st.integers(1, 5)),
        idle=draw(st.integers(0, 4)),
        window=window,
        cells=window + draw(st.sampled_from([0, 1, 10, 33, 100, 300, 1000])),
        chunk=draw(st.sampled_from([1, 3, 16, 64, 300])),
        busy=draw(st.sampled_from([1, 2, 16, 40])),
        unified=draw(st.booleans()),
        parked=draw(st.sampled_from([0, 250, 700, 2000, 100_000])),
        factor=draw(st.sampled_from([-1.0, None, 0.5, 1.0, 1.3])),
        swaps=draw(st.booleans()),
    )


TWICE = Arrival(0, 0, shared=40, own=(2, 0), max_tokens=30, stops=(), emitted=0, tenant=1, public=0, abort_after=None)


@settings(max_examples=200, deadline=None)
@given(plan=plans(), arrivals=st.lists(ARRIVALS, min_size=1, max_size=12), faults=FAULTS)
@example(Plan(2, 0, 100, 100, 3, 1, False, 0, None), [TWICE, TWICE], {29: OutOfCells})  # who comes back is guessed for
@example(Plan(2, 0, 100, 100, 3, 1, False, 0, None), [TWICE, TWICE], {30: OutOfCells})
def test_everybody_gets_what_they_would_get_alone(plan: Plan, arrivals: list[Arrival], faults: dict[int, Any]) -> None:
    """A reply would depend on the other users: wrong text, no end, a stranger's prefix, or cells lost for good."""
    house = House(plan)
    coming = {id: (arrival, arrival.submit(id, plan.window)) for id, arrival in enumerate(arrivals)}
    for step in range(130):
        for id, (arrival, request) in coming.items():
            if arrival.step == step:
                house.submit(request)
            if arrival.abort_after is not None and arrival.step + arrival.abort_after == step:
                house.abort(id)
        house.oracle.fault = faults.get(step)
        house.step()
    house.oracle.fault = None
    house.run()


@pytest.mark.parametrize("unified", [True, False])
def test_streams_go_on_beside_a_long_prompt(unified: bool) -> None:
    """Every reader would see a pause whenever somebody sends a long prompt."""
    house = House(Plan(unified=unified))
    readers = [house.ask([i, i + 1, i + 2], max_tokens=60) for i in range(3)]
    while not all(house.told[id].tokens for id in readers):
        house.step()
    house.ask(FAMILIES[0], max_tokens=2)
    steps = 0
    while not house.told[3].tokens:
        before = [len(house.told[id].tokens) for id in readers]
        house.step()
        steps += 1
        assert [len(house.told[id].tokens) for id in readers] == [count + 1 for count in before]
    assert steps == -(-200 // 16)
    house.run()


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("length", [64, 65, 79, 80, 81, 128, 143, 150, 200])
@pytest.mark.parametrize("streams", [0, 1, 3])
def test_prompts_are_cut_as_kernels_like_it(unified: bool, length: int, streams: int) -> None:
    """A rest of a few tokens takes a step of its own, and rows beyond groups of four are computed one by one: on two
    cores a prompt of 130 tokens in chunks of 128 took a quarter longer than it had to."""
    house = House(Plan(window=250, chunk=64, busy=64, unified=unified, factor=-1.0))
    for i in range(streams):
        house.ask([i, i + 1, i + 2], max_tokens=60)
    while not all(told.tokens for told in house.told.values()):
        house.step()
    done = len(house.oracle.executed)
    house.ask([90 + i % 7 for i in range(length)], max_tokens=2)
    house.run_to_end(streams)
    cut = [len(chunk.tokens) for batch in house.oracle.executed[done:] for chunk in batch.chunks if not chunk.decodes]
    assert sum(cut) == length
    assert all(16 <= count < 64 + 16 for count in cut)
    assert all(count % 4 == 0 for count in cut[:-1])


@pytest.mark.parametrize("cells", [256, 300, 600])
def test_full_cache_harms_nobody(cells: int) -> None:
    """Too little memory would be an error or a wrong text instead of a pause."""
    house = House(Plan(slots=5, cells=cells))
    for i in range(8):
        house.ask([i, *range(20)], max_tokens=150)
    house.run()
    assert house.preempted > 0


@pytest.mark.parametrize("unified", [True, False])
def test_a_repeated_prompt_is_reused(unified: bool) -> None:
    """Every repeated prompt would be computed again from the start."""
    house = House(Plan(unified=unified))
    for _ in range(2):
        id = house.ask(FAMILIES[0][:100])
        house.run_to_end(id)
    assert [house.told[id].cached for id in (0, 1)] == [[0], [99]]


@pytest.mark.parametrize("unified", [True, False])
def test_a_follow_up_turn_is_reused(unified: bool) -> None:
    """The second turn of a conversation would be as slow to begin as the first is long."""
    house = House(Plan(unified=unified))
    first = house.ask(FAMILIES[0][:100], max_tokens=20)
    house.run_to_end(first)
    second = house.ask([*FAMILIES[0][:100], *house.told[first].tokens, 1, 2, 3])
    house.run_to_end(second)
    assert house.told[second].cached == [119]  # prompt and reply; its last token was never computed
    house.run()


@pytest.mark.parametrize("unified", [True, False])
def test_copies_of_one_prompt_share_it(unified: bool) -> None:
    """`n` replies to one prompt would cost `n` times its prefill."""
    house = House(Plan(unified=unified))
    ids = [house.ask(FAMILIES[1][:150], max_tokens=10) for _ in range(4)]
    for id in ids:
        house.run_to_end(id)
    assert all(house.told[id].cached[0] >= 128 for id in ids[1:])  # two steps of 64; the third may join the first
    if unified:
        assert house.cache.used_cells < 150 + 3 * 22 + 4 * 10
    house.run()


def test_tenants_share_nothing() -> None:
    """One customer could find out by its timing what another one has asked."""
    house = House(Plan())
    for tenant in (1, 2, 1):
        id = house.ask(FAMILIES[0][:100], tenant=tenant)
        house.run_to_end(id)
    assert [house.told[id].cached for id in range(3)] == [[0], [0], [99]]


def test_old_prefixes_give_way() -> None:
    """Prefixes that nobody uses would fill the cache and slow down everybody who comes."""
    house = House(Plan(slots=2, idle=30, cells=600))
    for i in range(12):
        house.run_to_end(house.ask([i, *range(99)]))
    assert house.preempted == 0
    newest, oldest = house.ask([11, *range(99)]), house.ask([0, *range(99)])
    house.run()
    assert [house.told[id].cached for id in (newest, oldest)] == [[99], [0]]


def test_warm_up_fills_the_cache_and_says_nothing() -> None:
    """`generate: false` would send text, or never end."""
    house = House(Plan())
    warm = house.ask(FAMILIES[0][:100], max_tokens=0)
    house.run_to_end(warm)
    real = house.ask(FAMILIES[0][:120])
    house.run_to_end(real)
    assert (house.told[warm].tokens, house.told[warm].finishes) == ([], ["length"])
    assert house.told[real].cached == [100]


@pytest.mark.parametrize("length", [250, 255])
def test_the_window_ends_a_reply(length: int) -> None:
    """A reply would run out of its cells, or end before its window is full."""
    house = House(Plan(cells=256))
    id = house.ask([i % VOCAB for i in range(length)], max_tokens=1000)
    house.run()
    assert len(house.told[id].tokens) == 256 - length
    assert house.told[id].finishes == ["length"]


def test_a_stop_token_may_come_first() -> None:
    """A reply of nothing but an end-of-turn token would go on."""
    prompt = FAMILIES[0][:30]
    house = House(Plan())
    first = alone(Submit(0, tuple(prompt), (), 1, (), SAMPLING), 256)[0]
    id = house.ask(prompt, max_tokens=50, stop_tokens=tuple(first))
    house.run()
    assert (house.told[id].tokens, house.told[id].finishes) == (first, ["stop"])


@pytest.mark.parametrize("done", [0, 1, 7, 19])
def test_a_continuation_goes_on_behind_its_last_token(done: int) -> None:
    """After the death of an engine a reader would see a token twice, or none of one."""
    prompt = tuple(FAMILIES[0][:30])
    whole, _ = alone(Submit(0, prompt, (), 20, (), SAMPLING), 256)
    house = House(Plan())
    id = house.ask(list(prompt), max_tokens=20, emitted=tuple(whole[:done]))
    house.run()
    assert [*whole[:done], *house.told[id].tokens] == whole


@pytest.mark.parametrize("limit", ["max_tokens", "stop", "window"])
def test_a_continuation_at_its_limit_ends_at_once(limit: str) -> None:
    """It would never be heard of again, or get one token too many."""
    house = House(Plan(window=20 if limit == "window" else 256))
    stops = (9,) if limit == "stop" else ()
    most = 5 if limit == "max_tokens" else 100
    id = house.ask([1] * 15, max_tokens=most, emitted=(5, 6, 7, 8, 9), stop_tokens=stops)
    assert not house.engine.busy
    assert (house.told[id].tokens, len(house.told[id].finishes)) == ([], 1)


@pytest.mark.parametrize(("prompt", "max_tokens"), [([], 5), ([1] * 256, 0), ([1] * 300, 5), ([1] * 2000, 0)])
def test_what_cannot_be_computed_ends_at_once(prompt: list[int], max_tokens: int) -> None:
    """One request that no memory can hold would stop the engine for all."""
    house = House(Plan())
    id = house.ask(prompt, max_tokens=max_tokens)
    assert not house.engine.busy
    assert house.told[id].tokens == []
    assert house.told[id].finishes in (["length"], ["error"])


@pytest.mark.parametrize("length", [98, 99, 100, 101, 102, 110])
def test_a_short_common_prefix_counts_for_nothing(length: int) -> None:
    """The engine would stand still for ever over a prompt that fits only if some common tokens were shared."""
    house = House(Plan(slots=3, window=128, cells=128, chunk=300, busy=100))
    house.ask([*range(15), *[7] * 5], max_tokens=100)
    for _ in range(10):
        house.step()
    house.ask([*range(15), *[9] * (length - 15)], max_tokens=1)
    house.run()
    assert house.preempted == 0


def test_lack_of_cells_takes_idle_prefixes_first() -> None:
    """Somebody's reply would be thrown back although nobody needed the cells that old prefixes hold."""
    house = House(Plan())
    house.run_to_end(house.ask(FAMILIES[0][:100]))
    house.ask([1, 2, 3], max_tokens=20)
    house.step()
    house.oracle.fault = OutOfCells
    house.step()
    assert (len(house.scheduler.running), house.preempted, house.given_up) == (1, 0, 0)
    house.step()
    assert house.cache.used_cells <= 5
    house.run()
