"""The front door: the command line, one file per verb in `commands/`; it imports the floors lazily, holds no logic."""
