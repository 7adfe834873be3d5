"""The recipes, baselines and simulations by name: one line each, the folder that holds them; imported when asked for.

A recipe is a folder's `recipe` with its `settings`, a baseline its `baseline` with its `baseline_settings`, a
simulation its `simulate` with its `simulate_settings`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast, get_origin

import msgspec

from policies.errors import Unable, UsageProblem

if TYPE_CHECKING:  # the contract imports torch, which a list of names must not wait for
    from optimizer.contract import Baseline, Recipe, Simulation

RECIPES: dict[str, str] = {
    "hydrothermal": "optimizer.hydrothermal",
    "logged_bandit": "optimizer.logged_bandit",
}

BASELINES: dict[str, str] = {
    "hydrothermal": "optimizer.hydrothermal",
}

SIMULATIONS: dict[str, str] = {
    "hydrothermal": "optimizer.hydrothermal",
}

_EXTRA_OF = {"torch": "train", "pyomo": "train", "onnx": "train", "onnxscript": "train", "pyarrow": "evaluate"}


class UnknownRecipe(UsageProblem):
    """No recipe has that name."""


class UnknownBaseline(UsageProblem):
    """No domain of that name has a baseline."""


class UnknownSimulation(UsageProblem):
    """No domain of that name has a simulation."""


class UnknownSetting(UsageProblem):
    """A recipe has no setting of that name, or the value does not fit it."""


class UnableToImportRecipe(Unable):
    """A library that the recipe, the baseline or the simulation needs is not installed."""


def load_recipe(name: str) -> "Recipe[Any]":
    """Import the recipe of that name.

    Raises:
        UnknownRecipe: there is none; the message names the nearest known one.
        UnableToImportRecipe: a library is missing; the message names the extra that brings it.
    """
    return cast("Recipe[Any]", _import_room(f"{_folder(name)}.recipe", f"the recipe {name!r}"))


def load_baseline(name: str) -> "Baseline[Any]":
    """Import the baseline of the domain of that name.

    Raises:
        UnknownBaseline: there is none; the message names the nearest known one.
        UnableToImportRecipe: a library is missing; the message names the extra that brings it.
    """
    return cast("Baseline[Any]", _import_room(f"{_baseline_folder(name)}.baseline", f"the baseline of {name!r}"))


def load_baseline_settings(name: str) -> type[msgspec.Struct]:
    """Import the settings of the baseline of that name; no solver is waited for.

    Raises:
        UnknownBaseline: there is none; the message names the nearest known one.
    """
    settings: type[msgspec.Struct] = import_module(f"{_baseline_folder(name)}.baseline_settings").Settings
    return settings


def load_simulation(name: str) -> "Simulation[Any]":
    """Import the simulation of the domain of that name.

    Raises:
        UnknownSimulation: there is none; the message names the nearest known one.
        UnableToImportRecipe: a library is missing; the message names the extra that brings it.
    """
    room = _import_room(f"{_simulation_folder(name)}.simulate", f"the simulation of {name!r}")
    return cast("Simulation[Any]", room)


def load_simulation_settings(name: str) -> type[msgspec.Struct]:
    """Import the settings of the simulation of that name; no solver is waited for.

    Raises:
        UnknownSimulation: there is none; the message names the nearest known one.
    """
    settings: type[msgspec.Struct] = import_module(f"{_simulation_folder(name)}.simulate_settings").Settings
    return settings


def load_settings(name: str) -> type[msgspec.Struct]:
    """Import the settings of the recipe of that name; torch is not waited for.

    Raises:
        UnknownRecipe: there is none; the message names the nearest known one.
    """
    settings: type[msgspec.Struct] = import_module(f"{_folder(name)}.settings").Settings
    return settings


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


def _folder(name: str) -> str:
    if name not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        raise UnknownRecipe(f"there is no recipe {name!r}{_nearest(name, RECIPES)}; known: {known}")
    return RECIPES[name]


def _baseline_folder(name: str) -> str:
    if name not in BASELINES:
        known = ", ".join(sorted(BASELINES))
        raise UnknownBaseline(f"no domain {name!r} has a baseline{_nearest(name, BASELINES)}; known: {known}")
    return BASELINES[name]


def _simulation_folder(name: str) -> str:
    if name not in SIMULATIONS:
        known = ", ".join(sorted(SIMULATIONS))
        raise UnknownSimulation(f"no domain {name!r} can be simulated{_nearest(name, SIMULATIONS)}; known: {known}")
    return SIMULATIONS[name]


def _import_room(module: str, what: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _EXTRA_OF:
            raise
        extra = _EXTRA_OF[library]
        raise UnableToImportRecipe(
            f"{what} needs {library}, which is not installed; pip install 'penstock[{extra}]'"
        ) from error


def _split(value: object) -> object:
    """Split a text at its commas, as `--pulls 0.3,0.03` gives it."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _nearest(name: str, known: Mapping[str, str] | tuple[str, ...]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
