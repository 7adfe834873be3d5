"""Foreign logs become feedback: one importer per format."""
