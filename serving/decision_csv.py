"""Decisions as a long table: one line for each action, propensity, quantity and output of recourse, with its units."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOBase
from typing import Final, TypeAlias, final

import msgspec

from policies.events import Choice, Decision
from policies.spec import PolicySpec
from serving.contract import Result
from serving.once import Sink

COLUMNS: Final = ("request_id", "slot", "name", "index", "value", "units")


Cell: TypeAlias = tuple[str, str, int, str | float, str]
"""One value of a decision: slot, name, index (the place within a vector), value and units."""


@final
class CsvSink:
    """Write decisions as lines of a CSV; what is no decision goes on to the next sink.

    `specs` are the specs by the artifact's identity as records carry it.
    """

    def __init__(self, stream: TextIOBase, *, specs: Mapping[str, PolicySpec], others: Sink) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._specs, self._others = specs, others
        self._writer.writerow(COLUMNS)

    def write(self, results: Sequence[Result]) -> None:
        """Write the cells of each decision, in order."""
        for result in results:
            if result.kind == "decision":
                decision = _DECISION.decode(result.value)
                request_id = _REQUEST.decode(decision.request).request_id
                for cell in cells(decision, spec=self._specs[decision.policy]):
                    self._writer.writerow((request_id, *cell))
        self._others.write([result for result in results if result.kind != "decision"])


def cells(decision: Decision, *, spec: PolicySpec) -> Iterator[Cell]:
    """Yield what a decision says is to be done: applied rather than proposed where recourse changed it."""
    for choice in decision.choices:
        yield from _quantities(choice, spec) if spec.is_quantity else _action(choice)
    if decision.recourse is None or spec.recourse is None:
        return
    units = {output.name: output.units for output in spec.recourse.outputs}
    for name, found in decision.recourse.outputs.items():
        for index, value in enumerate(found if isinstance(found, list) else [found]):
            yield "", name, index, value, units.get(name, "")


def _quantities(choice: Choice, spec: PolicySpec) -> Iterator[Cell]:
    values = choice.action if choice.applied is None else choice.applied
    assert not isinstance(values, str)
    named = zip(spec.actions.names, values, spec.actions.units, strict=True)
    for index, (name, value, units) in enumerate(named):
        yield choice.slot, name, index, value, units


def _action(choice: Choice) -> Iterator[Cell]:
    action = choice.action if choice.applied is None else choice.applied
    assert isinstance(action, str)
    yield choice.slot, "action", 0, action, ""
    if choice.propensity is not None:
        yield choice.slot, "propensity", 0, choice.propensity, ""


class _Request(msgspec.Struct, gc=False):
    request_id: str


_DECISION: Final = msgspec.json.Decoder(Decision)
_REQUEST: Final = msgspec.json.Decoder(_Request)
