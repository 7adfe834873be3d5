import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, small_case_folder
from optimizer.hydrothermal.encoder import RecurrentEncoder, WindowEncoder
from optimizer.hydrothermal.inflow import InflowAutoregression
from optimizer.hydrothermal.operate import operate
from optimizer.hydrothermal.problem import draw_paths
from optimizer.hydrothermal.recipe import UnableToStart, encoder_of, export_network, steps_kept_of, train
from optimizer.hydrothermal.rollout import observe, roll_out
from optimizer.hydrothermal.settings import Settings
from optimizer.training.progress import SilentProgress
from optimizer.training.report import SimulatedReport
from policies.artifact import Artifact, load_artifact
from policies.errors import ContentRefused, UsageProblem
from tests.helpers.hydrothermal_policies import ENCODERS, bolivia, random_network
from tests.helpers.small_case import small_case, small_stage, table_of

STAGES = 12
SETTINGS = Settings(
    case=str(small_case_folder()), stages=STAGES, stage_hours=SMALL_CASE_HOURS, steps=30, batch_size=8,
    late_batch_size=8, width=16, check_every=10, held_out=16, device="cpu", seed=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimulatedReport]:
    folder = tmp_path_factory.mktemp("trained") / "artifact"
    return folder, train(None, spec=None, out=folder, settings=SETTINGS, progress=SilentProgress())


@pytest.fixture(scope="module")
def artifact(trained: tuple[Path, SimulatedReport]) -> Artifact:
    return load_artifact(trained[0])


def _costs(artifact: Artifact, *, count: int, seed: int) -> Floats:
    paths = draw_paths(small_case(), count, stages=STAGES, generator=np.random.default_rng(seed))
    volumes = roll_out(artifact.policy, small_stage(), paths)
    costs: Floats = operate(small_stage(), volumes, inflow_BTR=paths).cost.sum(axis=1)
    return costs


@pytest.mark.slow  # the fixture trains and exports: two seconds that the first test pays
def test_the_report_tells_the_curve_and_judges_what_was_exported(
    trained: tuple[Path, SimulatedReport], artifact: Artifact
) -> None:
    folder, report = trained
    assert [look.step for look in report.looks] == [10, 20, 30]
    assert report.looks[-1].cost < report.looks[0].cost
    assert (report.stopped, report.identity) == ("steps", artifact.identity)
    assert report.details["gradient_cosine"] >= 1.0 - 1e-6
    assert report.details["audited_points"] > 0
    assert report.low < report.mean_cost < report.high
    assert report.mean_cost == pytest.approx(report.looks[-1].cost, rel=0.1)
    assert msgspec.json.decode((folder / "evaluation.json").read_bytes(), type=SimulatedReport) == report


@pytest.mark.slow
def test_the_artifact_is_feasible_in_closed_loop_and_the_same_again(artifact: Artifact, tmp_path: Path) -> None:
    costs = _costs(artifact, count=12, seed=77)
    assert np.isfinite(costs).all()
    again = train(None, spec=None, out=tmp_path / "again", settings=SETTINGS, progress=SilentProgress())
    assert again.identity == artifact.identity


@pytest.mark.slow
def test_the_artifact_says_what_a_planner_asks_for(artifact: Artifact) -> None:
    spec = artifact.spec
    assert [(field.name, field.units, field.width, field.steps) for field in spec.fields] == [
        ("stage", "from 1", 1, None),
        ("volume", "hm3", 4, None),
        ("inflow", "m3/s", 4, 26),
    ]
    assert artifact.recourse is not None
    assert {output.name: output.units for output in artifact.recourse.outputs} == {
        "dispatch": "MW",
        "turbined": "m3/s",
        "spill": "hm3",
        "deficit": "MW",
        "price": "$ per MW and stage",
        "water_value": "$ per hm3",
        "shortfall": "hm3",
    }
    training = json.loads((artifact.folder / "manifest.json").read_bytes())["training"]
    assert (training["recipe"], training["settings"]["stage_hours"]) == ("hydrothermal", SMALL_CASE_HOURS)
    assert "case" not in training["settings"]


class _Cut:
    """Interrupt a training after some steps, as a person does."""

    def __init__(self, after: int) -> None:
        self.left = after

    def start(self, title: str, *, total: int) -> None:
        assert title == "ts-ddr"
        assert total <= SETTINGS.steps

    def finish(self, note: str) -> None:
        raise AssertionError(note)

    def advance(self, note: str) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_training_ends_in_the_artifact_of_an_uninterrupted_one(
    artifact: Artifact, tmp_path: Path
) -> None:
    settings, out = msgspec.structs.replace(SETTINGS, resume=True), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(None, spec=None, out=out, settings=settings, progress=_Cut(25))
    assert (tmp_path / "out.checkpoint" / "hydrothermal.pt").exists()
    train(None, spec=None, out=out, settings=settings, progress=SilentProgress())
    assert (out / "policy.onnx").read_bytes() == (artifact.folder / "policy.onnx").read_bytes()
    assert not (tmp_path / "out.checkpoint").exists()


def test_a_log_or_a_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnableToStart, match="takes neither a log nor a spec"):
        train(tmp_path / "log.parquet", spec=None, out=tmp_path, settings=SETTINGS, progress=SilentProgress())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"case": "nowhere"}, UsageProblem, "expected a case in nowhere"),
        ({"stage_hours": 1.0}, ContentRefused, "stage_hours"),
    ],
)
def test_a_case_that_cannot_be_is_named(
    change: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SETTINGS, **change)
    with pytest.raises(error, match=message):
        train(None, spec=None, out=tmp_path / "out", settings=settings, progress=SilentProgress())
    assert not (tmp_path / "out").exists()


def _law() -> Case:
    """Return the small case with inflows that follow an autoregression, as Brazil's do."""
    median = table_of(small_case()).typical
    law = InflowAutoregression(
        initial=median[0],
        median=median,
        persistence=np.full_like(median, 0.5),
        covariance=np.tile(0.01 * np.eye(4), (len(median), 1, 1)),
    )
    return dataclasses.replace(small_case(), inflow=law)


@pytest.mark.parametrize(
    ("change", "table", "law"),
    [
        ({"history": 4}, 4, 4),
        ({"history": 0}, None, None),
        ({"encoder": "none"}, None, None),
        ({"encoder": "window"}, 1, 1),
        ({"encoder": "window", "history": 3}, 3, 3),
    ],
)
def test_a_window_is_shown_where_one_is_asked_for(change: dict[str, Any], table: int | None, law: int | None) -> None:
    settings = msgspec.structs.replace(SETTINGS, **change)
    for case, history in ((small_case(), table), (_law(), law)):
        encoder = encoder_of(settings, case)
        if history is None:
            assert encoder is None
        else:
            assert isinstance(encoder, WindowEncoder)
            assert encoder.history == history


def test_by_itself_a_summary_is_told_where_inflows_remember_and_nothing_where_they_do_not() -> None:
    assert encoder_of(SETTINGS, small_case()) is None
    assert isinstance(encoder_of(SETTINGS, _law()), RecurrentEncoder)


@pytest.mark.parametrize(("kept", "steps"), [(None, STAGES), (5, 5), (40, STAGES)])
def test_a_recurrent_summary_is_trained_on_what_a_request_brings(kept: int | None, steps: int) -> None:
    settings = msgspec.structs.replace(SETTINGS, encoder="recurrent", encoder_width=9, steps_kept=kept)
    encoder = encoder_of(settings, small_case())
    assert isinstance(encoder, RecurrentEncoder)
    assert (encoder.steps, len(encoder.pace)) == (steps, 9)
    assert steps_kept_of(settings, small_case()) == (kept or STAGES)


@pytest.mark.parametrize(("change", "kept"), [({}, 26), ({"history": 30}, 30), ({"steps_kept": 8}, 8)])
def test_requests_may_bring_half_a_year_unless_more_is_asked_for(change: dict[str, int], kept: int) -> None:
    assert steps_kept_of(msgspec.structs.replace(SETTINGS, **change), small_case()) == kept


@pytest.mark.slow  # exports an artifact
@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_the_artifact_goes_the_way_of_the_training_roll_out(encoder: str, tmp_path: Path) -> None:
    network = random_network(seed=6, encoder=encoder)
    settings = msgspec.structs.replace(SETTINGS, steps_kept=5 if encoder == "recurrent_5" else STAGES)
    paths = draw_paths(small_case(), 6, stages=STAGES, generator=np.random.default_rng(8))
    with torch.no_grad():
        expected = network.roll_out(torch.tensor(paths)).numpy()
    export_network(network, arrays=small_stage(), settings=settings, folder=tmp_path / "artifact")
    policy = load_artifact(tmp_path / "artifact").policy
    np.testing.assert_allclose(roll_out(policy, small_stage(), paths)[:, 1:], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_what_pads_the_inflows_of_a_request_changes_no_bit_of_the_artifact(tmp_path: Path) -> None:
    network = random_network(seed=7, encoder="recurrent")
    export_network(network, arrays=small_stage(), settings=SETTINGS, folder=tmp_path / "artifact")
    policy = load_artifact(tmp_path / "artifact").policy
    paths = draw_paths(small_case(), 6, stages=STAGES, generator=np.random.default_rng(8))
    volume = np.tile(small_case().volume_initial, (6, 1))
    observed = observe(small_case(), volume, paths, stage=2, spec=policy.spec)
    spoiled = {name: array.copy() for name, array in observed.items()}
    spoiled["sequence_inflow"][:, :-3] = np.array([1e9, -3.0, np.nan, np.inf])
    mask = np.ones((6, 1, 1), dtype=np.bool_)
    np.testing.assert_array_equal(policy.propose(spoiled, mask), policy.propose(observed, mask))
    alone = [policy.propose({name: array[[row]] for name, array in observed.items()}, mask[[row]]) for row in range(6)]
    np.testing.assert_array_equal(np.concatenate(alone), policy.propose(observed, mask))


@pytest.mark.slow
def test_an_interrupted_training_of_a_recurrent_summary_ends_the_same(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, encoder="recurrent", encoder_width=8, steps_kept=5, steps=20)
    whole, out = tmp_path / "whole", tmp_path / "out"
    report = train(None, spec=None, out=whole, settings=settings, progress=SilentProgress())
    assert report.details["gradient_cosine"] >= 1.0 - 1e-6
    assert load_artifact(whole).spec.sequence_fields[0].steps == 5
    resumed = msgspec.structs.replace(settings, resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(None, spec=None, out=out, settings=resumed, progress=_Cut(15))
    train(None, spec=None, out=out, settings=resumed, progress=SilentProgress())
    assert (out / "policy.onnx").read_bytes() == (whole / "policy.onnx").read_bytes()


@pytest.mark.slow
def test_bolivia_with_all_its_load_from_a_start_of_70_percent_is_never_infeasible(
    shared_data: Path, tmp_path: Path
) -> None:
    settings = Settings(
        case=str(shared_data / "hydrothermal" / "bolivia"), stages=52, stage_hours=168.0, initial_storage=0.7,
        steps=20, batch_size=8, width=16, check_every=10, held_out=8, device="cpu",
    )  # fmt: skip
    report = train(None, spec=None, out=tmp_path / "out", settings=settings, progress=SilentProgress())
    arrays = bolivia(shared_data, load_scale=1.0, initial_storage=0.7)
    paths = draw_paths(arrays.case, 20, stages=52, generator=np.random.default_rng(9))
    volumes = roll_out(load_artifact(tmp_path / "out").policy, arrays, paths)
    assert np.isfinite(operate(arrays, volumes, inflow_BTR=paths).cost).all()
    assert report.stopped == "steps"


@pytest.mark.slow
def test_brazil_has_the_inflow_as_a_state_and_its_loads_in_the_request(shared_data: Path, tmp_path: Path) -> None:
    settings = Settings(
        case=str(shared_data / "hydrothermal" / "msppy_brazil"), stages=14, stage_hours=730.0, steps=20,
        batch_size=8, width=16, check_every=10, held_out=8, device="cpu",
    )  # fmt: skip
    report = train(None, spec=None, out=tmp_path / "out", settings=settings, progress=SilentProgress())
    spec = load_artifact(tmp_path / "out").spec
    assert [field.name for field in spec.fields] == ["stage", "volume", "load", "inflow"]
    assert report.looks[-1].cost < report.looks[0].cost
