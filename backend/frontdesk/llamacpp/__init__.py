"""Computes: the only folder that imports llama_cpp."""
