from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.pacing import HASTE, LONGEST, PERIOD_S, WORTHWHILE, Pacer, late_age

TARGET_S = 0.02
AGES = st.floats(0, 1, allow_nan=False)
BATCHES = st.lists(st.tuples(AGES, st.integers(1, 500)), min_size=1, max_size=50)


def paced(*, rate: float, age_s: float, periods: int = 40, pacer: Pacer | None = None, start_s: float = 0.0) -> Pacer:
    """Commit a hundred batches a second, each as old, for some periods."""
    pacer = pacer or Pacer(target_s=TARGET_S)
    for number in range(round(periods * PERIOD_S * 100) + 1):
        now_s = start_s + number / 100
        pacer.note(messages=max(1, round(rate / 100)), oldest_s=age_s, has_more=False, now_s=now_s)
    return pacer


def test_at_low_rates_a_batch_goes_at_once() -> None:
    assert paced(rate=200, age_s=0.005).wait_s() == 0.0


def test_at_middle_rates_a_wait_grows_to_a_quarter_of_the_target() -> None:
    waits = [paced(rate=2_000, age_s=0.01, periods=periods).wait_s() for periods in range(40)]
    assert waits == sorted(waits)
    assert waits[0] == 0.0
    assert waits[-1] == pytest.approx(TARGET_S * LONGEST)


def test_near_the_target_the_wait_is_halved_in_each_period_until_there_is_none() -> None:
    pacer = paced(rate=8_000, age_s=0.01)
    found = [pacer.linger_s]
    for period in range(8):
        paced(rate=8_000, age_s=0.017, periods=1, pacer=pacer, start_s=20 + period)
        found.append(pacer.linger_s)
    assert all(after <= before / 2 for before, after in pairwise(found))
    assert found[-1] == 0.0


def test_between_ease_and_haste_the_wait_stays() -> None:
    pacer = paced(rate=8_000, age_s=0.01, periods=10)
    before = pacer.linger_s
    paced(rate=8_000, age_s=0.7 * TARGET_S, periods=10, pacer=pacer, start_s=20)
    assert pacer.linger_s == before > 0


def test_with_more_at_hand_nothing_is_waited_for() -> None:
    pacer = paced(rate=8_000, age_s=0.01)
    assert pacer.wait_s() > 0
    pacer.note(messages=500, oldest_s=0.01, has_more=True, now_s=100.0)
    assert pacer.wait_s() == 0.0


def test_a_first_batch_says_nothing_of_the_rate() -> None:
    pacer = Pacer(target_s=TARGET_S)
    pacer.note(messages=500, oldest_s=0.0, has_more=False, now_s=50.0)
    assert pacer.wait_s() == 0.0


def test_a_target_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pacer(target_s=0.0)


@given(batches=BATCHES, gaps=st.lists(st.floats(0, 2, allow_nan=False), min_size=50, max_size=50))
def test_a_wait_is_none_or_worthwhile_and_never_longer_than_allowed(
    batches: list[tuple[float, int]], gaps: list[float]
) -> None:
    pacer, now_s = Pacer(target_s=TARGET_S), 0.0
    for (age_s, messages), gap_s in zip(batches, gaps, strict=False):
        now_s += gap_s
        before_s = pacer.linger_s
        pacer.note(messages=messages, oldest_s=age_s, has_more=False, now_s=now_s)
        assert 0.0 <= pacer.linger_s <= TARGET_S * LONGEST
        assert pacer.wait_s() in (0.0, pacer.linger_s)
        if age_s > HASTE * TARGET_S and len(batches) == 1:
            assert pacer.linger_s <= before_s


@given(batches=BATCHES)
def test_at_most_one_in_a_hundred_messages_lies_beyond_the_late_age(batches: list[tuple[float, int]]) -> None:
    age_s, total = late_age(batches), sum(messages for _, messages in batches)
    assert sum(messages for age, messages in batches if age > age_s) * 100 <= total
    assert sum(messages for age, messages in batches if age >= age_s) * 100 > total


def test_a_wait_pays_only_from_some_messages_on() -> None:
    longest_s = TARGET_S * LONGEST
    assert paced(rate=WORTHWHILE / longest_s * 0.75, age_s=0.001).wait_s() == 0.0
    assert paced(rate=WORTHWHILE / longest_s * 1.25, age_s=0.001).wait_s() > 0.0
