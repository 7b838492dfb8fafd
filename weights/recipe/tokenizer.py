"""Trains the byte-level BPE tokenizer and encodes conversations the way the server will.

    python -m recipe.tokenizer

The pre-tokenizer pattern is the one llama.cpp calls `qwen2`: digits stand alone, which is what makes numbers copyable.
Words are too: the merges are learned on words without the space before them, and a space joins a word's first piece
only at the end, by the last merges. So a word is cut into the same pieces behind a space, a quote, a bracket or at the
start of a line, and a tool's name or a product can be copied from one to the other piece by piece; a plain BPE cut four
words in five differently there. tiktoken, which knows no merges but only which pieces exist, cuts the same.
Text between two special tokens is encoded in one piece ("user\\n" and the message together), because a server that
renders a chat template does the same. This file knows nothing of losses or batches.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from recipe import paths
from recipe.generator import sample
from recipe.talk import Message
from recipe.world import SIZES

PIECES = 3072  # bytes and what is merged of them, spaces apart
VOCABULARY = 5120  # these and the commonest pieces with a space before them
SPACE = "Ġ"  # how byte-level BPE writes a space
FULL_LENGTH, HEAVIEST = 16, 8  # tokens from which a reply's tokens weigh 1; the most that a token weighs
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAD, START, END = 0, 1, 2
WORD, BARE_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{L}+"
QWEN2_PATTERN = (
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for index in range(count):
        for message in sample(rng, "train", index % len(SIZES)).messages:
            yield f"{message['role']}\n{message['content']}"


def empty(model: models.Model, pattern: str = QWEN2_PATTERN) -> Tokenizer:
    """A tokenizer around a model: how text is cut before it, and put together after it."""
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(count: int, seed: int) -> Tokenizer:
    """The pieces, learned on words without what stands before them; then spaced forms of the commonest."""
    bare = empty(models.BPE(), QWEN2_PATTERN.replace(WORD, BARE_WORD))
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=True,
    )
    bare.train_from_iterator(texts(count, seed), trainer)
    learned = json.loads(bare.to_str())["model"]
    vocabulary, merges = learned["vocab"], [tuple(merge) for merge in learned["merges"]]
    for piece in spaced(bare, texts(count // 4, seed), VOCABULARY - len(vocabulary)):
        vocabulary[SPACE + piece] = len(vocabulary)
        merges.append((SPACE, piece))
    tokenizer = empty(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def spaced(bare: Tokenizer, sample: Iterator[str], count: int) -> list[str]:
    """The letters' pieces that most often stand right behind a space."""
    seen: Counter[str] = Counter()
    for text in sample:
        tokens = bare.encode(text).tokens
        seen.update(piece for before, piece in pairwise(tokens) if before == SPACE and piece[0].isalpha())
    return [piece for piece, _ in seen.most_common(count)]


def load() -> Tokenizer:
    return Tokenizer.from_file(str(paths.TOKENIZER))


@dataclass
class Encoded:
    """A ChatML conversation as tokens.

    `learned` is the weight of each token in the loss, 0 where the assistant does not predict it. For each message,
    `first` is the position of its content's first token, and `starts` and `ends` are the characters of the content
    that its tokens cover, the end token as one more character.
    """

    ids: list[int] = field(default_factory=list)
    learned: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    starts: list[list[int]] = field(default_factory=list)
    ends: list[list[int]] = field(default_factory=list)


def encode(tokenizer: Tokenizer, messages: list[Message]) -> Encoded:
    """The tokens of a conversation. The few of a short reply weigh more: a letter would hardly count beside whole
    sentences."""
    done = Encoded()
    pieces = tokenizer.encode_batch([f"{message['role']}\n{message['content']}" for message in messages])
    heads = {role: len(tokenizer.encode(f"{role}\n").ids) for role in {message["role"] for message in messages}}
    newline = tokenizer.encode("\n").ids
    for message, piece in zip(messages, pieces, strict=True):
        head = heads[message["role"]]
        length = len(piece.ids) - head + 1
        weight = min(HEAVIEST, max(1, FULL_LENGTH // length)) if message["role"] == "assistant" else 0
        before, size = len(message["role"]) + 1, len(message["content"])
        done.first.append(len(done.ids) + 1 + head)
        done.starts.append([*(start - before for start, _ in piece.offsets[head:]), size])
        done.ends.append([*(end - before for _, end in piece.offsets[head:]), size + 1])
        done.ids += [START, *piece.ids, END, *newline]
        done.learned += [0] * (1 + head) + [weight] * length + [0] * len(newline)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=123)
    options = parser.parse_args()
    paths.BUILD.mkdir(exist_ok=True)
    tokenizer = train(options.conversations, options.seed)
    tokenizer.save(str(paths.TOKENIZER))
    print(f"{paths.TOKENIZER.name}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
