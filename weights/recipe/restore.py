"""Makes a checkpoint and a tokenizer from a shipped GGUF file, so that training can go on where a release ended.

    python -m recipe.restore --tokens 28e6         build/model.pt and build/tokenizer.json
    python -m recipe.restore --tokens 28e6 --grow  build/model.pt as wide as `Config`, for the build/tokenizer.json

The optimiser starts anew, and the weights are those of the quantized file: Q8_0 costs next to nothing, a smaller type
more. `--tokens` is what the card says the model has seen; the schedule of `recipe.train` counts on from there. Without
`--grow` shape and vocabulary stay those of the file, whatever the recipe makes by now.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import Tokenizer, models

from recipe import paths, tokenizer
from recipe.export import TENSORS
from recipe.grow import carried, widened
from recipe.model import Config, Model
from recipe.optimiser import Optimiser
from recipe.tokenizer import SPECIALS, empty
from recipe.train import ADAM_RATE, MUON_RATE, Progress, save


def metadata(reader: gguf.GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()


def read_config(reader: gguf.GGUFReader) -> Config:
    def of(key: str) -> Any:
        return metadata(reader, f"qwen3.{key}")

    return Config(
        vocabulary=len(metadata(reader, "tokenizer.ggml.tokens")),
        width=of("embedding_length"),
        layers=of("block_count"),
        heads=of("attention.head_count"),
        kv_heads=of("attention.head_count_kv"),
        head_width=of("attention.key_length"),
        feed_forward=of("feed_forward_length"),
        context=of("context_length"),
        rope_base=of("rope.freq_base"),
    )


def read_weights(reader: gguf.GGUFReader, config: Config) -> dict[str, torch.Tensor]:
    """Every tensor in float32, under the names of `model.Model`."""
    found = {
        tensor.name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in reader.tensors
    }
    weights = {"embedding.weight": found["token_embd.weight"], "norm.weight": found["output_norm.weight"]}
    for layer in range(config.layers):
        for ours, theirs in TENSORS.items():
            weights[f"blocks.{layer}.{ours}.weight"] = found[f"blk.{layer}.{theirs}.weight"]
    return weights


def read_tokenizer(reader: gguf.GGUFReader) -> Tokenizer:
    tokens = metadata(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in metadata(reader, "tokenizer.ggml.merges")]
    tokenizer = empty(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def grown(
    config: Config, weights: dict[str, torch.Tensor], former: Tokenizer, latter: Tokenizer
) -> tuple[Config, dict[str, torch.Tensor]]:
    """Shape and weights with the latter vocabulary and as wide a feed-forward as `Config` has by now."""
    width = max(config.feed_forward, Config().feed_forward)
    weights = widened(weights, width) | {"embedding.weight": carried(weights["embedding.weight"], former, latter)}
    return replace(config, feed_forward=width, vocabulary=latter.get_vocab_size()), weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=paths.shipped("q8_0"))
    parser.add_argument("--tokens", type=float, required=True, help="tokens that the model has seen")
    parser.add_argument("--grow", action="store_true", help="into the shape and the vocabulary that the recipe has now")
    parser.add_argument("--name", default="model", help="the checkpoint's name")
    options = parser.parse_args()
    paths.BUILD.mkdir(exist_ok=True)
    reader = gguf.GGUFReader(str(options.file))
    config, former = read_config(reader), read_tokenizer(reader)
    weights = read_weights(reader, config)
    if options.grow:
        config, weights = grown(config, weights, former, tokenizer.load())
    else:
        former.save(str(paths.TOKENIZER))
    model = Model(config)
    found = model.load_state_dict(weights, strict=False)
    if found.missing_keys != ["about.weight"] or found.unexpected_keys:  # no file holds the probe
        raise SystemExit(f"{options.file.name} is no file of this recipe's: {found}")
    progress = Progress(tokens=int(options.tokens))
    save(options.name, model, Optimiser(model, MUON_RATE, ADAM_RATE), progress)
    print(f"{paths.checkpoint(options.name).name}: {asdict(model.config)}")


if __name__ == "__main__":
    main()
