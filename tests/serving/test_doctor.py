from importlib.metadata import packages_distributions
from pathlib import Path

import msgspec
import pytest

from serving.doctor import (
    ROOTS,
    check_checksums,
    check_exploration,
    check_packages,
    check_policies,
    check_telemetry,
    roots_here,
)
from tests.helpers.lineups import artifact_of

HOME = {root: Path("/site") / root for root in ROOTS}


def test_this_installation_is_sound() -> None:
    findings = [*check_packages(roots_here(), claims=packages_distributions()), check_checksums()]
    assert [finding.state for finding in findings] == ["ok", "ok"]


def test_a_client_without_checksums_in_c_is_found() -> None:
    assert check_checksums(extension=None).state == "wrong"


@pytest.mark.parametrize(
    ("environment", "state"),
    [({"ORT_DISABLE_TELEMETRY": "1"}, "ok"), ({"ORT_DISABLE_TELEMETRY": "0"}, "wrong"), ({}, "wrong")],
)
def test_telemetry_that_may_be_sent_is_found(environment: dict[str, str], state: str) -> None:
    assert check_telemetry(environment).state == state


@pytest.mark.parametrize(
    ("found", "claims", "said"),
    [
        (HOME | {"policies": Path("/elsewhere/policies")}, {}, "policies is imported from /elsewhere/policies"),
        (HOME, {"serving": ["penstock", "tf-serving"]}, "serving is also brought by tf-serving"),
        (HOME | {"optimizer": None}, {}, "optimizer is not found"),
    ],
)
def test_a_package_root_that_is_not_ours_is_found(
    found: dict[str, Path | None], claims: dict[str, list[str]], said: str
) -> None:
    (finding,) = check_packages(found, claims=claims)
    assert finding.state == "wrong"
    assert said in finding.detail
    assert finding.remedy


def test_an_artifact_that_was_changed_is_found(tmp_path: Path) -> None:
    sound = artifact_of("ad_load").folder
    folder = tmp_path / sound.name
    folder.mkdir()
    for path in sound.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    findings, specs = check_policies(folder, None, salt=b"")
    assert {finding.state for finding in findings} == {"ok"}
    assert [spec.domain for spec in specs] == ["ad_load"]
    (folder / "policy.onnx").write_bytes(b"changed")
    findings, specs = check_policies(folder, tmp_path / "catalogue.json", salt=b"")
    assert [(finding.check, finding.state) for finding in findings] == [("artifact", "wrong"), ("catalogue", "wrong")]
    assert specs == []


def test_a_policy_that_never_explores_is_found() -> None:
    spec = artifact_of("ad_load").spec
    assert check_exploration(spec).state == "ok"
    assert check_exploration(msgspec.structs.replace(spec, floor=0.0)).state == "wrong"
