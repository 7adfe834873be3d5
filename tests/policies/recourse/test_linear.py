import ast
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import highspy
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import policies
from policies.recourse import linear
from policies.recourse.contract import RecourseRefused
from policies.recourse.linear import LinearRecourse, with_stored_basis
from policies.recourse.load import load_recourse
from policies.recourse.program import ParametricProgram, Sparse
from policies.spec import PolicySpec, RecourseSpec
from tests.contracts.recourse_suite import Arrays, Batch, RecourseSuite, bits
from tests.helpers.hydrothermal_stage import (
    BASE_MVA,
    PLANTS,
    Stage,
    draw_observations,
    draw_stage,
    reference_parameters,
    stage_program,
    stage_spec,
)
from tests.helpers.small_program import KEPT, SECOND, small_program, small_spec

STEPS = 3
RUN = linear._run


@cache
def stage() -> Stage:
    return draw_stage(20)


@cache
def program() -> ParametricProgram:
    return stage_program(stage())


def stage_recourse(changed: ParametricProgram | None = None) -> LinearRecourse:
    return LinearRecourse(changed or program(), spec=stage_spec(stage(), steps=STEPS))


def stage_batch(count: int, *, seed: int) -> Batch:
    return draw_observations(stage(), count=count, steps=STEPS, seed=seed)


def small_batch(*rows: tuple[float, float, float, float]) -> Batch:
    """Rows of volume, load, fuel, proposal; the request's columns are fuel, load, volume."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return table[:, 3:].copy(), {"request": table[:, [2, 1, 0]]}


class TestStageWithSoftTargets(RecourseSuite):
    kind = "linear"

    def arrays(self) -> Arrays:
        return program().to_arrays()

    def spec(self) -> PolicySpec:
        return stage_spec(stage(), steps=STEPS)

    def draw(self, count: int, *, seed: int) -> Batch:
        return stage_batch(count, seed=seed)

    def spoil(self, batch: Batch, row: int) -> None:
        batch[1]["request"][row] = -1_000.0

    def needed(self, arrays: Arrays) -> list[str]:
        return [name for name in sorted(arrays) if not name.startswith("row_map")]


class TestSmallProgramWithHardTarget(RecourseSuite):
    kind = "linear"

    def arrays(self) -> Arrays:
        return small_program().to_arrays()

    def spec(self) -> PolicySpec:
        return small_spec()

    def draw(self, count: int, *, seed: int) -> Batch:
        rng = np.random.default_rng(seed)
        kept, released = rng.uniform(0.0, 50.0, count), rng.uniform(0.1, 4.9, count)
        load = released + rng.uniform(0.0, 13.0, count)
        return small_batch(*zip(kept + released, load, rng.uniform(0.0, 60.0, count), kept, strict=True))

    def spoil(self, batch: Batch, row: int) -> None:
        batch[0][row] = batch[1]["request"][row, 2] + 1.0

    def needed(self, arrays: Arrays) -> list[str]:
        return [name for name in sorted(arrays) if "_map_" not in name]


def singular_program() -> ParametricProgram:
    """The small program with a stored basis of two columns that have no row but the balance."""
    return replace(
        small_program(), basis_columns=np.array([1, 1, 0, 0], np.int32), basis_rows=np.zeros(2, dtype=np.int32)
    )


def test_the_stage_has_the_size_of_the_bolivian_case_and_soft_targets() -> None:
    assert program().cost.size == 154 + 2 * PLANTS
    assert program().row_lower.size == 113 + PLANTS
    assert program().matrix.data.size == 340 + 3 * PLANTS


def test_the_small_program_is_solved_as_by_hand() -> None:
    proposed, parameters = small_batch((10.0, 8.0, 2.0, 7.0), (10.0, 8.0, 40.0, 7.0))
    applied = LinearRecourse(small_program(), spec=small_spec()).apply(proposed, parameters=parameters)
    assert applied.outputs["power"] == pytest.approx(np.array([[400.0, 100.0], [0.0, 500.0]]))
    assert applied.outputs["cost"] == pytest.approx(np.array([4.0 * 3.0 + 30.0, 5.0 * 30.0]))
    assert applied.outputs["price"] == pytest.approx(np.array([30.0, 30.0]))
    assert applied.outputs["target_value"] == pytest.approx(np.array([30.0, 30.0]))
    assert np.array_equal(applied.values, proposed)


def test_power_balances_load_and_prices_differ_where_branches_are_full() -> None:
    proposed, parameters = stage_batch(50, seed=1)
    outputs = stage_recourse().apply(proposed, parameters=parameters).outputs
    supplied = outputs["dispatch"].sum(axis=1) + outputs["deficit"].sum(axis=1)
    assert supplied == pytest.approx(np.full(50, stage().load_mw.sum()))
    assert (np.ptp(outputs["price"], axis=1) > 1.0).any()


def test_storage_stays_within_the_reservoirs_and_meets_reachable_targets() -> None:
    _, parameters = stage_batch(50, seed=2)
    applied = stage_recourse().apply(parameters["request"].copy(), parameters=parameters)
    top = stage().storage_max_hm3
    assert (applied.values >= -1e-9).all()
    assert (applied.values <= top + 1e-9).all()
    assert applied.values == pytest.approx(parameters["request"], abs=1e-6)  # keeping what is there is reachable


def cost_at(changed: ParametricProgram, *, plant: int = 0, more_hm3: float = 0.0) -> NDArray[np.float64]:
    """Return the cost of thirty rows after some water is added to one plant."""
    proposed, parameters = stage_batch(30, seed=3)
    parameters["request"] = parameters["request"] + more_hm3 * np.eye(PLANTS)[plant]
    applied = stage_recourse(changed).apply(proposed, parameters=parameters)
    assert not applied.faults
    return applied.outputs["penalized_cost"]


def outputs_at_rest() -> Mapping[str, NDArray[np.float64]]:
    proposed, parameters = stage_batch(30, seed=3)
    return stage_recourse().apply(proposed, parameters=parameters).outputs


def assert_is_slope(dual: NDArray[np.float64], below: NDArray[np.float64], above: NDArray[np.float64]) -> None:
    """The least cost is convex in a right-hand side: a dual lies between the one-sided slopes, equal where smooth."""
    noise = 1e-3  # costs reach 1e6 and their differences are divided by 1e-4: 1e-16 of a cost, 1e-6 of a slope
    assert (below <= dual + noise).all()
    assert (dual <= above + noise).all()
    assert (np.abs(above - below) < 2 * noise).mean() > 0.5
    assert np.abs(dual).max() > 10.0


@pytest.mark.parametrize("plant", range(0, PLANTS, 3))
def test_a_water_value_is_the_saving_by_one_more_cubic_hectometer(plant: int) -> None:
    width, rest = 1e-4, cost_at(program())
    below = (rest - cost_at(program(), plant=plant, more_hm3=-width)) / width
    above = (cost_at(program(), plant=plant, more_hm3=width) - rest) / width
    assert_is_slope(-outputs_at_rest()["water_value"][:, plant], below, above)


@pytest.mark.parametrize("bus", [0, 11, 25])
def test_a_price_is_the_cost_of_one_more_megawatt_at_the_bus(bus: int) -> None:
    width, rest = 1e-4, cost_at(program())

    def cost_with(more_mw: float) -> NDArray[np.float64]:
        more = np.zeros_like(program().row_lower)
        more[bus] = more_mw / BASE_MVA
        changed = replace(program(), row_lower=program().row_lower + more, row_upper=program().row_upper + more)
        return cost_at(changed)

    assert_is_slope(
        outputs_at_rest()["price"][:, bus], (rest - cost_with(-width)) / width, (cost_with(width) - rest) / width
    )


def negated(changed: ParametricProgram, row: int) -> ParametricProgram:
    """Return the program with one constraint multiplied by -1."""
    sign = np.ones(changed.row_lower.size)
    sign[row] = -1.0
    lower, upper = sign * changed.row_lower, sign * changed.row_upper

    def flip(sparse: Sparse) -> Sparse:
        return replace(sparse, data=sparse.data * np.repeat(sign, np.diff(sparse.indptr)))

    return replace(
        changed,
        row_lower=np.minimum(lower, upper),
        row_upper=np.maximum(lower, upper),
        matrix=flip(changed.matrix),
        row_map=flip(changed.row_map),
    )


def test_a_constraint_times_minus_one_has_the_dual_of_the_other_sign() -> None:
    bus, parameters = 3, reference_parameters(stage())
    changed = with_stored_basis(negated(program(), bus), reference=parameters)
    proposed, observed = stage_batch(30, seed=3)
    outputs = stage_recourse(changed).apply(proposed, parameters=observed).outputs
    rest = outputs_at_rest()
    assert outputs["price"][:, bus] == pytest.approx(-rest["price"][:, bus])
    assert outputs["price"][:, :bus] == pytest.approx(rest["price"][:, :bus])
    assert (rest["price"][:, bus] > 1.0).all()


@pytest.mark.parametrize(("fuel", "powers"), [(0.0, [400.0, 100.0]), (60.0, [0.0, 500.0])])
def test_of_equally_good_vertices_the_one_of_the_stored_basis_is_taken(fuel: float, powers: list[float]) -> None:
    proposed, parameters = small_batch((10.0, 8.0, 29.0, 7.0))  # both generators cost 30
    stored = with_stored_basis(small_program(), reference=np.array([10.0, 8.0, fuel, 7.0]))
    applied = LinearRecourse(stored, spec=small_spec()).apply(proposed, parameters=parameters)
    assert applied.outputs["power"][0] == pytest.approx(powers)
    assert applied.outputs["cost"] == pytest.approx(np.array([150.0]))


def checked_each_time(recourse: LinearRecourse) -> LinearRecourse:
    """Return the recourse with a basis that HiGHS takes for foreign, which it factorizes whenever it is set."""
    recourse._solver._basis.alien = True
    return recourse


def test_a_stored_basis_that_is_checked_once_gives_the_bits_of_one_that_is_checked_each_time() -> None:
    proposed, parameters = stage_batch(200, seed=10)
    expected = checked_each_time(stage_recourse()).apply(proposed, parameters=parameters)
    applied = stage_recourse().apply(proposed, parameters=parameters)
    assert [bits(applied, row) for row in range(200)] == [bits(expected, row) for row in range(200)]


def test_a_singular_stored_basis_is_mended_once_as_each_time() -> None:
    proposed, parameters = small_batch((10.0, 8.0, 2.0, 7.0), (10.0, 8.0, 40.0, 7.0), (50.0, 8.0, 29.0, 46.0))
    expected = checked_each_time(LinearRecourse(singular_program(), spec=small_spec()))
    recourse = LinearRecourse(singular_program(), spec=small_spec())
    assert [status.name for status in recourse._solver._basis.col_status].count("kBasic") == 1
    found, told = (one.apply(proposed, parameters=parameters) for one in (recourse, expected))
    assert found.status == ("optimal", "optimal", "optimal")
    assert [bits(found, row) for row in range(3)] == [bits(told, row) for row in range(3)]


def test_an_infeasible_proposal_says_what_the_solver_found() -> None:
    proposed, parameters = small_batch((10.0, 8.0, 2.0, 7.0), (10.0, 8.0, 2.0, 11.0))
    applied = LinearRecourse(small_program(), spec=small_spec()).apply(proposed, parameters=parameters)
    assert applied.faults[1].count("Infeasible") == 3
    assert applied.status == ("optimal", "infeasible")


def test_a_sequence_without_steps_is_a_fault_that_names_the_parameter() -> None:
    proposed, parameters = stage_batch(3, seed=4)
    parameters["length_inflow"][1] = 0
    applied = stage_recourse().apply(proposed, parameters=parameters)
    assert set(applied.faults) == {1}
    assert "sequence:inflow:last:0 = nan" in applied.faults[1]


@pytest.mark.parametrize(
    ("skipped", "status"), [(0, "optimal_after_presolve"), (1, "optimal_after_interior_point"), (2, "infeasible")]
)
def test_a_solve_that_stalls_is_recovered_by_the_next_rung(
    monkeypatch: pytest.MonkeyPatch, skipped: int, status: str
) -> None:
    proposed, parameters = stage_batch(1, seed=5)
    expected = stage_recourse().apply(proposed, parameters=parameters)
    runs: list[int] = []

    def stalling(model: highspy.Highs) -> highspy.HighsModelStatus:
        runs.append(1)
        found = RUN(model)
        return highspy.HighsModelStatus.kUnknown if len(runs) <= 1 + skipped else found

    monkeypatch.setattr(linear, "_run", stalling)
    applied = stage_recourse().apply(proposed, parameters=parameters)
    assert applied.status == (status,)
    if skipped < 2:
        assert applied.outputs["penalized_cost"] == pytest.approx(expected.outputs["penalized_cost"])


def test_nothing_is_read_of_a_solve_that_reached_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_ITERATION_LIMIT", 0)
    monkeypatch.setattr(linear, "_RECOVERIES", ())
    proposed, parameters = stage_batch(2, seed=6)
    proposed[1] = 0.0
    applied = stage_recourse().apply(proposed, parameters=parameters)
    assert "Iteration limit" in applied.faults[1]
    assert np.isnan(applied.outputs["penalized_cost"][1])


def test_rows_after_a_recovered_one_are_given_the_bits_of_a_fresh_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    proposed, parameters = stage_batch(4, seed=7)
    expected = stage_recourse().apply(proposed, parameters=parameters)
    runs: list[int] = []

    def stalling(model: highspy.Highs) -> highspy.HighsModelStatus:
        runs.append(1)
        found = RUN(model)
        return highspy.HighsModelStatus.kUnknown if len(runs) == 2 else found

    monkeypatch.setattr(linear, "_run", stalling)
    applied = stage_recourse().apply(proposed, parameters=parameters)
    assert applied.status == ("optimal", "optimal_after_presolve", "optimal", "optimal")
    assert [bits(applied, row) for row in (0, 2, 3)] == [bits(expected, row) for row in (0, 2, 3)]


def test_another_solver_of_the_process_may_have_sized_the_thread_pool() -> None:
    proposed, parameters = stage_batch(2, seed=8)
    expected = stage_recourse().apply(proposed, parameters=parameters)
    highspy.Highs.resetGlobalScheduler(True)
    try:
        other = highspy.Highs()
        other.setOptionValue("output_flag", False)
        other.setOptionValue("threads", 2)
        assert other.run() == highspy.HighsStatus.kOk
        applied = stage_recourse().apply(proposed, parameters=parameters)
    finally:
        highspy.Highs.resetGlobalScheduler(True)
    assert [bits(applied, row) for row in range(2)] == [bits(expected, row) for row in range(2)]


def test_a_program_without_an_optimum_at_the_reference_is_refused() -> None:
    unbounded = replace(small_program(), cost=np.array([1.0, -30.0, 0.0, 0.0]), column_lower=np.full(4, -np.inf))
    unbounded = replace(unbounded, column_upper=np.full(4, np.inf))
    with pytest.raises(RecourseRefused, match="reference"):
        with_stored_basis(unbounded, reference=np.array([10.0, 8.0, 2.0, 7.0]))


def test_a_stored_basis_that_is_none_is_refused() -> None:
    broken = replace(small_program(), basis_rows=np.zeros(2, np.int32))
    with pytest.raises(RecourseRefused, match="expected 2 basic, found 0"):
        load_recourse("linear", broken.to_arrays(), small_spec())


def test_outputs_that_the_spec_does_not_name_are_refused() -> None:
    fewer = replace(small_program(), readouts=small_program().readouts[:-1])
    with pytest.raises(RecourseRefused, match="target_value"):
        LinearRecourse(fewer, spec=small_spec())


def test_applied_columns_of_another_number_are_refused() -> None:
    wrong = replace(small_program(), applied_columns=np.array([SECOND, KEPT], np.int32))
    with pytest.raises(RecourseRefused, match="applied_columns"):
        LinearRecourse(wrong, spec=small_spec())


def test_the_columns_named_as_applied_are_what_is_applied() -> None:
    proposed, parameters = small_batch((10.0, 8.0, 2.0, 7.0))
    changed = replace(small_program(), applied_columns=np.array([SECOND], np.int32))
    applied = LinearRecourse(changed, spec=small_spec()).apply(proposed, parameters=parameters)
    assert applied.values == pytest.approx(np.array([[1.0]]))


def test_a_program_of_which_nothing_is_read_applies_the_proposal() -> None:
    spec = msgspec.structs.replace(small_spec(), recourse=RecourseSpec(kind="linear"))
    proposed, parameters = small_batch((10.0, 8.0, 2.0, 7.0))
    applied = LinearRecourse(replace(small_program(), readouts=()), spec=spec).apply(proposed, parameters=parameters)
    assert (applied.status, dict(applied.outputs), applied.values.tolist()) == (("optimal",), {}, [[7.0]])


def test_no_negative_zero_is_reported() -> None:
    proposed, parameters = stage_batch(50, seed=9)
    applied = stage_recourse().apply(proposed, parameters=parameters)
    for values in (applied.values, *applied.outputs.values()):
        assert not np.signbit(values[values == 0.0]).any()


def test_a_zero_that_is_scaled_by_a_negative_number_is_reported_as_zero() -> None:
    cost, power, *others = small_program().readouts
    negative = replace(power, scale=np.full(2, -100.0))
    turned = replace(small_program(), readouts=(cost, negative, *others))
    proposed, parameters = small_batch((10.0, 8.0, 40.0, 7.0))
    found = LinearRecourse(turned, spec=small_spec()).apply(proposed, parameters=parameters).outputs["power"]
    assert found.tolist() == [[0.0, -500.0]]
    assert np.signbit(found).tolist() == [[False, True]]


def test_this_floor_imports_highspy_in_one_file_only() -> None:
    root = Path(policies.__file__).parent
    importers = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if imports_highspy(path)]
    assert importers == ["recourse/linear.py"]


def imports_highspy(path: Path) -> bool:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    sources = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return any(name.partition(".")[0] == "highspy" for name in plain | sources)


def test_a_recourse_that_does_not_solve_does_not_pay_for_the_import_of_the_solver() -> None:
    code = "import sys, policies.recourse.load; sys.exit('highspy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(policies.__file__).parents[1])
