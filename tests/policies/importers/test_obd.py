"""The Open Bandit form: positions from 0, affinities as action fields, exact propensities, unit = row."""

from pathlib import Path

import numpy as np
import pytest

from policies.encode import Encoder
from policies.feedback import logged_choices
from policies.importers.obd import ObdNotFound, UnableToImportObd, import_obd

HEADER = ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0,user-item_affinity_1"
ROWS = (
    "0,2019-11-24 00:00:02+00:00,0,1,0,0.5,old,0.0,1.0",
    "1,2019-11-24 00:00:01+00:00,1,3,1,0.25,new,2.0,0.0",
    "2,2019-11-24 00:00:03+00:00,1,2,0,0.25,odd,9.0,0.0",
)
ITEMS = ",item_id,item_feature_0,item_feature_1\n0,1,-0.5,b\n1,0,0.25,a\n"


def folder_with(folder: Path, *, header: str = HEADER, rows: tuple[str, ...] = ROWS, items: str = ITEMS) -> Path:
    (folder / "men.csv").write_text("\n".join((header, *rows)) + "\n")
    (folder / "item_context.csv").write_text(items)
    return folder


def test_a_log_holds_what_the_csv_says(tmp_path: Path) -> None:
    feedback = import_obd(folder_with(tmp_path))
    row = feedback.request_ids.index("1")
    request = int(feedback.request_rows[row])
    assert (feedback.actions[row], feedback.propensity[row], feedback.rewards["click"][row]) == ("1", 0.25, 1.0)
    assert feedback.columns.request["position"][request] == 2.0
    assert feedback.columns.request["user_feature_0"][request] == "new"
    assert feedback.units == feedback.request_ids


def test_item_features_are_in_the_order_of_item_ids(tmp_path: Path) -> None:
    features = import_obd(folder_with(tmp_path)).spec.actions.features
    assert features == {"item_feature_0": (0.25, -0.5), "item_feature_1": ("a", "b")}


def test_affinities_reach_the_action_that_they_are_of(tmp_path: Path) -> None:
    feedback = import_obd(folder_with(tmp_path))
    (choices,) = logged_choices(feedback, Encoder(feedback.spec))
    names = [field.name for field in feedback.spec.on("action")]
    affinity = choices.bucket.arrays["actions"][:, :, names.index("affinity")]
    assert affinity[feedback.request_ids.index("1")].tolist() == [2.0, 0.0]


def test_bounds_and_vocabularies_come_from_the_first_rows_by_time(tmp_path: Path) -> None:
    spec = import_obd(folder_with(tmp_path), train_share=0.67).spec
    fields = {field.name: field for field in spec.fields}
    assert fields["user_feature_0"].vocabulary == ("new", "old")
    assert (fields["affinity"].lower, fields["affinity"].upper) == (0.0, 2.0)
    assert (fields["position"].lower, fields["position"].upper) == (0, 2)
    assert {field.outside for field in spec.fields} == {"clip"}


def test_the_newer_name_of_the_propensity_is_read_too(tmp_path: Path) -> None:
    folder_with(tmp_path, header=HEADER.replace("propensity_score", "action_prob"))
    assert sorted(import_obd(tmp_path / "men.csv").propensity.tolist()) == [0.25, 0.25, 0.5]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (HEADER.replace("propensity_score", "p"), ROWS[0], "never taken as 1"),
        (HEADER.replace("click", "clack"), ROWS[0], "expected a column click"),
        (HEADER, ROWS[0].replace(",0,1,0,", ",0,0,0,"), "position must be 1 to 3, found 0 in row 0"),
        (HEADER, ROWS[0].replace(",0,1,0,", ",0.5,1,0,"), "item_id must be a whole number from 0"),
        (HEADER, ROWS[0].replace("2019", "in 2019"), "timestamp must be ISO-8601"),
        (HEADER, ROWS[0] + ",7", "expected 9 values in each line, found 10 in line 2"),
    ],
)
def test_what_is_not_of_the_form_is_named(header: str, row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnableToImportObd, match=message):
        import_obd(folder_with(tmp_path, header=header, rows=(row,)))


def test_a_folder_without_impressions_is_told(tmp_path: Path) -> None:
    with pytest.raises(ObdNotFound, match="found none"):
        import_obd(tmp_path)


@pytest.mark.slow
def test_the_shared_sample_agrees_with_its_golden_arrays(shared_data: Path) -> None:
    feedback = import_obd(shared_data / "open_bandit/bts/women")
    golden = np.load(shared_data / "open_bandit/golden_women_bts_to_random.npz")
    rows = [int(name) for name in feedback.request_ids]
    assert [int(action or -1) for action in feedback.actions] == golden["action"][rows].tolist()
    assert [feedback.columns.request["position"][place] for place in feedback.request_rows] == golden["position"][
        rows
    ].tolist()
    np.testing.assert_allclose(feedback.propensity, golden["pscore"][rows], rtol=1e-12)  # text parsing
    weights = 1 / len(feedback.spec.actions.ids or ()) / feedback.propensity
    assert round(float(weights.sum() ** 2 / (weights**2).sum()), 2) == 2.08
