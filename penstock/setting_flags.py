"""Settings as flags: each field of a recipe's or a baseline's settings, with its meaning and default."""

import argparse
import re
from collections.abc import Container, Sequence
from typing import Any, Final, Literal, get_args, get_origin

_PREFIX: Final = "setting_"
_MEANING: Final = re.compile(r"^        (\w+): (.+(?:\n {12}.+)*)$", re.MULTILINE)


def add_settings(parser: argparse.ArgumentParser, kind: type, *, title: str) -> None:
    """Add one flag for each field of a msgspec struct; a field without a default is a required flag."""
    import msgspec

    meanings = setting_meanings(kind)
    group = parser.add_argument_group(title)
    for field in msgspec.structs.fields(kind):
        default = "required" if field.required else f"default: {_shown_default(field.default)}"
        text = f"{meanings.get(field.name, '')} ({default})".strip().replace("%", "%%")
        flag = f"--{field.encode_name.replace('_', '-')}"
        form = _form(field.type) | ({"required": True} if field.required else {})
        group.add_argument(flag, help=text, dest=_PREFIX + field.name, default=argparse.SUPPRESS, **form)


def given_settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings that the command line gave, by name."""
    return {name.removeprefix(_PREFIX): value for name, value in vars(arguments).items() if name.startswith(_PREFIX)}


def setting_meanings(kind: type) -> dict[str, str]:
    """Return what each setting means, by its name: an entry of the struct's docstring, in one line.

    >>> class Settings:
    ...     '''Say what is learned.
    ...
    ...     Attributes:
    ...         epochs: passes over the log,
    ...             for each candidate.
    ...     '''
    >>> setting_meanings(Settings)["epochs"]
    'passes over the log, for each candidate.'
    """
    return {name: " ".join(text.split()) for name, text in _MEANING.findall(kind.__doc__ or "")}


def named_first(words: Sequence[str], known: Container[str]) -> str | None:
    """Return the first word that is known, or none.

    >>> named_first(["--json", "shop"], {"shop", "store"})
    'shop'
    """
    return next((word for word in words if word in known), None)


def _form(kind: Any) -> dict[str, Any]:
    """Return how a flag takes values of a type: a switch, a list that may be repeated, or one value."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is tuple:
        return {"action": "extend", "type": lambda text: text.split(","), "metavar": "VALUE,..."}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    return {"metavar": "VALUE"}


def _shown_default(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
