from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.hydrothermal.judge.requests import UnableToAsk, UnableToWriteRequests, stage_columns, write_requests
from optimizer.hydrothermal.rollout import observe
from optimizer.hydrothermal.spec import policy_spec
from policies.encode import Encoder
from policies.events import read_request
from policies.spec import Field
from tests.helpers.small_case import small_case
from tests.helpers.small_judged import STAGES, judged_small

_SPEC = policy_spec(small_case(), stages=STAGES, history=3)


def _volumes(count: int) -> np.ndarray:
    return np.random.default_rng(8).uniform(0.0, 1.0, (count, 4)) * small_case().volume_max


def test_requests_encode_to_what_the_network_was_trained_on() -> None:
    inflow, volume = judged_small().inflow, _volumes(12)
    columns = stage_columns(_SPEC, small_case(), stage=4, volume_BR=volume, inflow_BTR=inflow[:, :5])
    (bucket,) = Encoder(_SPEC).encode(columns).buckets
    expected = observe(small_case(), volume, inflow, stage=4, spec=_SPEC)
    assert set(bucket.arrays) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(bucket.arrays[name], values)


def test_a_file_of_requests_reads_back_as_the_same_observations(tmp_path: Path) -> None:
    inflow, volume = judged_small().inflow[0], _volumes(5)
    write_requests(
        tmp_path / "requests.jsonl", spec=_SPEC, case=small_case(), volume_before_TR=volume, inflow_TR=inflow
    )
    requests = [read_request(line) for line in (tmp_path / "requests.jsonl").read_bytes().splitlines()]
    assert [request.step for request in requests] == [0, 1, 2, 3, 4]
    assert len({request.request_id for request in requests}) == 5
    encoded = Encoder(_SPEC).encode_requests(requests)
    assert encoded.faults == {}
    np.testing.assert_allclose(encoded.buckets[0].arrays["request"][:, 1:], volume, rtol=1e-15)
    np.testing.assert_array_equal(encoded.buckets[0].arrays["sequence_inflow"][4], inflow[2:5])


def test_loads_that_change_go_along_in_megawatts() -> None:
    case = small_case()
    changing = replace(case, load=np.vstack([case.load, 2.0 * case.load]))
    spec = policy_spec(changing, stages=STAGES, history=1)
    columns = stage_columns(spec, changing, stage=1, volume_BR=_volumes(1), inflow_BTR=judged_small().inflow[:1, :2])
    np.testing.assert_allclose(columns.request["load"], 2.0 * case.base_mva * case.load)


def test_a_field_that_no_state_tells_is_refused() -> None:
    strange = replace_fields(Field(name="price", lower=0.0, upper=9.0))
    with pytest.raises(UnableToAsk, match="asks for 'price'"):
        stage_columns(strange, small_case(), stage=0, volume_BR=_volumes(1), inflow_BTR=judged_small().inflow[:1, :1])


def replace_fields(added: Field):  # type: ignore[no-untyped-def]
    import msgspec

    return msgspec.structs.replace(_SPEC, fields=(*_SPEC.fields, added))


def test_requests_that_cannot_be_written_are_a_usage_problem(tmp_path: Path) -> None:
    with pytest.raises(UnableToWriteRequests, match="cannot write requests"):
        write_requests(
            tmp_path / "no" / "requests.jsonl", spec=_SPEC, case=small_case(),
            volume_before_TR=_volumes(1), inflow_TR=judged_small().inflow[0],
        )  # fmt: skip
