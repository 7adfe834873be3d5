from pathlib import Path

import numpy as np
import pytest

from policies.evaluation.targets import (
    Reference,
    UnableToFindTarget,
    UnableToReadTable,
    parse_reference,
    policy_of,
    probabilities_at,
    read_table,
)
from policies.policy import UnableToUseTable
from policies.spec import ActionSet, Field, PolicySpec

SPEC = PolicySpec(
    domain="shop",
    fields=(
        Field(name="position", lower=0, upper=1),
        Field(name="device", vocabulary=("phone", "desk"), axis="request"),
    ),
    actions=ActionSet(kind="choice", ids=("b", "a")),
)
MASK = np.ones((2, 1, 2), dtype=bool)


def _write(folder: Path, text: str) -> Reference:
    path = folder / "p.csv"
    path.write_text(text)
    return parse_reference(f"table:{path}")


@pytest.mark.parametrize("word", ["uniform", "logged", "columns"])
def test_a_known_word_is_its_own_kind(word: str) -> None:
    assert parse_reference(word).kind == word


def test_a_folder_with_a_manifest_is_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert parse_reference(str(tmp_path)) == Reference(kind="artifact", path=tmp_path)


@pytest.mark.parametrize("text", ["elsewhere", "table:missing.csv", "table:missing.csv@position"])
def test_what_is_not_there_is_a_usage_problem(text: str) -> None:
    with pytest.raises(UnableToFindTarget, match="expected a"):
        parse_reference(text)


def test_an_at_sign_in_a_file_name_is_no_field(tmp_path: Path) -> None:
    path = tmp_path / "a@b.csv"
    path.write_text("id,probability\na,0.25\nb,0.75\n")
    assert parse_reference(f"table:{path}") == Reference(kind="table", path=path)
    assert parse_reference(f"table:{path}@position").field == "position"


def test_a_matrix_has_ids_in_rows_and_codes_in_columns(tmp_path: Path) -> None:
    _write(tmp_path, "# p(a|0),p(a|1)\n0.25,1\n0.75,0\n")
    reference = parse_reference(f"table:{tmp_path / 'p.csv'}@position")
    proposed = policy_of(reference, spec=SPEC).propose({"request": np.array([[1.0, 1.0], [0.0, 1.0]])}, MASK)
    assert proposed[:, 0].tolist() == [[1.0, 0.0], [0.25, 0.75]]


def test_a_list_of_ids_follows_the_order_of_the_spec(tmp_path: Path) -> None:
    reference = _write(tmp_path, "id,probability\na,0.25\nb,0.75\n")
    proposed = policy_of(reference, spec=SPEC).propose({"request": np.zeros((2, 2))}, MASK)
    assert proposed[:, 0].tolist() == [[0.75, 0.25]] * 2


def test_a_list_may_depend_on_a_category(tmp_path: Path) -> None:
    reference = _write(tmp_path, "id,probability,device\na,1,phone\nb,1,desk\n")
    proposed = policy_of(reference, spec=SPEC).propose({"request": np.array([[0.0, 1.0], [0.0, 2.0]])}, MASK)
    assert proposed[:, 0].tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_a_request_whose_code_is_not_listed_is_refused(tmp_path: Path) -> None:
    reference = _write(tmp_path, "id,probability,device\na,1,desk\n")
    with pytest.raises(UnableToUseTable, match="no probabilities for device with code 1"):
        policy_of(reference, spec=SPEC).propose({"request": np.array([[0.0, 1.0], [0.0, 2.0]])}, MASK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,probability\na,0.5\na,0.5\n", "given twice"),
        ("id,probability\na,0.5\nb,0.4\n", "sum to 1"),
        ("id,probability\na,nan\n", "finite"),
        ("id,probability\na,much\n", "expected probabilities"),
        ("id,probability\na\n", "expected 2 cells"),
        ("id,chance\na,1\n", "must have the columns"),
        ("id,probability\n", "sum to 1"),
    ],
)
def test_a_table_that_is_none_is_refused_for_its_content(tmp_path: Path, text: str, message: str) -> None:
    reference = _write(tmp_path, text)
    with pytest.raises(UnableToReadTable, match=message) as caught:
        policy_of(reference, spec=SPEC)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,probability\nc,1\n", "'c' is not among"),
        ("id,probability,weather\na,1,1\n", "no single request field 'weather'"),
        ("id,probability,device\na,1,watch\n", "not in the vocabulary"),
        ("id,probability,position\na,1,0.5\n", "whole number"),
    ],
)
def test_a_table_that_does_not_fit_the_spec_is_a_usage_problem(tmp_path: Path, text: str, message: str) -> None:
    reference = _write(tmp_path, text)
    with pytest.raises(UnableToUseTable, match=message) as caught:
        policy_of(reference, spec=SPEC)
    assert caught.value.exit_code == 2


def test_columns_of_a_matrix_must_sum_to_one(tmp_path: Path) -> None:
    _write(tmp_path, "0.25,1\n0.75,0.1\n")
    with pytest.raises(UnableToReadTable, match="for code 1"):
        read_table(parse_reference(f"table:{tmp_path / 'p.csv'}@position"), spec=None)


def test_a_row_outside_the_table_is_named(tmp_path: Path) -> None:
    _write(tmp_path, "0.25,1\n0.75,0\n")
    table = read_table(parse_reference(f"table:{tmp_path / 'p.csv'}@position"), spec=None)
    found = probabilities_at(table, codes=np.array([0, 1]), actions=np.array([1, 0]), where="position")
    assert found.tolist() == [0.75, 1.0]
    with pytest.raises(UnableToReadTable, match=r"position must lie in 0…1 .* found 2 in row 1"):
        probabilities_at(table, codes=np.array([0, 2]), actions=np.array([1, 0]), where="position")


def test_codes_may_be_whole_numbers_held_as_floats(tmp_path: Path) -> None:
    _write(tmp_path, "0.25,1\n0.75,0\n")
    table = read_table(parse_reference(f"table:{tmp_path / 'p.csv'}@position"), spec=None)
    found = probabilities_at(table, codes=np.array([0.0, 1.0]), actions=np.array([1.0, 0.0]), where="position")
    assert found.tolist() == [0.75, 1.0]
    with pytest.raises(UnableToUseTable, match="whole numbers"):
        probabilities_at(table, codes=np.array([0.5, 1.0]), actions=np.array([1, 0]), where="position")
