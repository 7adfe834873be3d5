"""The first story: what was promised before deployment is held against what came of it."""

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


def test_the_learned_policy_earns_what_was_predicted(demo: Any) -> None:
    story = demo.result["earning"]
    predicted, realized = story["predicted"], story["realized"]
    assert predicted["verdict"] == "answer"
    assert predicted["low"] <= realized["value"] <= predicted["high"]
    assert predicted["low"] <= story["truth"] <= predicted["high"]
    assert realized["low"] <= story["truth"] <= realized["high"]


def test_it_earns_more_than_the_policy_that_wrote_the_log_and_far_more_than_uniform(demo: Any) -> None:
    before = {(one["target"], one["estimator"]): one for one in demo.result["earning"]["before"]}
    logged, uniform = before["logged", "ips"], before["uniform", "dr"]
    assert demo.result["earning"]["predicted"]["low"] > logged["high"] > uniform["high"]


def test_every_decision_that_was_served_is_recomputed_bit_for_bit(demo: Any) -> None:
    story = demo.result["earning"]
    assert story["verified_bitwise"] == story["served"] == 2400


def test_the_demo_leaves_the_files_that_the_next_commands_name(demo: Any) -> None:
    names = ["requests.jsonl", "outcomes.jsonl", "decisions.jsonl", "feedback.parquet", "feedback.spec.json"]
    assert all((demo.folder / name).stat().st_size > 0 for name in names)
    assert (demo.folder / "artifact" / "manifest.json").is_file()
    assert len((demo.folder / "decisions.jsonl").read_bytes().splitlines()) == 2400
