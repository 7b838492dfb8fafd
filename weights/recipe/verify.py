"""Compares an exported model with the original: the same token ids for any text, and nearly the same logits.

    python -m recipe.verify

Token ids are compared on generated text and on oddities (spaces, line ends, emoji, text that spells a special token).
"""

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
ALPHABET = "abc XYZ 019 .,!?'\"$€-\n\r\t éß漢字🙂|<>_"


def compare_tokens(llama: Llama, conversations: int) -> tuple[int, int]:
    """How many texts were compared, and how many differ."""
    rng, bpe = random.Random(11), tokenizer.load()
    bpe.encode_special_tokens = True  # text is never a control token, as in the server
    texts = [f"user\n{text}" for text in ODDITIES]
    texts += ["".join(rng.choices(ALPHABET, k=rng.randint(1, 60))) for _ in range(500)]
    for index in range(conversations):
        messages = sample(rng, "held_out", index % len(SIZES)).messages
        texts += [f"{message['role']}\n{message['content']}" for message in messages]
    return len(texts), sum(bpe.encode(text).ids != llama.tokenize(text) for text in texts)


def load_model(name: str) -> Model:
    state: dict[str, Any] = torch.load(paths.checkpoint(name), weights_only=True, map_location="cpu")
    model = Model(Config(**state["config"]))
    model.load_state_dict(state["model"])
    return model.eval()


@torch.no_grad()
def compare_logits(model: Model, llama: Llama, conversations: int) -> tuple[float, float]:
    """The largest difference of any logit, and the share of positions with the same best token."""
    rng, bpe = random.Random(12), tokenizer.load()
    largest, same, positions = 0.0, 0, 0
    for index in range(conversations):
        ids, _ = tokenizer.encode(bpe, sample(rng, "held_out", index % len(SIZES)).messages)
        ours = model(torch.tensor([ids]))[0].numpy()
        theirs = llama.logits(ids)
        largest = max(largest, float(np.abs(ours - theirs).max()))
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        positions += len(ids)
    return largest, same / positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="model", help="the checkpoint's name")
    parser.add_argument("--files", type=Path, nargs="+", default=[paths.F16, paths.Q8])
    parser.add_argument("--conversations", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.name)
    for path in options.files:
        llama = Llama(path, context=model.config.context)
        texts, wrong = compare_tokens(llama, options.conversations * 20)
        largest, same = compare_logits(model, llama, options.conversations)
        print(f"{path.name}: {wrong} of {texts} texts tokenized differently; logits differ by at most {largest:.4f}, ")
        print(f"  the best token is the same at {same:.2%} of the positions")


if __name__ == "__main__":
    main()
