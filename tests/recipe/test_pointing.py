"""The supervision of attention: labels on the right tokens, and a loss that tells looking right from looking wrong.

Needs the recipe's own packages (`pip install -e '.[recipe]'`); without them it is skipped.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import random

import pytest

NOT_TESTED = "!! NOT TESTED: training needs the recipe's packages (pip install -e '.[recipe]')"
torch = pytest.importorskip("torch", reason=NOT_TESTED)
pytest.importorskip("tokenizers", reason=NOT_TESTED)

from recipe import pointing, tokenizer  # noqa: E402
from recipe.generator import sample  # noqa: E402
from recipe.sources import NOWHERE  # noqa: E402

LENGTH, WIDTH = 12, 8


@pytest.fixture(scope="module")
def bpe():
    return tokenizer.train(120, seed=1)


@pytest.mark.parametrize("level", range(4))
def test_the_labelled_tokens_hold_the_line_and_begin_the_value(bpe, level):
    """Breaks if labels are shifted: attention would be taught to look beside what it should read."""
    rng, seen = random.Random(5), 0
    for _ in range(20):
        talk = sample(rng, "train", level)
        encoded = tokenizer.encode(bpe, talk.messages)
        labels = pointing.labels(encoded, talk.pointers)
        for pointer in talk.pointers:
            at = encoded.first[pointer.reply] + pointer_token(encoded, pointer) - 1
            (line_start, line_end), (value_start, value_end), _ = labels[at].tolist()
            if pointer.line == NOWHERE:
                assert (line_start, line_end) == (0, 1)
                continue
            text = talk.messages[pointer.line.message]["content"]
            assert text[pointer.line.start : pointer.line.end] in bpe.decode(encoded.ids[line_start:line_end])
            if pointer.value is None:
                assert (value_start, value_end) == (0, 0)
                continue
            value = text[pointer.value.start : pointer.value.end]
            begun = bpe.decode([encoded.ids[value_start]]).strip(' "([').rstrip('"')
            assert value_end == value_start + 1
            assert value.startswith(begun) or not begun.isascii(), (value, begun)
            seen += 1
    assert seen > 50


@pytest.mark.parametrize("level", [0, 2])
def test_the_copying_head_goes_through_a_value_with_the_reply(bpe, level):
    """Breaks if a token of a price is taught to come from anywhere but its own place in the prompt."""
    rng, whole, values = random.Random(7), 0, 0
    for _ in range(20):
        talk = sample(rng, "train", level)
        encoded = tokenizer.encode(bpe, talk.messages)
        labels = pointing.labels(encoded, talk.pointers)
        for pointer in talk.pointers:
            if pointer.value is None or pointer.value == NOWHERE:
                continue
            pairs = list(pointing.copied(encoded, pointer))
            start, end = pointing.stretch(encoded, pointer.value)
            assert [source for _, source in pairs] == sorted({source for _, source in pairs})
            assert all(start <= source < end for _, source in pairs)
            assert all(encoded.ids[position + 1] == encoded.ids[source] for position, source in pairs[1:])
            assert all(tuple(labels[position, pointing.COPYING]) == (source, source + 1) for position, source in pairs)
            values += 1
            whole += len(pairs) == end - start
    assert whole > 0.6 * values > 30


def pointer_token(encoded, pointer):
    """The first token of the reply that the pointer speaks of, counted from the reply's start."""
    return next(index for index, end in enumerate(encoded.ends[pointer.reply]) if end > pointer.start)


def look(target):
    """Queries and keys of one head whose every position looks at `target` as sharply as can be, and nowhere else."""
    query, key = torch.zeros(1, LENGTH, WIDTH), torch.zeros(1, LENGTH, WIDTH)
    query[..., 0], key[0, target, 0] = 30.0, 1.0
    return query, key


def wanted(position, start, end):
    stretches = torch.zeros(1, LENGTH, 2, dtype=torch.long)
    stretches[0, position] = torch.tensor((start, end))
    return stretches


FIRST = torch.zeros(1, LENGTH, dtype=torch.bool).index_fill(1, torch.tensor([9]), True)


def test_a_head_that_looks_right_costs_nothing():
    """Breaks if the loss pulls at attention that is already where it should be."""
    done = pointing.pointed(*look(4), wanted(9, 3, 6), FIRST)
    assert done.loss.item() < 1e-6
    assert (done.right, done.count) == (1, 1)


def test_a_head_that_looks_elsewhere_costs_much():
    """Breaks if the loss does not tell wrong from right."""
    done = pointing.pointed(*look(7), wanted(9, 3, 6), FIRST)
    assert done.loss.item() > 20
    assert (done.right, done.count) == (0, 1)


def test_what_comes_later_is_not_seen():
    """Breaks if a position is judged by keys that attention does not let it see."""
    assert pointing.pointed(*look(11), wanted(9, 0, 10), FIRST).loss.item() < 1e-6


def test_open_positions_cost_nothing():
    """Breaks if positions without a label, or a batch without any, are taught something."""
    done = pointing.pointed(*look(4), torch.zeros(1, LENGTH, 2, dtype=torch.long), FIRST)
    assert (done.loss.item(), done.count) == (0, 0)


def test_the_loss_turns_a_head_to_where_it_should_look():
    """Breaks if no gradient reaches the queries and keys."""
    torch.manual_seed(1)
    query = torch.randn(1, LENGTH, WIDTH, requires_grad=True)
    key = torch.randn(1, LENGTH, WIDTH, requires_grad=True)
    optimiser = torch.optim.SGD([query, key], lr=1.0)
    before = pointing.pointed(query, key, wanted(9, 3, 4), FIRST).loss.item()
    for _ in range(50):
        optimiser.zero_grad()
        pointing.pointed(query, key, wanted(9, 3, 4), FIRST).loss.backward()
        optimiser.step()
    assert pointing.pointed(query, key, wanted(9, 3, 4), FIRST).loss.item() < 0.1 * before
