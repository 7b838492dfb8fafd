"""Timing steps of an open model: in the form that was asked for, and no more cells than it said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from frontdesk.engine.trial import Shape, Trial
from frontdesk.llamacpp import trials
from frontdesk.llamacpp.library import ContextPlan, llama_cpp, open_context, open_model
from frontdesk.llamacpp.trials import timed

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "frontdesk-small-q8_0.gguf"
SHAPES = (Shape("decode", 2), Shape("verify", 4), Shape("prompt", 64))


@pytest.fixture(scope="module")
def model() -> Any:
    return open_model(str(SHIPPED), lambda _: None)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The plans, cells and numbers of threads that llama.cpp is given meanwhile."""
    seen: dict[str, list[Any]] = {"plans": [], "cells": [], "threads": []}
    use = llama_cpp.llama_set_n_threads

    def opened(model: Any, plan: ContextPlan) -> Any:
        context = open_context(model, plan)
        seen["plans"].append(plan)
        seen["cells"].append(llama_cpp.llama_n_ctx(context))
        return context

    def set_n_threads(context: Any, one: int, several: int) -> None:
        seen["threads"].append((one, several))
        use(context, one, several)

    monkeypatch.setattr(trials, "open_context", opened)
    monkeypatch.setattr(llama_cpp, "llama_set_n_threads", set_n_threads)
    return seen


@pytest.mark.parametrize(("exact", "threads"), [(True, {(1, 2)}), (False, {(2, 2)})])
def test_a_model_is_measured_as_it_is_served(
    model: Any, seen: dict[str, list[Any]], exact: bool, threads: set[tuple[int, int]]
) -> None:
    """An exact model's chunks and threads would be chosen by times of kernels that it never runs."""
    found = timed(model, Trial(SHAPES, (2,), 1, 5.0, exact=exact))
    assert {timing.shape for timing in found.timings} == set(SHAPES)
    assert [plan.exact for plan in seen["plans"]] == [exact]
    assert set(seen["threads"]) == threads


@pytest.mark.parametrize("resident", [0, 100, 256, 600])
def test_it_takes_the_cells_that_it_says(model: Any, seen: dict[str, list[Any]], resident: int) -> None:
    """What bounds the memory of a trial would look at another number than llama.cpp."""
    trial = Trial(SHAPES, (1,), 1, 5.0, resident)
    assert {timing.shape for timing in timed(model, trial).timings} == set(SHAPES)
    assert seen["cells"] == [trial.cells]


def test_the_first_step_does_not_count(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is time for one round only, what is asked first would pay for reading the weights."""
    done: list[Shape] = []

    def step(self: Any, shape: Shape) -> float:
        done.append(shape)
        return 100.0 if len(done) == 1 else 1.0

    monkeypatch.setattr(trials._Bench, "_time", step)
    found = timed(model, Trial(SHAPES, (1,), 5, 0.0))
    assert [timing.seconds for timing in found.timings] == [1.0]
