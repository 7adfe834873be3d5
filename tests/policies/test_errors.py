"""Every anticipated error has one root and says how the command line ends."""

import importlib
import pkgutil

import pytest

import optimizer
import penstock
import policies
import serving
from policies.errors import ContentRefused, PenstockError, Unable, UsageProblem

ALREADY_NAMED = {"PenstockError", "UsageProblem", "ContentRefused", "Unable"}


def test_the_three_kinds_end_in_their_own_exit_codes() -> None:
    assert (UsageProblem.exit_code, ContentRefused.exit_code, Unable.exit_code) == (2, 3, 4)


@pytest.mark.parametrize("floor", [policies, serving, penstock, optimizer], ids=lambda floor: floor.__name__)
def test_every_error_of_ours_is_of_one_of_the_three_kinds(floor: object) -> None:
    paths, name = floor.__path__, floor.__name__  # type: ignore[attr-defined]
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(paths, f"{name}.")
               if not found.name.endswith("__main__")]  # fmt: skip
    own = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.__name__
    }
    assert own
    strange = {kind.__name__ for kind in own if not issubclass(kind, UsageProblem | ContentRefused | Unable)}
    assert strange - ALREADY_NAMED == set()
    assert all(issubclass(kind, PenstockError) for kind in own)
