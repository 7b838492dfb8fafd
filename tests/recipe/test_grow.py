"""Growing a trained model, and the vocabulary that it may grow into. Needs PyTorch; without it this is skipped."""

# pyright: reportMissingImports=false

import numpy as np
import pytest

NOT_TESTED = "!! NOT TESTED: training needs the recipe's packages (pip install -e '.[recipe]')"
torch = pytest.importorskip("torch", reason=NOT_TESTED)
pytest.importorskip("tokenizers", reason=NOT_TESTED)

from recipe.grow import carried, widened  # noqa: E402
from recipe.model import Config, Model  # noqa: E402
from recipe.settle import OFTEN, SELDOM, SHARE, settled  # noqa: E402
from recipe.tokenizer import SPACE, empty, train  # noqa: E402
from tokenizers import models, pre_tokenizers  # noqa: E402

SMALL = {"vocabulary": 50, "width": 32, "layers": 2, "head_width": 8, "context": 64}


def test_a_wider_model_computes_what_the_narrow_one_did():
    """Breaks if growing would throw away what was learned, or the new inner units could never learn."""
    torch.manual_seed(1)
    narrow = Model(Config(**SMALL, feed_forward=16), torch.float32)
    wide = Model(Config(**SMALL, feed_forward=48), torch.float32)
    wide.load_state_dict(widened(narrow.state_dict(), 48))
    ids = torch.randint(0, 50, (2, 20))
    assert torch.allclose(narrow(ids), wide(ids), atol=1e-5)
    wide(ids).square().sum().backward()
    assert wide.blocks[0].feed_forward.down.weight.grad[:, 16:].abs().min() > 0


def bpe(*merged: str):
    """A vocabulary of single bytes and some pieces, each merged of its first byte and the rest."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *merged]
    vocabulary = {token: id for id, token in enumerate(dict.fromkeys(tokens))}
    return empty(models.BPE(vocab=vocabulary, merges=[(piece[0], piece[1:]) for piece in merged]))


def test_tokens_keep_their_embeddings_and_new_ones_begin_near_their_other_form():
    """Breaks if a changed vocabulary would shuffle the embeddings, or new pieces would begin as noise."""
    former = bpe("ab", SPACE + "ab", SPACE + "c")
    latter = bpe("cd", "ab", SPACE + "ab", SPACE + "d")
    before, after = former.get_vocab(), latter.get_vocab()
    embedding = torch.randn(len(before), 8)
    result = carried(embedding, former, latter)
    assert torch.equal(result[after[SPACE + "ab"]], embedding[before[SPACE + "ab"]])
    assert torch.equal(result[after["x"]], embedding[before["x"]])
    forms = [(before[SPACE + piece], before[piece]) for piece in ("ab", "c")]
    added = torch.stack([embedding[spaced] - embedding[bare] for spaced, bare in forms]).mean(0)
    assert torch.allclose(result[after[SPACE + "d"]], embedding[before["d"]] + added)
    assert torch.allclose(result[after["cd"]], (embedding[before["c"]] + embedding[before["d"]]) / 2)


def test_a_form_that_was_never_said_follows_the_other_one():
    """Breaks if tokens that training said often are moved as well, or those that it did not stay where they cannot be
    copied to."""
    vocabulary = {"ab": 0, SPACE + "ab": 1, "c": 2, SPACE + "c": 3, "d": 4, SPACE + "d": 5, "e": 6}
    embedding = torch.randn(7, 8)
    seen = np.array([2 * OFTEN, 2 * OFTEN, 5, 2 * OFTEN, SELDOM, SELDOM, 0])
    said = np.array([2 * OFTEN, 0, SELDOM - 1, 0, SELDOM - 1, 0, 0])
    result, count = settled(embedding, vocabulary, seen, said)
    assert count == 1
    wanted = embedding[3] - (embedding[1] - embedding[0])
    assert torch.allclose(result[2], embedding[2] + SHARE * (wanted - embedding[2]))
    assert torch.equal(result[[0, 1, 3, 4, 5, 6]], embedding[[0, 1, 3, 4, 5, 6]])


def test_a_word_is_cut_the_same_wherever_it_stands():
    """Breaks if a name behind a space would have other pieces than in a call or at the start of a line: then it cannot
    be copied piece by piece."""
    tokenizer = train(80, 5)
    for word in ("shipping", "Jeebern", "collect_parcel", "hello@skouhouwarehouse.com"):
        plain = tokenizer.encode(word).tokens
        for before in (" ", "(", '{"', "\n", ' "', "- ", "@"):
            tokens = tokenizer.encode(before + word).tokens
            cut = [token.removeprefix(SPACE) for token in tokens if token.removeprefix(SPACE)]
            assert cut[-len(plain) :] == plain, (before, word, tokens)
