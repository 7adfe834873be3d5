from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from optimizer.hydrothermal.judge.artifact import ArtifactOfAnother, ServedPolicy, UnableToDecide, roll_out_served
from optimizer.training.progress import SilentProgress
from policies.artifact import Artifact
from policies.recourse.contract import Applied, Parameters
from tests.helpers.small_case import small_case
from tests.helpers.small_judged import STAGES, artifact_keeping, judged_small


def _served(artifact: Artifact) -> ServedPolicy:
    return ServedPolicy(artifact, case=small_case(), stages=STAGES)


def _rolled(policy: ServedPolicy, judged=None) -> np.ndarray:  # type: ignore[no-untyped-def]
    judged = judged or judged_small()
    return roll_out_served(policy, case=small_case(), inflow_BTR=judged.inflow, name="kept", progress=SilentProgress())


def test_volumes_beyond_reach_are_those_that_recourse_applies() -> None:
    policy = _served(artifact_keeping(1.0))
    volume = _rolled(policy)
    assert policy.largest_change > 1.0
    assert policy.fallbacks == 0
    assert (volume <= small_case().volume_max).all()
    judged_small().served("kept", _served(artifact_keeping(1.0)))  # HiGHS holds every one of these volumes


def test_volumes_within_reach_are_applied_as_proposed() -> None:
    policy = _served(artifact_keeping(0.05))
    _rolled(policy)
    assert policy.largest_change < 1e-6


def test_what_the_policy_sees_of_inflows_ends_with_the_stage() -> None:
    artifact, judged = artifact_keeping(0.3), judged_small()
    _rolled(_served(artifact), judged)
    policy: Any = artifact.policy
    seen = [arrays["sequence_inflow"] for arrays in policy.asked]
    np.testing.assert_array_equal(seen[0][:, -1], judged.inflow[:, 0])
    np.testing.assert_array_equal(seen[0][:, :-1], 0.0)
    np.testing.assert_array_equal(seen[4], judged.inflow[:, 2:5])


def test_later_inflows_do_not_change_what_is_decided_now() -> None:
    judged = judged_small()
    other = replace(judged, inflow=judged.inflow.copy())
    other.inflow[:, 3:] *= 2.0
    first, second = (_rolled(_served(artifact_keeping(0.5)), one) for one in (judged, other))
    np.testing.assert_array_equal(first[:, :4], second[:, :4])


class _Refusing:
    """Finds nothing feasible but for the fallback of the spec."""

    kind, outputs = "linear", ()

    def __init__(self, real: Any, *, is_hopeless: bool) -> None:
        self._real, self._is_hopeless = real, is_hopeless

    def apply(self, proposed: np.ndarray, *, parameters: Parameters, seeds: Any = None) -> Applied:
        found: Applied = self._real.apply(proposed, parameters=parameters)
        faults = {0: "no optimum"} if len(proposed) > 1 or self._is_hopeless else {}
        return replace(found, faults=faults)


def test_a_row_without_an_optimum_takes_the_fallback_and_is_counted() -> None:
    artifact = artifact_keeping(0.2)
    policy = _served(replace(artifact, recourse=_Refusing(artifact.recourse, is_hopeless=False)))
    _rolled(policy)
    assert policy.fallbacks == judged_small().inflow.shape[1]


def test_what_would_be_a_dead_letter_is_an_error_that_names_its_place() -> None:
    artifact = artifact_keeping(0.2)
    policy = _served(replace(artifact, recourse=_Refusing(artifact.recourse, is_hopeless=True)))
    with pytest.raises(UnableToDecide, match="stage 1 of scenario 1: no optimum"):
        _rolled(policy)


def test_a_flood_beyond_the_spec_is_an_error_that_names_stage_scenario_and_reason() -> None:
    judged = judged_small()
    judged.inflow[4, 2] *= 1e4
    with pytest.raises(UnableToDecide, match=r"stage 3 of scenario 5: .*inflow.*dead letter \(out_of_range\)"):
        _rolled(_served(artifact_keeping(0.2)), judged)


def test_volumes_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(UnableToDecide, match="stage 1 of scenario 1: the graph's volumes are not finite"):
        _rolled(_served(artifact_keeping(float("nan"))))


def test_an_artifact_of_another_horizon_or_of_other_plants_is_refused() -> None:
    with pytest.raises(ArtifactOfAnother, match="trained for 8 stages, found 5"):
        _served(artifact_keeping(0.2, stages=5))
    artifact = artifact_keeping(0.2)
    actions = msgspec.structs.replace(artifact.spec.actions, names=("A", "B", "C", "D"))
    strange = replace(artifact, spec=msgspec.structs.replace(artifact.spec, actions=actions))
    with pytest.raises(ArtifactOfAnother, match=r"plants Upper, .*, found one for A, B, C, D") as caught:
        _served(strange)
    assert caught.value.exit_code == 2
