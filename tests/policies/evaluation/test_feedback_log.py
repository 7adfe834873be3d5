from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from policies.assemble import assemble
from policies.columns import Columns
from policies.evaluation.evaluate import answer, evaluate
from policies.evaluation.feedback_log import FeedbackLog, ParquetColumns, SpecNotTaken, UnableToUseRewardModel, open_log
from policies.evaluation.question import Question
from policies.evaluation.targets import Reference, Target, UnableToFindTarget, parse_reference
from policies.feedback import Feedback, write_feedback
from policies.spec import ActionSet, Field, PolicySpec, Reward, spec_path_of, spec_to_bytes

COUNT = 600
SPEC = PolicySpec(
    domain="shop",
    fields=(Field(name="position", lower=0, upper=1),),
    actions=ActionSet(kind="choice", ids=("a", "b", "c")),
    rewards=(Reward(name="click", lower=0, upper=1), Reward(name="sale", lower=0, upper=5)),
)
LOGGING = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
UNIFORM = Target(name="u", reference=Reference(kind="uniform"))
COLUMNS = Target(name="c", reference=Reference(kind="columns"))


def _feedback(**changes: Any) -> Feedback:
    generator = np.random.default_rng(5)
    position = generator.integers(2, size=COUNT)
    action = (generator.random(COUNT)[:, None] > LOGGING.cumsum(axis=1)[position]).sum(axis=1)
    given: dict[str, Any] = {
        "columns": Columns(count=COUNT, request={"position": position.astype(np.float64)}),
        "actions": [SPEC.actions.ids[place] for place in action] if SPEC.actions.ids else [],
        "propensity": LOGGING[position, action],
        "rewards": {
            "click": (generator.random(COUNT) < 0.2 + 0.2 * action).astype(np.float64),
            "sale": generator.integers(6, size=COUNT).astype(np.float64),
        },
    }
    return assemble(SPEC, **{**given, **changes})


def _value(
    log: FeedbackLog, question: Question, *, target: str = "u", reward: str = "click"
) -> dict[str, float | None]:
    found = answer(question, log=log).estimates
    return {one.estimator: one.estimate.value for one in found if (one.target, one.reward) == (target, reward)}


def test_a_policy_is_weighed_by_its_probability_of_each_logged_action() -> None:
    feedback = _feedback()
    values = _value(FeedbackLog(feedback), Question(targets=[UNIFORM]))
    weight = (1 / 3) / feedback.propensity
    assert values["ips"] == pytest.approx(float(np.mean(weight * feedback.rewards["click"])), abs=1e-12)
    assert set(values) == {"ips", "clipped_ips", "snips", "dm", "dr"}


def test_the_log_itself_earns_the_mean_reward() -> None:
    feedback = _feedback()
    values = _value(FeedbackLog(feedback), Question(targets=[UNIFORM]), target="logged")
    assert values["ips"] == pytest.approx(float(feedback.rewards["click"].mean()), abs=1e-12)


def test_a_weighted_sum_is_the_sum_of_the_estimates() -> None:
    log = FeedbackLog(_feedback())
    parts = Question(targets=[UNIFORM])
    summed = Question(targets=[UNIFORM], rewards=[("click", 2.0), ("sale", -1.0)])
    click, sale = (_value(log, parts, reward=name)["ips"] for name in ("click", "sale"))
    assert click is not None
    assert sale is not None
    assert _value(log, summed, reward="sum")["ips"] == pytest.approx(2 * click - sale, abs=1e-12)


def test_bounds_of_rewards_are_those_of_the_spec() -> None:
    found = answer(Question(targets=[UNIFORM], reward_bounds=(-9.0, 9.0)), log=FeedbackLog(_feedback()))
    assert {(one.reward, one.reward_bounds) for one in found.estimates} == {("click", (0, 1)), ("sale", (0, 5))}


def test_the_bound_follows_from_the_floor_where_every_row_has_one() -> None:
    floored = answer(Question(targets=[UNIFORM]), log=FeedbackLog(_feedback(propensity_floor=np.full(COUNT, 0.1))))
    assert floored.estimates[0].weight_bound.source == "floor"
    assert floored.estimates[0].weight_bound.value == pytest.approx((1 / 3) / 0.1)
    some = np.where(np.arange(COUNT) == 7, np.nan, 0.1)
    partly = answer(Question(targets=[UNIFORM]), log=FeedbackLog(_feedback(propensity_floor=some)))
    assert partly.estimates[0].weight_bound.source == "log"


def test_pending_rows_and_fallbacks_are_counted() -> None:
    clicks = np.ones(COUNT)
    clicks[:10] = np.nan
    propensity = np.full(COUNT, 0.5)
    propensity[10:15] = np.nan
    fallbacks = ["deadline" if 10 <= row < 15 else None for row in range(COUNT)]
    feedback = _feedback(propensity=propensity, fallbacks=fallbacks, rewards={"click": clicks, "sale": clicks})
    (ips, *_) = answer(Question(targets=[UNIFORM], rewards=[("click", None)]), log=FeedbackLog(feedback)).estimates
    assert (ips.estimate.row_count, ips.estimate.excluded, ips.estimate.pending) == (COUNT - 15, 5, 10)


def test_why_dm_and_dr_are_left_out_is_said() -> None:
    feedback = _feedback(units=["one"] * COUNT)
    found = answer(Question(targets=[UNIFORM]), log=FeedbackLog(feedback))
    assert {one.estimator for one in found.estimates} == {"ips", "clipped_ips", "snips"}
    assert found.notes[0].startswith("u: dm and dr are left out: ")


def test_a_table_is_a_target(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    np.savetxt(path, LOGGING.T, delimiter=",", header="a,b")
    feedback = _feedback()
    target = Target(name="u", reference=parse_reference(f"table:{path}@position"))
    values = _value(FeedbackLog(feedback), Question(targets=[target]))
    assert values["ips"] == pytest.approx(float(feedback.rewards["click"].mean()), abs=1e-12)


def _with_columns(folder: Path, **columns: Any) -> Path:
    """Write a log whose file has further columns, in another order than the rows of the feedback."""
    path = folder / "log.parquet"
    write_feedback(_feedback(), path)
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table.take(np.random.default_rng(1).permutation(COUNT)), path)
    spec_path_of(path).write_bytes(spec_to_bytes(SPEC))
    return path


def test_columns_of_parquet_are_a_target_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    feedback = _feedback()
    expected = np.random.default_rng(2).uniform(0.2, 0.4, COUNT)
    path = _with_columns(tmp_path, p_eval=expected)
    found = answer(
        Question(targets=[COLUMNS], rewards=[("click", None)]), log=open_log(path, format="feedback", spec=None)
    )
    ips = next(one.estimate.value for one in found.estimates if one.estimator == "ips")
    weighed = expected / feedback.propensity * feedback.rewards["click"]
    assert ips == pytest.approx(float(weighed.mean()), abs=1e-12)
    assert any("q_logged" in note for note in found.notes)


def test_predictions_of_several_rewards_are_left_out(tmp_path: Path) -> None:
    half = np.full(COUNT, 0.5)
    path = _with_columns(tmp_path, p_eval=half, q_logged=half, q_pi=half)
    found = answer(Question(targets=[COLUMNS]), log=open_log(path, format="feedback", spec=None))
    assert {one.estimator for one in found.estimates} == {"ips", "clipped_ips", "snips"}
    assert "do not say which reward" in found.notes[0]


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = _with_columns(tmp_path)
    for log in (open_log(path, format="feedback", spec=None), FeedbackLog(_feedback())):
        with pytest.raises(UnableToFindTarget, match="needs the column p_eval"):
            answer(Question(targets=[COLUMNS]), log=log)


def test_extra_columns_are_read_by_name(tmp_path: Path) -> None:
    columns = ParquetColumns(_with_columns(tmp_path, p_eval=np.full(COUNT, 0.25)))
    assert "p_eval" in columns.names
    assert columns.read(["p_eval"])["p_eval"].tolist() == [0.25] * COUNT


def test_a_spec_goes_with_feedback_alone(tmp_path: Path) -> None:
    with pytest.raises(SpecNotTaken, match="brings its own spec"):
        open_log(tmp_path / "log.csv", format="obd", spec=tmp_path / "spec.json")


def test_a_plain_table_is_evaluated_without_a_spec(tmp_path: Path) -> None:
    feedback = _feedback()
    path = tmp_path / "log.csv"
    rows = zip(feedback.actions, feedback.propensity.tolist(), feedback.rewards["click"].tolist(), strict=True)
    path.write_text("action,propensity,reward\n" + "\n".join(f"{a},{p!r},{r!r}" for a, p, r in rows) + "\n")
    found = evaluate(path, format="table", spec=None, question=Question(targets=[UNIFORM]))
    assert found.estimates[0].estimate.row_count == COUNT


def _certain_click() -> bytes:
    """Return a reward model that predicts 1 for every eligible action."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["mask"], ["reward"], to=TensorProto.FLOAT)],
        "reward",
        [helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", 1, 3])],
        [helper.make_tensor_value_info("reward", TensorProto.FLOAT, ["batch", 1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_a_reward_model_of_ones_own_gives_dm_and_dr(tmp_path: Path) -> None:
    feedback, path = _feedback(), tmp_path / "model.onnx"
    path.write_bytes(_certain_click())
    question = Question(targets=[UNIFORM], rewards=[("click", None)], reward_model=path)
    values = _value(FeedbackLog(feedback), question)
    weight = (1 / 3) / feedback.propensity
    assert values["dm"] == pytest.approx(1.0, abs=1e-12)
    assert values["dr"] == pytest.approx(1.0 + float(np.mean(weight * (feedback.rewards["click"] - 1.0))), abs=1e-12)


def test_a_reward_model_is_of_one_reward(tmp_path: Path) -> None:
    with pytest.raises(UnableToUseRewardModel, match="one reward"):
        answer(Question(targets=[UNIFORM], reward_model=tmp_path / "model.onnx"), log=FeedbackLog(_feedback()))
