"""The second story: a log that cannot tell says so."""

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


def test_a_dozen_clicks_show_nothing_better_than_the_log(demo: Any) -> None:
    story = demo.result["honesty"]
    assert story["better_than_log"] == []
    assert {one["target"] for one in story["estimates"]} == {"uniform", "learned", "table", "logged"}


def test_a_log_that_starves_actions_is_refused_with_the_reason(demo: Any) -> None:
    refusal = demo.result["honesty"]["refusal"]
    assert refusal["verdict"] == "refuse"
    assert refusal["effective_units"] < 30
    assert "effective units" in refusal["reason"]


def test_the_stories_say_that_samples_stand_in(demo: Any) -> None:
    assert all("generated sample" in demo.result[story]["source"] for story in ("earning", "honesty"))
