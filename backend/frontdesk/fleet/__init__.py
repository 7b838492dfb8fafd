"""Which models run here: their files, vocabularies, names and engines."""
