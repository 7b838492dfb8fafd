"""The recipe of the shipped model: synthetic front-desk conversations, a tokenizer, a small decoder and its training.

Nothing in here is imported by the product; the product knows only the GGUF file and `weights/manifest.toml`.
"""
