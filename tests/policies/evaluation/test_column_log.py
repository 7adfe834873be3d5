from pathlib import Path

import numpy as np
import pytest

from policies.evaluation.column_log import ColumnLog
from policies.evaluation.question import Objective, Question
from policies.evaluation.scored import UnableToScore
from policies.evaluation.targets import Reference, Target, UnableToFindTarget, parse_reference

PLAIN = Objective(name="reward", weights={"reward": 1.0})
COLUMNS = {
    "reward": np.array([1.0, 0.0, 1.0, 1.0]),
    "pscore": np.array([0.5, 0.5, 0.25, 0.25]),
    "p_eval": np.array([0.25, 0.5, 0.5, 0.125]),
    "action": np.array([0, 1, 0, 1]),
    "position": np.array([0, 0, 1, 1]),
    "q_logged": np.array([0.5, 0.5, 0.5, 0.5]),
    "q_pi": np.array([0.5, 0.25, 0.5, 0.25]),
}


def _target(kind: str) -> Target:
    return Target(name="t", reference=Reference(kind=kind))  # type: ignore[arg-type]


def _question(target: Target) -> Question:
    return Question(targets=[target])


def test_its_own_columns_are_weighed_with_their_predictions() -> None:
    target = _target("columns")
    sums = ColumnLog(COLUMNS).weigh(target, PLAIN, question=_question(target)).sums
    assert sums.totals.ips == 0.5 + 2.0 + 0.5
    assert sums.totals.dm == 1.5


def test_the_log_itself_has_weight_one_and_no_predictions() -> None:
    target = _target("logged")
    sums = ColumnLog(COLUMNS).weigh(target, PLAIN, question=_question(target)).sums
    assert (sums.totals.weight, sums.totals.ips, sums.has_model) == (4.0, 3.0, False)


def test_a_table_is_looked_up_and_leaves_the_predictions_of_another_policy_out(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("0.25,0.5\n0.75,0.5\n")
    target = Target(name="t", reference=parse_reference(f"table:{tmp_path / 'p.csv'}@position"))
    sums = ColumnLog(COLUMNS).weigh(target, PLAIN, question=_question(target)).sums
    assert sums.totals.weight == 0.25 / 0.5 + 0.75 / 0.5 + 0.5 / 0.25 + 0.5 / 0.25
    assert sums.has_model is False


def test_a_weight_scales_rewards_and_predictions_alike() -> None:
    target = _target("columns")
    twice = Objective(name="sum", weights={"reward": 2.0})
    plain = ColumnLog(COLUMNS).weigh(target, PLAIN, question=_question(target)).sums.totals
    doubled = ColumnLog(COLUMNS).weigh(target, twice, question=_question(target)).sums.totals
    assert (doubled.ips, doubled.dm, doubled.dr) == (2 * plain.ips, 2 * plain.dm, 2 * plain.dr)


@pytest.mark.parametrize("kind", ["uniform", "artifact"])
def test_a_policy_needs_requests(kind: str) -> None:
    target = _target(kind)
    with pytest.raises(UnableToFindTarget, match="needs requests and a spec"):
        ColumnLog(COLUMNS).weigh(target, PLAIN, question=_question(target))


@pytest.mark.parametrize("name", ["reward", "pscore", "p_eval"])
def test_a_missing_column_is_named(name: str) -> None:
    target = _target("columns")
    columns = {key: values for key, values in COLUMNS.items() if key != name}
    with pytest.raises(UnableToScore, match=f"missing: {name}"):
        ColumnLog(columns).weigh(target, PLAIN, question=_question(target))


def test_a_table_of_a_missing_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("0.25,0.5\n0.75,0.5\n")
    target = Target(name="t", reference=parse_reference(f"table:{tmp_path / 'p.csv'}@hour"))
    with pytest.raises(UnableToFindTarget, match="the column 'hour'"):
        ColumnLog(COLUMNS).weigh(target, PLAIN, question=_question(target))
