"""How byte-level BPE vocabularies cut text before merging: one regex per family, and the alphabet for bytes.

Copied from llama.cpp's `llm_tokenizer_bpe` and the names it accepts for `tokenizer.ggml.pre`; only families with a
single regex are here, since several are applied in stages. Knows no vocabulary.
"""

from __future__ import annotations

from typing import Final

CONTROL: Final = 3  # tokenizer.ggml.token_type

_CONTRACTIONS: Final = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_TAIL: Final = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL
_QWEN35: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _TAIL
_LLAMA3: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL
# tiktoken drops text that no alternative matches, llama.cpp keeps it: hence the last `|\s+`.
_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_FAMILIES: Final = {
    _QWEN2: "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open megrez grok-2",
    _QWEN35: "qwen35",
    _LLAMA3: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 dbrx smaug-bpe chatglm-bpe glm4 glm5",
    _GPT2: "gpt-2 phi-2 gigachat a.x-4.0 mellum modern-bert mpt olmo jais trillion granite-docling exaone4",
}
PATTERNS: Final[dict[str, str]] = {name: pattern for pattern, names in _FAMILIES.items() for name in names.split()}

# llama.cpp's `ignore_merges`: a whole word that is a token is that token, even where no merges lead to it.
WHOLE_WORDS: Final = frozenset(
    ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "glm4", "glm5"]
)

# What a fast tokenizer must get right before it is trusted.
SAMPLE: Final = (
    "",
    " ",
    "Hello, world! It's 9:30 on 14 March 2026; that'll be $1,234.50.",
    "I'M we'Re THEY'LL don't 'tis rock'n'roll 'S",
    "a\nb\n c\r\n\r\n  d\t\te   \n   f    ",
    "    def f(x):\n        return {'a': [1, 22, 333, 4444, 55555]}  # ok\n\n\n",
    "Grüße aus München – naïve café, Ångström, İstanbul, ŒUVRE",
    "Быстрая лиса. Η γρήγορη αλεπού. שלום עולם. مرحبا بالعالم ١٢٣",
    "我今天很高兴。日本語のテスト、カタカナ。한국어 문장입니다.",
    "हिन्दी में पाठ, ภาษาไทย, தமிழ், e\u0301 o\u0308 n\u0303",
    "😀👩‍👩‍👧‍👦🏳️‍🌈 🇩🇪 ✨✨ ①②③ ½ ² Ⅷ",
    "<|im_start|>system\nno<|im_end|> <|endoftext|> <s></s> [INST] <think>\n\n</think>",
    "http://example.com/a?b=c&d=%20#e  user@example.com  C:\\temp\\x.txt  --flag=value",
    "!!!???...;;;,,,((([[[{{{}}}]]])))***&&&^^^%%%$$$###@@@~~~```",
    "\u00a0\u2003\u3000x\u200b\u200d\ufeff\u0000\u0001\u001f\x7f\u0085 \u2028\u2029",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + " " * 37 + "\n" * 9 + "0123456789" * 3,
)


def byte_alphabet() -> list[tuple[str, int]]:
    """The character that stands for each byte in a byte-level vocabulary, in byte order of printable bytes first.

    Source: `bytes_to_unicode` of GPT-2's encoder.py: printable bytes stand for themselves, the others for U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [(chr(byte), byte) for byte in printable] + [(chr(0x100 + i), byte) for i, byte in enumerate(others)]
