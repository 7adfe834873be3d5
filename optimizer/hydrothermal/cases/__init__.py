"""Cases that ship inside the project, and how they were drawn."""
