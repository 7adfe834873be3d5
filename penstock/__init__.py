"""The front door: the command line, one file per verb in `commands/`. It imports the floors lazily and holds no logic."""
