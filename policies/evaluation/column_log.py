"""A log of bare columns: reward, pscore, p_eval, action, position [, unit, q_logged, q_pi], as an npz holds them.

It has neither a spec nor requests; its targets are its own columns, the policy that wrote it, and tables.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from policies.evaluation.question import Objective, Question, Weighed
from policies.evaluation.scored import hashes_of, scored_from_columns
from policies.evaluation.sums import Sums
from policies.evaluation.targets import Target, UnableToFindTarget, probabilities_at, read_table

COLUMNS: Final = ("reward", "pscore", "p_eval", "action", "position", "unit", "q_logged", "q_pi")
"""What such a log is read for; columns of other names are left alone."""

_REWARD: Final = "reward"
_UNIT: Final = "unit"
_MODEL: Final = ("q_logged", "q_pi")


@final
class ColumnLog:
    """Weigh named columns [N]."""

    spec = None
    rewards = (_REWARD,)

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._columns = columns

    def weigh(self, target: Target, objective: Objective, *, question: Question) -> Weighed:
        """Weigh every row for a target.

        Raises:
            UnableToFindTarget: the target needs requests or a spec, or a column that is not there.
            UnableToScore: a column holds what cannot be weighted.
        """
        chosen = self._columns_for(target)
        weight = objective.weights[_REWARD]
        if weight != 1.0 and _REWARD in chosen:
            chosen[_REWARD] = weight * np.asarray(chosen[_REWARD], dtype=np.float64)
            chosen = {name: weight * values if name in _MODEL else values for name, values in chosen.items()}
        return Weighed(sums=Sums.empty(clip=question.clip).add(scored_from_columns(chosen, unit_hashes=self._hashes)))

    @cached_property
    def _hashes(self) -> NDArray[np.uint64] | None:
        """The hash of each row's unit, for all targets alike; None where the unit is the row."""
        return hashes_of(self._columns[_UNIT]) if _UNIT in self._columns else None

    def _columns_for(self, target: Target) -> dict[str, NDArray[Any]]:
        """Return the log's columns with the target's probabilities as p_eval; q_pi belongs to the column p_eval."""
        kind, columns = target.reference.kind, dict(self._columns)
        if kind == "columns":
            return columns
        bare = {name: values for name, values in columns.items() if name not in (*_MODEL, "p_eval")}
        if kind == "logged":
            return {**bare, "p_eval": columns["pscore"]} if "pscore" in columns else bare
        if kind == "table":
            return {**bare, "p_eval": self._from_table(target)}
        raise UnableToFindTarget(
            f"target {target.name!r} ({kind}) needs requests and a spec, which an npz of columns does not hold; use "
            "columns, logged or table:CSV@FIELD, or import the log first"
        )

    def _from_table(self, target: Target) -> NDArray[np.float64]:
        table = read_table(target.reference, spec=None)
        assert table.field is not None
        for name in (table.field, "action"):
            if name not in self._columns:
                found = ", ".join(sorted(self._columns))
                raise UnableToFindTarget(f"target {target.name!r} looks up the column {name!r}, the log has {found}")
        return probabilities_at(
            table, codes=self._columns[table.field], actions=self._columns["action"], where=table.field
        )
