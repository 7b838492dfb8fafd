"""Averaging checkpoints. Needs PyTorch; without it this is skipped."""

# pyright: reportMissingImports=false

import pytest

NOT_TESTED = "!! NOT TESTED: training needs the recipe's packages (pip install -e '.[recipe]')"
torch = pytest.importorskip("torch", reason=NOT_TESTED)

from recipe.average import average  # noqa: E402


def state(value, step):
    return {"model": {"weight": torch.full((2,), value)}, "optimiser": step, "progress": {"step": step}}


def test_weights_are_averaged_and_the_rest_is_the_last_ones():
    """Breaks if shares are mixed up, or training would go on with an earlier checkpoint's progress."""
    done = average([state(1.0, 10), state(3.0, 20)], [0.25, 0.75])
    assert done["model"]["weight"].tolist() == [2.5, 2.5]
    assert (done["optimiser"], done["progress"]) == (20, {"step": 20})


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.0]])
def test_shares_that_do_not_fit_are_refused(shares):
    """Breaks if a slip of the hand scales all weights of a model."""
    with pytest.raises(ValueError, match="share"):
        average([state(1.0, 1), state(1.0, 2)], shares)
