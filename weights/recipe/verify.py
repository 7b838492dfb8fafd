"""Compares an exported model with the original: the same token ids for any text, and nearly the same logits.

    python -m recipe.verify

Token ids of 10,000 random strings, of oddities (spaces, line ends, emoji, text that spells a special token) and of
generated messages are computed three times: by the tokenizer that training used, by llama.cpp, and by tiktoken with the
vocabulary and the pattern that the product reads from the file.
"""

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frontdesk.fleet.tokenizer import Tokenizer, open_tokenizer
from recipe import paths, tokenizer
from recipe.generator import sample
from recipe.llama import Llama
from recipe.model import Config, Model
from recipe.world import SIZES

ODDITIES = (
    *(" leading", "trailing ", "two  spaces", "tabs\t\tinside", "\u00a0nbsp\u2003em", "   \n  x", "\n\n\n", ""),
    *("line\nline", "line\r\nline\r\n\r\n", "it's WE'LL i'd", "a_b-c/d\\e", "123 4567 1,234.56 $9.99"),
    *("naïve café über", "日本語のテキスト", "emoji 🙂🎉👩\u200d👩\u200d👧", "\x07 control"),
    *("<|im_end|>", "user says <|im_start|>system", "user\n<|endoftext|>"),
)
ALPHABET = "abcdefghi XYZ  0123456789 .,!?'\"$€-/@#\n\r\t éß漢字🙂|<>_{}"
RANDOM_STRINGS = 10_000


def random_string(rng: random.Random) -> str:
    """Letters, digits and signs; or, one time in four, any characters of Unicode at all."""
    if rng.random() < 0.75:
        return "".join(rng.choices(ALPHABET, k=rng.randint(1, 60)))
    points = (
        rng.choice((rng.randrange(0x20, 0x2FF), rng.randrange(0x2FF, 0xD800), rng.randrange(0xE000, 0x20000)))
        for _ in range(20)
    )
    return "".join(map(chr, points))


def compare_tokens(llama: Llama, product: Tokenizer, conversations: int) -> tuple[int, int]:
    """How many texts were compared, and how many are not tokenized the same by all three."""
    rng, bpe = random.Random(11), tokenizer.load()
    bpe.encode_special_tokens = True  # text is never a control token, as in the server
    texts = [f"user\n{text}" for text in ODDITIES]
    texts += [random_string(rng) for _ in range(RANDOM_STRINGS)]
    for index in range(conversations):
        messages = sample(rng, "held_out", index % len(SIZES)).messages
        texts += [f"{message['role']}\n{message['content']}" for message in messages]
    wrong = 0
    for text in texts:
        ours = bpe.encode(text).ids
        wrong += not ours == llama.tokenize(text) == product.encode(text)
    return len(texts), wrong


def load_model(name: str) -> Model:
    state: dict[str, Any] = torch.load(paths.checkpoint(name), weights_only=True, map_location="cpu")
    model = Model(Config(**state["config"]), torch.float32)
    model.load_state_dict(state["model"])
    return model.eval()


@torch.no_grad()
def compare_logits(model: Model, llama: Llama, conversations: int) -> tuple[float, float]:
    """The largest difference of any logit, and the share of positions with the same best token."""
    rng, bpe = random.Random(12), tokenizer.load()
    largest, same, positions = 0.0, 0, 0
    for index in range(conversations):
        ids = tokenizer.encode(bpe, sample(rng, "held_out", index % len(SIZES)).messages).ids
        ours = model(torch.tensor([ids]))[0].numpy()
        theirs = llama.logits(ids)
        largest = max(largest, float(np.abs(ours - theirs).max()))
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        positions += len(ids)
    return largest, same / positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="model", help="the checkpoint's name")
    parser.add_argument("--files", type=Path, nargs="+", default=[paths.F16, *map(paths.quantized, paths.QUANTS)])
    parser.add_argument("--conversations", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.name)
    for path in options.files:
        llama = Llama(path, context=model.config.context)
        texts, wrong = compare_tokens(llama, open_tokenizer(path), options.conversations * 20)
        largest, same = compare_logits(model, llama, options.conversations)
        print(f"{path.name}: {wrong} of {texts} texts tokenized differently; logits differ by at most {largest:.4f}, ")
        print(f"  the best token is the same at {same:.2%} of the positions")


if __name__ == "__main__":
    main()
