"""What domains offer the command line, by name: recipes, baselines and simulations; imported when asked for.

A recipe is a folder's `recipe` with its `settings`, a baseline its `baseline` with its `baseline_settings`, a
simulation its `simulate` with its `simulate_settings`. To offer one is one line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, get_origin

import msgspec

from policies.errors import Unable, UsageProblem

if TYPE_CHECKING:  # the contract imports torch, which a list of names must not wait for
    from optimizer.contract import Baseline, Recipe, Simulation

_EXTRA_OF = {"torch": "train", "pyomo": "train", "onnx": "train", "onnxscript": "train", "pyarrow": "evaluate"}

RoomT = TypeVar("RoomT")


class NotOffered(UsageProblem):
    """Nothing of that kind has that name."""


class UnknownSetting(UsageProblem):
    """There is no setting of that name, or the value does not fit it."""


class UnableToImport(Unable):
    """A library that the recipe, the baseline or the simulation needs is not installed."""


@dataclass(frozen=True, kw_only=True)
class Shelf(Generic[RoomT]):
    """Hold what is offered of one kind, by name.

    Attributes:
        folders: the import path of the folder behind each name.
        room: the module in a folder that does the work.
        settings: the module beside it whose `Settings` say what can be set; it waits for no solver and no torch.
        what: names one in a sentence; `{name}` stands for its name.
        absence: says that there is none of a name.
    """

    folders: Mapping[str, str]
    room: str
    settings: str
    what: str
    absence: str

    def load(self, name: str) -> RoomT:
        """Import what does the work.

        Raises:
            NotOffered: there is none; the message names the nearest known one.
            UnableToImport: a library is missing; the message names the extra that brings it.
        """
        try:
            return cast("RoomT", import_module(f"{self._folder(name)}.{self.room}"))
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library not in _EXTRA_OF:
                raise
            raise UnableToImport(
                f"{self.what.format(name=name)} needs {library}, which is not installed; "
                f"pip install 'penstock[{_EXTRA_OF[library]}]'"
            ) from error

    def load_settings(self, name: str) -> type[msgspec.Struct]:
        """Import what can be set.

        Raises:
            NotOffered: there is none; the message names the nearest known one.
        """
        settings: type[msgspec.Struct] = import_module(f"{self._folder(name)}.{self.settings}").Settings
        return settings

    def _folder(self, name: str) -> str:
        if name not in self.folders:
            known = ", ".join(sorted(self.folders))
            raise NotOffered(f"{self.absence.format(name=name)}{_nearest(name, self.folders)}; known: {known}")
        return self.folders[name]


RECIPES: "Shelf[Recipe[Any]]" = Shelf(
    folders={"hydrothermal": "optimizer.hydrothermal", "logged_bandit": "optimizer.logged_bandit"},
    room="recipe",
    settings="settings",
    what="the recipe {name!r}",
    absence="there is no recipe {name!r}",
)

BASELINES: "Shelf[Baseline[Any]]" = Shelf(
    folders={"hydrothermal": "optimizer.hydrothermal"},
    room="baseline",
    settings="baseline_settings",
    what="the baseline of {name!r}",
    absence="no domain {name!r} has a baseline",
)

SIMULATIONS: "Shelf[Simulation[Any]]" = Shelf(
    folders={"hydrothermal": "optimizer.hydrothermal"},
    room="simulate",
    settings="simulate_settings",
    what="the simulation of {name!r}",
    absence="no domain {name!r} can be simulated",
)


def make_settings(kind: type[msgspec.Struct], values: Mapping[str, object]) -> msgspec.Struct:
    """Make a recipe's settings of named values, texts included (lists with commas); the others keep their defaults.

    Raises:
        UnknownSetting: a name is not a setting (the message names the nearest) or a value is not of its type.

    >>> class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ...     epochs: int = 30
    >>> make_settings(Settings, {"epochs": "5"})
    Settings(epochs=5)
    """
    known = kind.__struct_fields__
    for name in values:
        if name not in known:
            raise UnknownSetting(f"there is no setting {name!r}{_nearest(name, known)}; known: {', '.join(known)}")
    kinds = {field.name: field.type for field in msgspec.structs.fields(kind)}
    lists = {name: _split(value) for name, value in values.items() if get_origin(kinds[name]) is tuple}
    try:
        return msgspec.convert({**values, **lists}, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise UnknownSetting(f"a setting has a wrong value: {error}") from error


def _split(value: object) -> object:
    """Split a text at its commas, as `--pulls 0.3,0.03` gives it."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _nearest(name: str, known: Mapping[str, str] | tuple[str, ...]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
