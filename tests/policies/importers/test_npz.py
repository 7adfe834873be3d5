"""Arrays as a log."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.importers.npz import UnableToImportArrays, import_npz

ARRAYS: dict[str, NDArray[Any]] = {
    "reward": np.array([0, 1, 0, 1]),
    "pscore": np.array([0.5, 0.5, 0.25, 1.0]),
    "action": np.array([0, 2, 1, 0], dtype=np.int16),
    "position": np.array([0, 1, 2, 9], dtype=np.int8),
    "page": np.array(["a", "b", "a", "z"]),
    "context": np.arange(8.0).reshape(4, 2),
    "p_eval": np.ones(4),
    "unit": np.array([7, 7, 8, 8]),
}


def saved(folder: Path, **changes: Any) -> Path:
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    np.savez(folder / "log.npz", **arrays)
    return folder / "log.npz"


def test_arrays_become_rows_with_their_units(tmp_path: Path) -> None:
    feedback = import_npz(saved(tmp_path))
    rows = [int(name) for name in feedback.request_ids]
    assert [feedback.actions[rows.index(row)] for row in range(4)] == ["0", "2", "1", "0"]
    assert [feedback.units[rows.index(row)] for row in range(4)] == ["7", "7", "8", "8"]
    assert not feedback.is_row_unit


def test_what_the_policy_saw_becomes_fields_by_the_training_rows(tmp_path: Path) -> None:
    fields = {field.name: field for field in import_npz(saved(tmp_path), train_share=0.75).spec.fields}
    assert set(fields) == {"position", "page", "context"}
    assert (fields["position"].upper, fields["page"].vocabulary) == (2.0, ("a", "b"))
    assert (fields["context"].width, fields["context"].uppers) == (2, (4.0, 5.0))


@pytest.mark.parametrize("kind", ["i4", "f8", "S2", "U2"])
def test_units_are_the_same_texts_whatever_holds_them(kind: str, tmp_path: Path) -> None:
    assert set(import_npz(saved(tmp_path, unit=ARRAYS["unit"].astype(kind))).units) == {"7", "8"}


def test_a_file_that_is_no_npz_is_refused_for_its_content(tmp_path: Path) -> None:
    (tmp_path / "log.npz").write_bytes(b"reward,pscore")
    with pytest.raises(UnableToImportArrays, match="expected an npz file") as caught:
        import_npz(tmp_path / "log.npz")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pscore": None}, "never taken as 1"),
        ({"action": np.array([0.5, 1, 2, 3])}, "whole number from 0, found 0.5 in row 0"),
        ({"action": np.array([0, 1, -1, 3])}, "whole number from 0, found -1.0 in row 2"),
        ({"position": np.arange(3)}, "position must have 4 rows"),
        ({"reward": np.ones((4, 2))}, "reward must be a flat array"),
        ({"reward": np.float64(1.0)}, "reward must be a flat array"),
        ({name: array[:0] for name, array in ARRAYS.items()}, "expected rows, found none"),
        ({"cube": np.ones((4, 2, 2))}, "cube must be numbers"),
    ],
)
def test_what_is_no_log_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnableToImportArrays, match=message):
        import_npz(saved(tmp_path, **changes))
