"""What a planner would ask at a stage: the fields of the spec from the state of the case, and nothing from later."""

# B scenario, T stage, R reservoir

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from optimizer.hydrothermal.case import Case, Floats
from policies.columns import Columns, Values
from policies.errors import Unable, UsageProblem
from policies.events import DecisionRequest, microseconds, to_bytes
from policies.spec import Field, PolicySpec

_BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)
"""When the first stage of a simulated request begins: a Monday."""


class UnableToAsk(Unable):
    """The spec of an artifact has a field that a state of the case does not tell."""


class UnableToWriteRequests(UsageProblem):
    """The requests cannot be written where they were asked for."""


def stage_columns(spec: PolicySpec, case: Case, *, stage: int, volume_BR: Floats, inflow_BTR: Floats) -> Columns:
    """Return the requests of B scenarios at a stage (from 0), as the columns that the encoder reads.

    volume_BR: float64 [B, R], before the stage. inflow_BTR: float64 [B, stage + 1, R], that of the stage last.

    Raises:
        UnableToAsk: the spec has another field than stage, volume, inflow and load.
    """
    count = len(volume_BR)
    fields = {field.name: field for field in spec.on("request")}
    told: dict[str, Values] = {
        "stage": [float(stage + 1)] * count,
        "volume": _numbers(fields.get("volume"), volume_BR),
        "inflow": [_numbers(fields.get("inflow"), history) for history in inflow_BTR[:, -_steps(fields) :]],
        "load": _numbers(fields.get("load"), case.base_mva * case.load[[stage % len(case.load)] * count]),
    }
    unknown = sorted(set(fields) - set(told))
    if unknown:
        raise UnableToAsk(f"the artifact asks for {unknown[0]!r}; a state of {case.name!r} tells {', '.join(told)}")
    return Columns(count=count, request={name: told[name] for name in fields})


def write_requests(path: Path, *, spec: PolicySpec, case: Case, volume_before_TR: Floats, inflow_TR: Floats) -> None:
    """Write the requests of one scenario, a line for each of its stages, as `penstock decide` takes them.

    volume_before_TR: float64 [T, R], before each stage. inflow_TR: float64 [T, R], of each stage.

    Raises:
        UnableToWriteRequests: the file cannot be written there.
    """
    lines = (to_bytes(one) + b"\n" for one in _requests(spec, case, volume_before_TR, inflow_TR))
    try:
        path.write_bytes(b"".join(lines))
    except OSError as error:
        raise UnableToWriteRequests(f"cannot write requests to {path}: {error.strerror}") from error


def _requests(spec: PolicySpec, case: Case, volume_before_TR: Floats, inflow_TR: Floats) -> Iterator[DecisionRequest]:
    for stage, volume_R in enumerate(volume_before_TR):
        columns = stage_columns(
            spec, case, stage=stage, volume_BR=volume_R[None], inflow_BTR=inflow_TR[None, : stage + 1]
        )
        begins = _BEGIN + timedelta(hours=stage * case.stage_hours)
        yield DecisionRequest(
            request_id=f"{case.name}-stage-{stage + 1:04d}",
            domain=spec.domain,
            time=microseconds(begins.isoformat()),
            unit=case.name,
            step=stage,
            fields={name: values[0] for name, values in columns.request.items()},
        )


def _numbers(field: Field | None, values: Floats) -> list[float] | list[list[float]]:
    """Return rows as the records hold them: a vector as a list, a width of one as a number."""
    if field is not None and field.width == 1:
        return [float(value) for value in values.ravel()]
    listed: list[list[float]] = values.tolist()
    return listed


def _steps(fields: dict[str, Field]) -> int:
    inflow = fields.get("inflow")
    return 1 if inflow is None or inflow.steps is None else inflow.steps
