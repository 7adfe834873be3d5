"""Last verb: a running estimate of what the policies that decide are earning, and how far the fields drift.

Rewards may be correlated within a unit, so a unit enters the sums whole: its rows are held until its window closes, and
the report says how many units are open. The estimate covers what this process has seen since it started; the whole log
is judged by `penstock evaluate`. Fallbacks and shadows say nothing of the policy: they are excluded, and so are
retracted rewards. What is pending and what is excluded is told apart as `penstock evaluate` does it.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, final

import msgspec
import numpy as np

from policies.errors import PenstockError
from policies.evaluation.estimators import Estimate, estimate
from policies.evaluation.scored import Scored
from policies.evaluation.sums import Sums
from policies.log import PENDING, Feedback
from policies.spec import Field, PolicySpec
from serving.log import log
from serving.metrics import Metrics

_MICROSECONDS: Final = 1_000_000
_REMEMBERED_UNITS: Final = 100_000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Say what one reward of one domain has come to, as of a time, and how many units are not in it yet.

    `estimate` is None while no unit is closed, or while nothing tells the reward's bounds.
    """

    schema_version: int = 1
    domain: str
    reward: str
    since: int
    as_of: int
    open_units: int
    returned_units: int
    estimate: Estimate | None


@dataclass
class _OpenUnit:
    last_seen: int
    rewards: dict[str, "array[float]"] = field(default_factory=dict)


@final
class Assessment:
    """Hold the running sums of one domain.

    Times are microseconds since 1970 UTC. A unit closes `unit_window_s` after its last decision. One that comes back
    later counts as another unit, which makes intervals too narrow: such units are counted.
    """

    def __init__(self, spec: PolicySpec, *, unit_window_s: float, metrics: Metrics, since: int) -> None:
        self.spec, self._metrics, self._since = spec, metrics, since
        self._window = round(unit_window_s * _MICROSECONDS)
        self._open: dict[int, _OpenUnit] = {}
        self._closed: dict[int, None] = {}
        self._returned = 0
        self._sums = {reward.name: Sums.empty() for reward in spec.rewards}

    @property
    def open_units(self) -> int:
        """How many units are not in the estimate yet."""
        return len(self._open)

    def add(self, feedback: Feedback, *, now: int) -> None:
        """Take rows in, and close the units whose window is over."""
        excluded: dict[str, set[int]] = {name: set() for name in self._sums}
        pending = Counter[str]()
        for name, rewards in feedback.rewards.items():
            statuses = feedback.statuses[name]
            for row, reward in enumerate(rewards.tolist()):
                if math.isnan(reward) and statuses[row] is None:
                    continue  # not expected of this row
                if math.isnan(reward) and statuses[row] == PENDING:
                    pending[name] += 1
                elif math.isnan(reward) or feedback.roles[row] == "shadow" or feedback.fallbacks[row] is not None:
                    excluded[name].add(row)
                else:
                    self._take(int(feedback.unit_hashes[row]), name, reward, int(feedback.times[row]))
        self._count(excluded, pending)
        self._count_drift(feedback)
        self.close_units(now=now)

    def close_units(self, *, now: int, is_over: bool = False) -> None:
        """Move units into the sums whose window is over, or all of them when nothing more will come."""
        due = [unit for unit, held in self._open.items() if is_over or held.last_seen + self._window <= now]
        closed = [(unit, self._open.pop(unit)) for unit in due]
        for name in self._sums:
            self._close(name, [(unit, held.rewards[name]) for unit, held in closed if name in held.rewards])
        self._closed.update(dict.fromkeys(due))
        surplus = len(self._closed) - _REMEMBERED_UNITS
        if surplus > _REMEMBERED_UNITS:  # seldom, because the whole is copied
            self._closed = dict.fromkeys(islice(self._closed, surplus, None))
        self._metrics.gauge("penstock_open_units", self.spec.domain).set(len(self._open))

    def reports(self, *, now: int) -> list[Report]:
        """Return one report per reward, and show them as metrics."""
        reports = []
        for name, sums in self._sums.items():
            found = self._estimate(name, sums)
            if found is not None:
                self._show(name, found)
            reports.append(
                Report(
                    domain=self.spec.domain,
                    reward=name,
                    since=self._since,
                    as_of=now,
                    open_units=len(self._open),
                    returned_units=self._returned,
                    estimate=found,
                )
            )
        return reports

    def _take(self, unit: int, name: str, reward: float, time: int) -> None:
        held = self._open.get(unit)
        if held is None:
            held = self._open[unit] = _OpenUnit(last_seen=time)
            if unit in self._closed:
                self._returned += 1
                self._metrics.counter("penstock_returned_units_total", self.spec.domain).inc()
        held.last_seen = max(held.last_seen, time)
        held.rewards.setdefault(name, array("d")).append(reward)

    def _close(self, name: str, units: Sequence[tuple[int, "array[float]"]]) -> None:
        if not units:
            return
        rewards = np.concatenate([np.frombuffer(held, dtype=np.float64) for _, held in units])
        hashes = np.repeat(np.array([unit for unit, _ in units], dtype=np.uint64), [len(held) for _, held in units])
        one = np.ones(len(rewards))
        part = Sums.empty().add(Scored(reward=rewards, propensity=one, target=one, unit=hashes))
        # Merged, not added: a unit that came back after its window is another unit here, and counted as such.
        self._sums[name] = self._sums[name].merge(part)

    def _count(self, excluded: Mapping[str, set[int]], pending: Mapping[str, int]) -> None:
        for name in self._sums:
            empty = Sums.empty().add(_NOTHING, excluded=len(excluded[name]), pending=pending.get(name, 0))
            self._sums[name] = self._sums[name].merge(empty)
            self._metrics.counter("penstock_pending_rows_total", self.spec.domain, name).inc(pending.get(name, 0))
        rows = set[int]().union(*excluded.values())
        self._metrics.counter("penstock_excluded_rows_total", self.spec.domain).inc(len(rows))

    def _estimate(self, name: str, sums: Sums) -> Estimate | None:
        reward = self.spec.reward(name)
        low, high = reward.lower, reward.upper
        if not sums.row_count:
            return None
        if low is None or high is None:
            if -sums.extremes.negated_reward < 0 or sums.extremes.reward > 1:
                return None
            low, high = 0.0, 1.0
        try:
            return estimate(sums, reward_low=low, reward_high=high, estimators=("snips",), weight_bound=1.0)["snips"]
        except PenstockError as error:  # such as a reward outside its bounds: `penstock evaluate` names the row
            log("skip estimate", level="warning", error=error, domain=self.spec.domain, reward=name)
            return None

    def _show(self, name: str, found: Estimate) -> None:
        values = {
            "penstock_estimate_reward": found.value,
            "penstock_estimate_low_reward": found.low,
            "penstock_estimate_high_reward": found.high,
            "penstock_estimate_units": found.unit_count,
        }
        for gauge, value in values.items():
            if value is not None:
                self._metrics.gauge(gauge, self.spec.domain, name).set(value)

    def _count_drift(self, feedback: Feedback) -> None:
        for spec_field in self.spec.on("request"):
            for fate, count in drift(spec_field, feedback.columns.request[spec_field.name]).items():
                counter = self._metrics.counter("penstock_field_values_total", self.spec.domain, spec_field.name, fate)
                counter.inc(count)


_NOTHING: Final = Scored(reward=np.empty(0), propensity=np.empty(0), target=np.empty(0))


def drift(spec_field: Field, values: Sequence[Any] | Any) -> dict[str, int]:
    """Count the values of a field's column that the spec does not expect: clipped, filled (missing) or unseen.

    >>> drift(Field(name="hour", units="h", lower=0, upper=24), [3, 25, None])
    {'clipped': 1, 'filled': 1, 'unseen': 0}
    >>> drift(Field(name="device", vocabulary=("phone",)), ["phone", "watch"])
    {'clipped': 0, 'filled': 0, 'unseen': 1}
    """
    given = [value for value in values if value is not None and value == value]
    filled = len(values) - len(given)
    if spec_field.vocabulary is not None:
        known = set(spec_field.vocabulary)
        return {"clipped": 0, "filled": filled, "unseen": sum(value not in known for value in given)}
    lowers, uppers = np.array(spec_field.lowers), np.array(spec_field.uppers)
    clipped = 0
    for value in given:
        numbers = np.asarray(value, dtype=np.float64).reshape(-1, spec_field.width)
        clipped += int(((numbers < lowers) | (numbers > uppers)).sum())
    return {"clipped": clipped, "filled": filled, "unseen": 0}
