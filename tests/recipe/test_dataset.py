"""Batches of training: what two ranks get at the same time. Needs PyTorch; without it this is skipped."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

NOT_TESTED = "!! NOT TESTED: training needs the recipe's packages (pip install -e '.[recipe]')"
pytest.importorskip("torch", reason=NOT_TESTED)

from recipe import dataset, paths  # noqa: E402
from recipe.dataset import Conversations  # noqa: E402
from recipe.pointing import HEADS  # noqa: E402

COUNT = 1500


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data file in which every token of a conversation is its number."""
    lengths = np.random.default_rng(3).integers(20, 900, COUNT)
    tokens = int(lengths.sum())
    monkeypatch.setattr(paths, "dataset", lambda kind: tmp_path / f"{kind}.npz")
    np.savez(
        paths.dataset("usual"),
        ids=np.repeat(np.arange(1, COUNT + 1), lengths).astype(np.uint16),
        learned=np.ones(tokens, np.uint8),
        pointing=np.zeros((tokens, len(HEADS), 2), np.uint16),
        about=np.zeros(tokens, np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


@pytest.mark.usefixtures("data")
def test_ranks_share_the_conversations_out() -> None:
    """A conversation would be learned twice as often as the others, or never; or a rank wait for one whose batches are
    longer."""
    ranks = [islice(Conversations("usual", 2048, 7, rank, 2), 2 * COUNT) for rank in range(2)]
    seen: list[int] = []
    apart: list[int] = []
    for pair in zip(*ranks, strict=True):
        apart.append(abs(pair[0].ids.shape[1] - pair[1].ids.shape[1]))
        here = [int(number) for batch in pair for number in batch.ids[:, 0]]
        if len(seen) + len(here) > COUNT - COUNT // 20:
            break
        seen += here
    assert len(seen) == len(set(seen))
    assert len(seen) > COUNT - COUNT // 10
    assert np.median(apart) <= 2 * dataset.ROUND_TO
