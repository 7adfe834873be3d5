import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import msgspec
import pytest

from optimizer import registry
from optimizer.registry import (
    BASELINES,
    RECIPES,
    SIMULATIONS,
    NotOffered,
    UnableToImport,
    UnknownSetting,
    make_settings,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    epochs: int = 30
    floor: float | None = None
    objective: str = "ips"
    pulls: tuple[float, ...] = (1.0,)
    names: tuple[str, ...] = ()


@pytest.mark.parametrize("name", sorted(RECIPES.folders))
def test_every_registered_recipe_offers_settings_and_train(name: str) -> None:
    assert issubclass(RECIPES.load_settings(name), msgspec.Struct)
    assert callable(RECIPES.load(name).train)


def test_an_unknown_recipe_names_the_nearest_known_one() -> None:
    with pytest.raises(NotOffered, match="no recipe 'loged_bandit'; did you mean 'logged_bandit'"):
        RECIPES.load("loged_bandit")


def test_a_name_like_no_other_lists_what_is_known() -> None:
    with pytest.raises(NotOffered, match="no recipe 'xyz'; known: ") as caught:
        RECIPES.load("xyz")
    assert caught.value.exit_code == 2


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_torch(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(registry, "import_module", without_torch)
    with pytest.raises(UnableToImport, match=r"needs torch, .*pip install 'penstock\[train\]'"):
        RECIPES.load("logged_bandit")


def test_a_fault_of_our_own_is_not_taken_for_a_missing_library() -> None:
    probe = replace(RECIPES, folders={"probe": "optimizer.absent_recipe"})
    with pytest.raises(ModuleNotFoundError, match="absent_recipe"):
        probe.load("probe")


def test_the_settings_of_a_recipe_do_not_wait_for_torch() -> None:
    code = (
        "import sys, optimizer.registry as r; r.RECIPES.load_settings('logged_bandit');sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_texts_become_the_settings_types() -> None:
    assert make_settings(Settings, {"epochs": "7", "floor": "0.5"}) == Settings(epochs=7, floor=0.5)


def test_texts_with_commas_become_tuples_and_an_empty_one_an_empty_tuple() -> None:
    made = make_settings(Settings, {"pulls": "0.3, 0.03", "names": "click,buy=0.5"})
    assert made == Settings(pulls=(0.3, 0.03), names=("click", "buy=0.5"))
    assert make_settings(Settings, {"pulls": ""}) == Settings(pulls=())


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(UnknownSetting, match="no setting 'epoch'; did you mean 'epochs'"):
        make_settings(Settings, {"epoch": 3})


def test_a_setting_of_the_wrong_type_is_refused_by_name() -> None:
    with pytest.raises(UnknownSetting, match="epochs"):
        make_settings(Settings, {"epochs": "many"})


@pytest.mark.parametrize("name", sorted(BASELINES.folders))
def test_every_registered_baseline_offers_settings_and_solve(name: str) -> None:
    assert issubclass(BASELINES.load_settings(name), msgspec.Struct)
    assert callable(BASELINES.load(name).solve)


@pytest.mark.parametrize("name", sorted(SIMULATIONS.folders))
def test_every_registered_simulation_offers_settings_and_simulate(name: str) -> None:
    assert issubclass(SIMULATIONS.load_settings(name), msgspec.Struct)
    assert callable(SIMULATIONS.load(name).simulate)


def test_an_unknown_baseline_names_the_nearest_known_one() -> None:
    with pytest.raises(NotOffered, match="no domain 'hydro' has a baseline; did you mean 'hydrothermal'"):
        BASELINES.load("hydro")


def test_the_settings_of_a_baseline_do_not_wait_for_torch_or_pyomo() -> None:
    code = (
        "import sys, optimizer.registry as r; r.BASELINES.load_settings('hydrothermal');"
        "sys.exit(bool({'torch', 'pyomo', 'highspy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
