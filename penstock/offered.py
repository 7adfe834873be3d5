"""What the verbs over recipes, baselines and simulations share: one is named first, and its settings are the flags."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.arguments import words_after
from penstock.setting_flags import add_settings, given_settings, named_first

if TYPE_CHECKING:
    from optimizer.registry import Shelf
    from optimizer.training.progress import Progress

RoomT = TypeVar("RoomT")


def add_offered(
    parser: argparse.ArgumentParser,
    *,
    shelf: "Callable[[], Shelf[Any]]",
    verb: str,
    metavar: str,
    meaning: str,
    words: Sequence[str],
) -> None:
    """Add the name of one of a shelf, and its settings when the command line names it.

    An unknown name is told before any flag is. The shelf is asked for only then, so that help need not wait for it.
    """

    def known(name: str) -> str:
        if name not in shelf().folders:
            shelf().load_settings(name)  # raises NotOffered with the nearest known name
        return name

    parser.add_argument("name", metavar=metavar, type=known, help=meaning)
    after = words_after(verb, words)
    name = named_first(after, shelf().folders) if after else None
    if name is not None:
        add_settings(parser, shelf().load_settings(name), title=f"settings of {name}")


def load_offered(shelf: "Shelf[RoomT]", arguments: argparse.Namespace) -> "tuple[RoomT, Any, Progress]":
    """Return what does the work, its settings as they were given, and where progress is shown."""
    from optimizer.registry import make_settings

    settings = make_settings(shelf.load_settings(arguments.name), given_settings(arguments))
    room = shelf.load(arguments.name)
    from optimizer.training.progress import progress_for

    return room, settings, progress_for(sys.stderr, is_silent=arguments.json)
