"""Trains the byte-level BPE tokenizer and encodes conversations the way the server will.

    python -m recipe.tokenizer

The pre-tokenizer pattern is the one llama.cpp calls `qwen2`: digits stand alone, which is what makes numbers copyable.
Text between two special tokens is encoded in one piece ("user\\n" and the message together), because a server that
renders a chat template does the same. This file knows nothing of losses or batches.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from recipe import paths
from recipe.generator import sample
from recipe.talk import Message
from recipe.world import SIZES

VOCABULARY = 4096
FULL_LENGTH, HEAVIEST = 16, 8  # tokens from which a reply's tokens weigh 1; the most that a token weighs
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAD, START, END = 0, 1, 2
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for index in range(count):
        for message in sample(rng, "train", index % len(SIZES)).messages:
            yield f"{message['role']}\n{message['content']}"


def empty(model: models.Model) -> Tokenizer:
    """A tokenizer around a model: how text is cut before it, and put together after it."""
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(count: int, seed: int) -> Tokenizer:
    tokenizer = empty(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=True,
    )
    tokenizer.train_from_iterator(texts(count, seed), trainer)
    return tokenizer


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
