"""What the probe is told: the kind of every question and line, at the token where it can be known.

Needs the recipe's own packages (`pip install -e '.[recipe]'`); without them it is skipped.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import random

import pytest

NOT_TESTED = "!! NOT TESTED: training needs the recipe's packages (pip install -e '.[recipe]')"
torch = pytest.importorskip("torch", reason=NOT_TESTED)
pytest.importorskip("tokenizers", reason=NOT_TESTED)

from recipe import about, tokenizer  # noqa: E402
from recipe.generator import sample  # noqa: E402


@pytest.fixture(scope="module")
def bpe():
    return tokenizer.train(120, seed=1)


@pytest.mark.parametrize("level", range(4))
def test_replies_are_labelled_before_their_first_token_and_lines_at_their_last(bpe, level):
    """Breaks if labels are shifted: the probe would have to name what it cannot have read yet."""
    rng, seen = random.Random(7), set()
    for _ in range(20):
        talk = sample(rng, "train", level)
        encoded = tokenizer.encode(bpe, talk.messages)
        labels = about.labels(encoded, talk)
        for span, kind in talk.lines:
            at = next(i for i, end in enumerate(encoded.ends[0]) if end >= span.end)
            assert about.KINDS[labels[encoded.first[0] + at]] == kind
        for pointer in talk.pointers:
            if pointer.about and not pointer.start:
                assert about.KINDS[labels[encoded.first[pointer.reply] - 1]] == pointer.about
                seen.add(pointer.about)
    assert len(seen) > 20


def test_a_probe_that_reads_the_kind_has_no_loss_and_a_blind_one_has_all(bpe):
    """Breaks if the loss does not reward reading: nothing would be learned from it."""
    wanted = torch.tensor([[0, 3, 0, 5]])
    stream = torch.zeros(1, 4, 8)
    stream[0, 1, 3] = stream[0, 3, 5] = 1.0
    seeing = about.told(stream, 20 * torch.eye(8), wanted)
    assert (seeing.right, seeing.count) == (2, 2)
    assert seeing.loss < 0.01
    blind = about.told(stream, torch.zeros(8, 8), wanted)
    assert blind.loss.item() == pytest.approx(torch.tensor(8.0).log().item(), rel=1e-4)
    assert about.told(stream, torch.zeros(8, 8), torch.zeros_like(wanted)).count == 0
