"""The root of anticipated errors.

Each anticipated failure is named for what could not be done, is defined in the module that raises it and derives
from one of the three kinds below, which say how the command line ends. Programming errors stay ValueError or TypeError.
"""


class PenstockError(Exception):
    """Something anticipated could not be done; the message says what was expected, found, where, and what to do."""

    exit_code = 4


class UsageProblem(PenstockError):
    """The question cannot be asked that way: a missing file, an unknown name, bounds that cannot be told."""

    exit_code = 2


class ContentRefused(PenstockError):
    """The content of a log, a table or a request is not what it must be."""

    exit_code = 3


class Unable(PenstockError):
    """What was asked is well formed but cannot be done: an artifact refused, an extra missing, a solver failed."""

    exit_code = 4
