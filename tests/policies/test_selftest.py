import numpy as np
import pytest

from policies.policy import UniformPolicy
from policies.selftest import (
    SelftestInvalid,
    pack_selftest,
    random_inputs,
    selftest_of,
    tolerance_scale,
    unpack_selftest,
)
from policies.signature import graph_inputs
from policies.spec import PolicySpec
from tests.helpers.policy_specs import ASSIGNMENT, OWN_ACTIONS, PLAIN, QUANTITY, SPECS


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.domain)
def test_arrays_have_the_shapes_of_the_graphs_inputs(spec: PolicySpec) -> None:
    for arrays, mask in random_inputs(spec, count=5, seed=1):
        sizes = {"batch": 5, "slots": mask.shape[1], "actions": mask.shape[2]}
        found = {**arrays, "mask": mask}
        assert list(found) == [tensor.name for tensor in graph_inputs(spec)]
        for tensor in graph_inputs(spec):
            assert found[tensor.name].dtype == tensor.dtype
            assert found[tensor.name].shape == tuple(sizes.get(str(axis), axis) for axis in tensor.axes)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.domain)
def test_the_same_seed_gives_the_same_inputs(spec: PolicySpec) -> None:
    first, second = (random_inputs(spec, count=4, seed=7) for _ in range(2))

    for (arrays, mask), (again, mask_again) in zip(first, second, strict=True):
        assert mask.tobytes() == mask_again.tobytes()
        assert {name: a.tobytes() for name, a in arrays.items()} == {name: a.tobytes() for name, a in again.items()}


def test_rows_0_and_1_lie_on_the_bounds() -> None:
    ((arrays, mask),) = random_inputs(QUANTITY, count=3, seed=0)

    assert arrays["request"][0].tolist() == [0, *[-1] * 7, 0]
    assert arrays["request"][1].tolist() == [24, *[1] * 7, 3]
    assert arrays["length_inflow"][:2].tolist() == [0, 6]
    assert mask.shape == (3, 1, 1)


def test_values_lie_within_bounds_and_codes_are_whole() -> None:
    ((arrays, _),) = random_inputs(QUANTITY, count=500, seed=0)
    request = arrays["request"]

    assert (request >= [0, *[-1] * 7, 0]).all()
    assert (request <= [24, *[1] * 7, 3]).all()
    assert set(request[:, 8].tolist()) == {0.0, 1.0, 2.0, 3.0}


def test_sequences_are_right_aligned_with_zeros_before() -> None:
    ((arrays, _),) = random_inputs(QUANTITY, count=200, seed=0)
    is_step = np.arange(6) >= 6 - arrays["length_inflow"][:, None]

    assert (arrays["sequence_inflow"][~is_step] == 0).all()
    assert set(arrays["length_inflow"].tolist()) == set(range(7))


def test_own_actions_and_slots_come_in_several_padded_sizes() -> None:
    assert [mask.shape[1:] for _, mask in random_inputs(OWN_ACTIONS, count=2, seed=0)] == [
        (1, 1), (1, 2), (1, 4), (1, 8), (1, 64),
    ]  # fmt: skip
    assert [mask.shape[1:] for _, mask in random_inputs(ASSIGNMENT, count=2, seed=0)] == [
        (1, 1), (2, 4), (4, 16), (2, 64),
    ]  # fmt: skip


def test_real_slots_have_an_eligible_action_and_padding_has_none() -> None:
    for arrays, mask in random_inputs(ASSIGNMENT, count=100, seed=3):
        slot_count = mask.shape[1]
        is_eligible_slot = mask.any(axis=2)
        counts = is_eligible_slot.sum(axis=1)
        assert (counts > slot_count // 2).all()
        assert (is_eligible_slot == (np.arange(slot_count) < counts[:, None])).all()
        is_padded_slot = ~is_eligible_slot
        assert (arrays["slots"][is_padded_slot] == 0).all()
        assert (mask[0].sum(axis=1) <= 1).all()
        assert mask[1].all()


def test_selftest_vectors_survive_packing() -> None:
    policy = UniformPolicy(ASSIGNMENT)
    groups = [
        (arrays, mask, policy.propose(arrays, mask)) for arrays, mask in random_inputs(ASSIGNMENT, count=3, seed=2)
    ]

    again = unpack_selftest(pack_selftest(groups), spec=ASSIGNMENT)

    for (arrays, mask, expected), (found, found_mask, found_expected) in zip(groups, again, strict=True):
        assert (mask == found_mask).all()
        assert (expected == found_expected).all()
        assert all((arrays[name] == found[name]).all() for name in arrays)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("0/request", None),
        ("0/request", np.zeros((8, 7))),
        ("0/request", np.zeros((7, 8))),
        ("0/request", np.zeros((8, 8), np.float32)),
        ("0/mask", np.zeros((8, 1, 3))),
        ("0/extra", np.zeros(8)),
        ("0/expected", np.float64(1)),
    ],
)
def test_vectors_that_do_not_fit_the_spec_are_refused(name: str, value: object) -> None:
    packed = selftest_of(UniformPolicy(PLAIN), spec=PLAIN)
    if value is None:
        del packed[name]
    else:
        packed[name] = np.asarray(value)

    with pytest.raises(SelftestInvalid, match="group '0'"):
        unpack_selftest(packed, spec=PLAIN)


def test_no_vectors_at_all_are_refused() -> None:
    with pytest.raises(SelftestInvalid, match="found none"):
        unpack_selftest({}, spec=PLAIN)


def test_tolerances_of_quantities_follow_their_range() -> None:
    assert np.asarray(tolerance_scale(QUANTITY)).tolist() == [1, 1, 9995]
    assert tolerance_scale(PLAIN) == 1.0
