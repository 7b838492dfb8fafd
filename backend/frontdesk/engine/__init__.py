"""Decides: who gets how many tokens of the next step, and where their KV lives. Integers only: no I/O, no clock."""
