"""The command line: one file per command. Everything is decided elsewhere; here it is asked for and shown."""
