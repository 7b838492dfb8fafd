"""Frontdesk: a chat inference backend for local language models."""

__version__ = "0.1.0"
