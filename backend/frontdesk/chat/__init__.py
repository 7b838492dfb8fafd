"""Conversation to token ids, token ids to text, and the replies in between."""
