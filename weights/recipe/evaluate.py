"""Judges a GGUF file through llama.cpp: generated held-out conversations by skill, and questions about the demo shop.

    python -m recipe.evaluate
    python -m recipe.evaluate --file build/model-q8_0.gguf --cases 200 --show

Every reply is greedy and is given the right history, so that one wrong answer spoils no other. A reply is right if it
holds the values and signs that its case names: wording is not judged. This file knows no checkpoints.
"""

import argparse
import random
from collections import defaultdict
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from recipe import paths
from recipe.generator import sample
from recipe.llama import Llama
from recipe.talk import contains
from recipe.words import Split, load
from recipe.world import SIZES

Score = dict[str, list[bool]]


def generated(llama: Llama, split: Split, level: int, cases: int, seed: int, show: bool) -> Score:
    """Scores by skill on freshly generated conversations of one level."""
    rng, score, done = random.Random(seed), defaultdict(list), 0
    with tqdm(total=cases, desc=f"level {level}", mininterval=2, leave=False) as bar:
        while done < cases:
            conversation = sample(rng, split, level)
            for case in conversation.cases:
                history = conversation.messages[: case.index]
                reply = llama.reply(history)
                right = case.holds(reply)
                score[case.skill].append(right)
                if show and not right:
                    wanted = conversation.messages[case.index]["content"]
                    tqdm.write(f"[{case.skill}] {history[-1]['content']!r}: {reply!r}, wanted {wanted!r}")
            done += len(conversation.cases)
            bar.update(len(conversation.cases))
    return score


def persona(name: str) -> str:
    """The body of a prompt file, without its front matter."""
    return (paths.PROMPTS / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)[2].strip()


def demo(llama: Llama) -> list[tuple[str, str, bool]]:
    """Question, reply, and whether it is right."""
    system, rows = {"role": "system", "content": persona("demo_shop")}, []
    for question in load("demo")["question"]:
        reply = llama.reply([system, {"role": "user", "content": question["ask"]}])
        right = any(all(contains(reply, part) for part in parts) for parts in question["any"])
        rows.append((question["ask"], reply, right))
    return rows


def table(scores: list[Score]) -> str:
    """A Markdown table: one row for each skill, one column for each level."""
    lines = ["| skill | " + " | ".join(f"level {level}" for level in range(len(scores))) + " |"]
    lines.append("|---" * (len(scores) + 1) + "|")
    for skill in sorted({skill for score in scores for skill in score}):
        lines.append(f"| {skill} | " + " | ".join(cell(score.get(skill, [])) for score in scores) + " |")
    totals = [[right for rights in score.values() for right in rights] for score in scores]
    lines.append("| **all** | " + " | ".join(cell(total) for total in totals) + " |")
    return "\n".join(lines)


def cell(rights: list[bool]) -> str:
    return f"{sum(rights)}/{len(rights)}" if rights else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=paths.SHIPPED)
    parser.add_argument("--split", choices=get_args(Split), default="held_out")
    parser.add_argument("--cases", type=int, default=200, help="about so many for each level")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--show", action="store_true", help="print the wrong replies")
    options = parser.parse_args()
    llama = Llama(options.file)
    rows = demo(llama)
    for question, reply, right in rows:
        print(f"{'right' if right else 'WRONG'}  {question}  ->  {reply!r}")
    print(f"demo shop: {sum(right for _, _, right in rows)} of {len(rows)}\n")
    levels = range(len(SIZES))
    scores = [generated(llama, options.split, n, options.cases, options.seed + n, options.show) for n in levels]
    print(table(scores))


if __name__ == "__main__":
    main()
