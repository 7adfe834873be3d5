"""The generated samples tell the same stories as the public ones."""

import numpy as np

from policies.importers.classification import fit_logger, split_rows
from policies.importers.samples import click_sample, labelled_sample, starved_sample


def test_the_labelled_sample_leaves_something_to_learn() -> None:
    labelled = labelled_sample(seed=1)
    fitted, _, unseen = split_rows(len(labelled), shares=(0.1, 0.5, 0.4))
    sharp = fit_logger(labelled, fitted, value=1.0)
    assert 0.75 < labelled.value(unseen, sharp) < 0.92


def test_clicks_are_rare_and_the_log_is_uniform() -> None:
    feedback = click_sample(seed=1).feedback
    assert 20 <= feedback.rewards["click"].sum() <= 80
    assert set(feedback.propensity.tolist()) == {1 / 34}


def test_the_starved_log_has_next_to_no_effective_rows_for_the_uniform_policy() -> None:
    sample = starved_sample(seed=1)
    weights = (1 / 34) / sample.feedback.propensity
    assert weights.sum() ** 2 / (weights**2).sum() < 30
    assert len(sample.feedback) == 10_000


def test_tables_are_distributions_over_the_items() -> None:
    for sample in (click_sample(seed=2), starved_sample(seed=2)):
        assert sample.table.shape == (3, 34)
        np.testing.assert_allclose(sample.table.sum(axis=1), 1, atol=1e-12)
        assert (sample.table > 0).all()


def test_the_same_seed_gives_the_same_sample() -> None:
    one, same, other = (click_sample(seed=seed, count=500).feedback for seed in (5, 5, 6))
    assert one.actions == same.actions != other.actions
