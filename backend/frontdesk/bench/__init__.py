"""A load generator and its arithmetic: what `frontdesk bench` and the scripts in bench/ measure servers with.

It sees a server as any client does, by its URL, and imports nothing of ours but the errors. Knows no terminal.
"""
