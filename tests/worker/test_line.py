"""What is told of the waiting line: the scheduler's own order, computed once for all who ask. No process, no clock."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.engine.drive import House, Plan
from tests.engine.oracle import SAMPLING

from frontdesk.worker.client import EngineClient
from frontdesk.worker.protocol import Load, SequenceOutput, Stepped, StepStats

SLOTS = 4


class Desk:
    """A client and the scheduler whose steps it is told, without a process between them."""

    def __init__(self, cells: int = 1024) -> None:
        self.house = House(Plan(slots=SLOTS, cells=cells))
        load = Load("none", 256, 1024, slots=SLOTS, threads=1, threads_least=1, chunk=64, chunk_busy=16)
        self.client = EngineClient(load)

    def ask(self, tenant: int, prompt: list[int], max_tokens: int) -> int:
        id = self.client.submit(
            tuple(prompt), sampling=SAMPLING, max_tokens=max_tokens, stop_tokens=(), top_logprobs=-1, tenant=tenant,
            on_output=lambda output: None, on_failed=lambda error: None,
        )  # fmt: skip
        assert self.house.ask(prompt, max_tokens, tenant=tenant) == id - 1
        return id

    def abort(self, id: int) -> None:
        self.client.abort(id)
        self.house.abort(id - 1)

    def step(self) -> list[int]:
        """Who got a slot for the first time."""
        engine, scheduler = self.house.engine, self.house.scheduler
        before = len(scheduler.begun)
        batch, outputs = engine.step()
        told = tuple(SequenceOutput(o.id + 1, o.tokens, o.finish, o.cached) for o in outputs)
        running, waiting = len(scheduler.running), len(scheduler.waiting)
        self.client._deliver(Stepped(told, StepStats(running, waiting, 0, 1024, 0, 0, batch.preempted, 0.0, 0.0)))
        return [sequence.id + 1 for sequence in scheduler.begun][before:]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cells", [1024, 256])
def test_who_is_told_to_be_next_is_next(seed: int, cells: int) -> None:
    """Somebody would read "number 1 in line" and then see nine others come first."""
    numbers, desk = random.Random(seed), Desk(cells)
    ids: list[int] = []
    for _ in range(400):
        if len(ids) < 60 and numbers.random() < 0.3:
            tenant = numbers.choice([1, 1, 1, 2, 3, 4])
            prompt = [numbers.randrange(40) for _ in range(numbers.randrange(1, 60))]
            ids.append(desk.ask(tenant, prompt, numbers.choice([1, 5, 40])))
        if ids and numbers.random() < 0.02:
            desk.abort(numbers.choice(ids))
            desk.step()
        places = {id: desk.client.place(id) for id in ids}
        waiting = desk.house.scheduler.waiting
        back = sum(sequence.preemptions > 0 for sequence in waiting)
        told = sorted(place for place in places.values() if place)
        assert told == list(range(1 + back, 1 + back + len(told)))
        line = sorted(places[sequence.id + 1] for sequence in list(waiting)[back:])
        begun = desk.step()
        assert [places[id] for id in begun] == line[: len(begun)]
    while desk.house.engine.busy:
        desk.step()
    assert not any(desk.client.place(id) for id in ids)
    assert desk.client.open_requests == desk.client._open.total() == len(desk.client._open) == 0


def test_a_newcomer_goes_before_a_batch() -> None:
    """A visitor would be told to stand behind all of a batch, and most who read that leave."""
    desk = Desk()
    batch = [desk.ask(1, [i, 1], 40) for i in range(40)]
    for _ in range(10):
        desk.step()
    visitor = desk.ask(2, [3, 1], 5)
    assert [desk.client.place(id) for id in [*batch[:6], visitor]] == [0, 0, 0, 0, 2, 3, 1]


def test_the_line_is_computed_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hundreds in line the service would do little else than count for each of them who stands before."""
    desk = Desk()
    ids = [desk.ask(1, [i, 1], 40) for i in range(100)]
    computed = list[int]()
    compute: Callable[[], dict[int, int]] = desk.client._line
    monkeypatch.setattr(desk.client, "_line", lambda: (computed.append(1), compute())[1])
    for rounds in range(1, 4):
        desk.step()
        assert [desk.client.place(id) for id in ids] == [0] * 4 + list(range(1, 97))
        assert len(computed) == rounds
