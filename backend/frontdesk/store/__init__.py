"""Remembers: conversations, replies token by token, what was paid for, and keys; in SQLite or PostgreSQL."""
