"""A labelled set as a bandit: the log is honest, and full information tells what it is worth."""

from pathlib import Path

import numpy as np
import pytest

from policies.choose import ONE
from policies.events import Source
from policies.feedback import Feedback, fold
from policies.importers.classification import (
    LabelledSet,
    UnableToImportLabels,
    fit_logger,
    import_classification,
    read_labelled,
    split_rows,
)
from policies.importers.samples import labelled_sample
from policies.policy import UniformPolicy
from tests.helpers.decided import decide_uniformly


@pytest.fixture(scope="module")
def labelled() -> LabelledSet:
    return labelled_sample(seed=3, count=2_000)


def logged(labelled: LabelledSet) -> tuple[Feedback, float]:
    fitted, rows, _ = split_rows(len(labelled), shares=(0.2, 0.5, 0.3))
    policy = fit_logger(labelled, fitted)
    return labelled.as_feedback(rows, policy), labelled.value(rows, policy)


def test_propensities_are_exact_multiples_and_keep_the_floor(labelled: LabelledSet) -> None:
    feedback, _ = logged(labelled)
    cells = feedback.propensity * ONE
    assert (cells == np.round(cells)).all()
    assert (feedback.propensity >= feedback.propensity_floor).all()
    assert feedback.propensity_floor[0] == np.floor(0.01 * ONE) / ONE


def test_the_logging_policy_is_right_about_two_times_in_three(labelled: LabelledSet) -> None:
    assert 0.58 < logged(labelled)[1] < 0.68


def test_importance_weighting_the_log_finds_the_truth(labelled: LabelledSet) -> None:
    feedback, _ = logged(labelled)
    rows = split_rows(len(labelled), shares=(0.2, 0.5, 0.3))[1]
    weights = (1 / len(labelled.classes)) / feedback.propensity
    weighted = weights * feedback.rewards["correct"]
    truth = labelled.value(rows, UniformPolicy(labelled.spec))
    error = weighted.std() / len(weighted) ** 0.5
    assert abs(weighted.mean() - truth) < 4 * error  # four standard errors, one fixed seed
    assert abs(weights.mean() - 1) < 4 * weights.std() / len(weights) ** 0.5


def test_a_log_is_the_same_whatever_rows_are_logged_with_it(labelled: LabelledSet) -> None:
    policy = fit_logger(labelled, np.arange(400))
    whole = labelled.as_feedback(np.arange(500, 600), policy)
    part = labelled.as_feedback(np.arange(520, 540), policy)
    actions = dict(zip(whole.request_ids, whole.actions, strict=True))
    assert [actions[name] for name in part.request_ids] == part.actions


def test_decisions_on_requests_earn_one_where_they_name_the_label(labelled: LabelledSet) -> None:
    rows = np.arange(1_900, 1_960)
    decisions = decide_uniformly(labelled.requests(rows), spec=labelled.spec)
    outcomes = labelled.outcomes(decisions)
    pairs = [(outcome, Source(topic="o", partition=0, offset=at)) for at, outcome in enumerate(outcomes)]
    feedback = fold(decisions, pairs, as_of=0, spec=labelled.spec).feedback
    for name, action, reward in zip(feedback.request_ids, feedback.actions, feedback.rewards["correct"], strict=True):
        label = labelled.classes[int(labelled.labels[int(name.rpartition("-")[2])])]
        assert reward == float(action == label)


def test_an_outcome_of_a_stranger_is_a_programming_error(labelled: LabelledSet) -> None:
    other = LabelledSet(name="other", features=labelled.features, labels=labelled.labels, spec=labelled.spec)
    decisions = decide_uniformly(other.requests(np.arange(1)), spec=other.spec)
    with pytest.raises(ValueError, match="is not of the labelled set"):
        labelled.outcomes(decisions)


def test_requests_do_not_give_the_label_away(labelled: LabelledSet) -> None:
    assert {tuple(request.fields) for request in labelled.requests(np.arange(5))} == {("features",)}


def test_bounds_are_those_of_the_first_share_of_the_shuffled_rows() -> None:
    labelled = labelled_sample(seed=3, count=500, bound_share=0.1)
    (field,) = labelled.spec.fields
    assert field.uppers == tuple(labelled.features[:50].max(axis=0))
    assert field.outside == "clip"


def test_another_seed_gives_another_order(tmp_path: Path) -> None:
    lines = [f"{value}, {value + 1}, {value % 3}" for value in range(30)]
    (tmp_path / "set.data").write_text("\n".join(lines))
    one, same, other = (read_labelled(tmp_path / "set.data", seed=seed) for seed in (1, 1, 2))
    assert one.features.tolist() == same.features.tolist() != other.features.tolist()
    assert ((one.features[:, 0] % 3).astype(int) == one.labels).all()


def test_a_header_is_skipped_and_classes_are_texts(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("width,kind\n1,b\n2,a\n3,b\n")
    labelled = read_labelled(tmp_path / "set.csv")
    assert (labelled.classes, len(labelled)) == (("a", "b"), 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,a\n", "found 1 lines"),
        ("1,2,a\n1,a\n", "in row 1"),
        ("1,2,a\n1,x,a\n", "expected 2 finite numbers"),
        ("1,2,a\n1,nan,a\n", "expected 2 finite numbers"),
        ("1,2,a\n1,2,\n", "and a class"),
    ],
)
def test_what_is_no_labelled_set_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "set.data").write_text(text)
    with pytest.raises(UnableToImportLabels, match=message):
        read_labelled(tmp_path / "set.data")


@pytest.mark.slow
def test_pendigits_is_logged_at_about_two_thirds(shared_data: Path) -> None:
    feedback = import_classification(shared_data / "uci/pendigits.data", train_share=0.8)
    assert len(feedback) == 10_992 - 1_099
    assert 0.6 < feedback.rewards["correct"].mean() < 0.68
