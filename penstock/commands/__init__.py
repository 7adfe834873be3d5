"""The verbs, one file each: what they are called with, and which function of the floors answers."""
