"""The shipped model, and contexts of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.llamacpp.lab import SHIPPED, Lab, MakeLab

from frontdesk.llamacpp.library import open_model


@pytest.fixture(scope="module")
def model() -> Any:
    return open_model(str(SHIPPED), lambda _: None)


@pytest.fixture
def lab(model: Any) -> Iterator[MakeLab]:
    made: list[Lab] = []

    def make(**settings: Any) -> Lab:
        made.append(Lab(model, **settings))
        return made[-1]

    yield make
    for one in made:
        one.runner.close()
