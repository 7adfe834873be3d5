"""What every policy must do; a test class of an implementation inherits this suite and says how it is made."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.choose import is_distribution
from policies.encode import Bucket, Encoder
from policies.policy import Policy
from tests.helpers.small_specs import request_of

COUNT = 33
BATCH_SIZES = (1, 2, 3, 5, 7, 8, 13, 16, 17)


class PolicySuite:
    """Inherit me, and name me `Test…`; `policy` makes one whose spec is of `tests.helpers.small_specs`."""

    def policy(self) -> Policy:
        raise NotImplementedError

    def buckets(self, policy: Policy) -> tuple[Bucket, ...]:
        encoded = Encoder(policy.spec).encode_requests([request_of(policy.spec, number) for number in range(COUNT)])
        assert encoded.faults == {}
        return encoded.buckets

    def test_it_has_a_spec_and_an_identity_that_repeat(self) -> None:
        first, second = self.policy(), self.policy()
        assert first.identity
        assert first.identity == second.identity
        assert first.spec == second.spec

    def test_it_proposes_a_distribution_over_eligible_actions_or_finite_quantities(self) -> None:
        policy = self.policy()
        for bucket in self.buckets(policy):
            proposed = policy.propose(bucket.arrays, bucket.mask)
            if policy.spec.is_quantity:
                assert proposed.shape == (len(bucket.rows), len(policy.spec.actions.names))
                assert np.isfinite(proposed).all()
                continue
            assert proposed.shape == bucket.mask.shape
            real = bucket.mask.any(axis=2)
            assert is_distribution(proposed[real], bucket.mask[real]).all()

    def test_each_row_depends_on_nothing_but_itself(self) -> None:
        policy = self.policy()
        for bucket in self.buckets(policy):
            whole = policy.propose(bucket.arrays, bucket.mask)
            for size in BATCH_SIZES:
                for start in range(0, len(bucket.rows), size):
                    part = slice(start, start + size)
                    assert _propose(policy, bucket, part).tobytes() == whole[part].tobytes()
            order = np.random.default_rng(0).permutation(len(bucket.rows))
            assert _propose(policy, bucket, order).tobytes() == whole[order].tobytes()

    def test_what_it_is_given_stays_as_it_was(self) -> None:
        policy = self.policy()
        for bucket in self.buckets(policy):
            before = {name: array.copy() for name, array in bucket.arrays.items()}, bucket.mask.copy()
            policy.propose(bucket.arrays, bucket.mask)
            assert all((before[0][name] == array).all() for name, array in bucket.arrays.items())
            assert (before[1] == bucket.mask).all()


def _propose(policy: Policy, bucket: Bucket, rows: Any) -> NDArray[np.floating]:
    return policy.propose({name: array[rows] for name, array in bucket.arrays.items()}, bucket.mask[rows])
