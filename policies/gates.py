"""What an artifact must prove before it serves: each gate refuses with its own name, what it expected and found."""

# B request, S slot, A action, N component of a quantity

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.errors import Unable
from policies.graph import STANDARD_DOMAINS, GraphContents
from policies.selftest import SELFTEST_TOLERANCE, Arrays, Group, Proposing, random_inputs, tolerance_scale
from policies.spec import BOUND_TOLERANCE, PolicySpec

Gate = Literal[
    "missing_file",
    "manifest",
    "schema",
    "spec",
    "files",
    "digest",
    "graph",
    "operators",
    "signature",
    "selftest",
    "output",
    "batch_invariance",
    "recourse",
    "identity",
]

BATCH_SIZES = (1, 2, 3, 5, 7, 8, 13, 16, 17)
"""Batches that a row must come out of with the same bits: below, at and above the widths of vector registers."""

ROW_COUNT = 67
"""Random rows of the invariance gate: above the 64 where batch-variant operators show, and a prime."""

SUM_TOLERANCE = 1e-5
"""How far the sum of float32 probabilities may be from one: measured 2e-7 for up to 64 actions."""

FLOOR_TOLERANCE = 1e-6
"""By which share a float32 probability may fall below the floor: eight roundings of 2^-23."""

LARGE_ROW_COUNT = 19
"""Random rows of the larger of several table sizes: their many cells show what more rows would, in less time."""

PROBE_SIZES = (1, 3, 7)
PROBE_ROW_COUNT, LARGE_PROBE_ROW_COUNT = 23, 7
"""Batches and rows in which inner values are looked at: every value of every row is compared, so few suffice."""

_ADVICE = (
    "Log, Softplus, Mish, Sin, functions of float64 and sums over a middle axis vary with the batch in onnxruntime"
)
_LARGE_CELLS = 64
_SEED = 97


class Probing(Protocol):
    """What shows the inner values of a graph."""

    operators: dict[str, str]

    def values(self, arrays: Arrays, mask: NDArray[np.bool_], /) -> dict[str, NDArray[np.floating]]:
        """Return inner values with one row per request, by name."""


class ArtifactRefused(Unable):
    """An artifact did not pass a gate; `gate` names it."""

    def __init__(self, gate: Gate, detail: str, *, folder: Path | None = None) -> None:
        where = "artifact" if folder is None else f"artifact {folder}"
        super().__init__(f"{where} refused ({gate}): {detail}")
        self.gate = gate
        self.detail = detail


def raised_floor(floor: float) -> float:
    """Return the floor that a graph mixes in, so that rounding to float32 never ends below the spec's."""
    return min(floor * (1 + FLOOR_TOLERANCE), 1.0)


def check_operators(contents: GraphContents, *, opset: int) -> None:
    """Refuse operators that need code beside the graph, values that lie in other files, and another opset.

    Raises:
        ArtifactRefused: gate `operators`.
    """
    foreign = sorted(f"{domain}.{name}" for domain, name in contents.operators if domain not in STANDARD_DOMAINS)
    if foreign:
        raise ArtifactRefused("operators", f"expected operators of the ONNX standard, found {', '.join(foreign)}")
    if contents.external:
        found = ", ".join(contents.external)
        raise ArtifactRefused("operators", f"expected all values inside the graph, found them in other files: {found}")
    if contents.opset != opset:
        raise ArtifactRefused("operators", f"expected opset {opset} as the manifest says, found {contents.opset}")


def check_selftest(
    policy: Proposing,
    groups: Sequence[tuple[Arrays, NDArray[np.bool_], NDArray[np.floating]]],
    *,
    spec: PolicySpec,
) -> None:
    """Refuse a graph that gives something else than where it was exported.

    Raises:
        ArtifactRefused: gate `selftest`.
    """
    allowed = SELFTEST_TOLERANCE * tolerance_scale(spec)
    for place, (arrays, mask, expected) in enumerate(groups):
        found = policy.propose(arrays, mask)
        if found.shape != expected.shape:
            raise ArtifactRefused("selftest", f"group {place}: expected {expected.shape}, found {found.shape}")
        off = np.abs(found.astype(np.float64) - expected)
        if not (off <= allowed).all():
            row = int(np.argmax(~(off <= allowed).reshape(len(off), -1).all(axis=1)))
            detail = f"expected the exported values to {SELFTEST_TOLERANCE:g}, found {np.max(off[row]):.3g} off"
            raise ArtifactRefused("selftest", f"group {place}, row {row}: {detail}; export again")


def check_output(policy: Proposing, groups: Sequence[Group], *, spec: PolicySpec) -> None:
    """Refuse proposals that are not sound: a distribution above its floor, or quantities within their bounds.

    Raises:
        ArtifactRefused: gate `output`.
    """
    for arrays, mask in groups:
        found = policy.propose(arrays, mask)
        shape = (len(mask), len(spec.actions.names)) if spec.is_quantity else mask.shape
        if found.shape != shape:
            raise ArtifactRefused("output", f"expected shape {shape}, found {found.shape}")
        if not np.isfinite(found).all():
            raise ArtifactRefused("output", "expected finite numbers, found NaN or an infinity")
        if spec.is_quantity:
            _check_quantities(found, spec)
        else:
            _check_probabilities(found, mask, spec.floor)


def check_batch_invariance(policy: Proposing, groups: Sequence[Group]) -> None:
    """Refuse a graph whose rows depend on their neighbors: each row has the same bits in any batch and any order.

    Raises:
        ArtifactRefused: gate `batch_invariance`.
    """
    for arrays, mask in groups:
        whole = policy.propose(arrays, mask)
        count = len(mask)
        for size in BATCH_SIZES:
            if size < count:
                parts = [_rows(arrays, mask, slice(at, at + size)) for at in range(0, count, size)]
                _check_bits(np.concatenate([policy.propose(*part) for part in parts]), whole, f"in batches of {size}")
        backward = policy.propose(*_rows(arrays, mask, slice(None, None, -1)))
        _check_bits(backward[::-1], whole, f"in one batch of {count} in reverse order")


def check_inner_invariance(probe: Probing, groups: Sequence[Group]) -> None:
    """Refuse a graph with an inner value whose rows depend on their neighbors, and name the operator that makes it.

    A last bit that differs inside reaches the output of one row in a hundred or thousand; here it shows at once.

    Raises:
        ArtifactRefused: gate `batch_invariance`.
    """
    for arrays, mask in groups:
        is_large = mask[0].size >= _LARGE_CELLS
        arrays, mask = _rows(arrays, mask, slice(LARGE_PROBE_ROW_COUNT if is_large else PROBE_ROW_COUNT))
        whole = probe.values(arrays, mask)
        for size in PROBE_SIZES:
            parts = [_rows(arrays, mask, slice(at, at + size)) for at in range(0, len(mask), size)]
            found = [probe.values(*part) for part in parts]
            name = _first_difference(whole, found)
            if name is not None:
                where = f"in batches of {size} as in one of {len(mask)}"
                detail = f"expected the same bits {where}, found others in {name!r}, made by {probe.operators[name]}"
                raise ArtifactRefused("batch_invariance", f"{detail}; {_ADVICE}")


def gate_inputs(spec: PolicySpec, selftest: Sequence[Group]) -> list[Group]:
    """Return what the gates run a graph on: its self-test inputs, then random and extreme ones of the same size."""
    random = random_inputs(spec, count=ROW_COUNT, seed=_SEED)
    if len(random) > 1:
        random = [_rows(*group, slice(_row_count(group[1]))) for group in random]
    drawn = {mask.shape[1:]: (arrays, mask) for arrays, mask in random}
    for arrays, mask in selftest:
        known = drawn.get(mask.shape[1:])
        drawn[mask.shape[1:]] = (arrays, mask) if known is None else _join((arrays, mask), known)
    return list(drawn.values())


def _first_difference(
    whole: dict[str, NDArray[np.floating]], parts: Sequence[dict[str, NDArray[np.floating]]]
) -> str | None:
    """Return the first value, in the graph's order, whose parts do not join to the whole; None where all do."""
    for name, expected in whole.items():
        if all(name in part for part in parts):
            joined = np.concatenate([part[name] for part in parts])
            if not np.array_equal(joined, expected, equal_nan=True):
                return name
    return None


def _check_probabilities(found: NDArray[np.floating], mask: NDArray[np.bool_], floor: float) -> None:
    if (found < 0).any():
        raise ArtifactRefused("output", f"expected probabilities of at least 0, found {found.min():.3g}")
    if (found[~mask] != 0).any():
        raise ArtifactRefused("output", f"expected 0 for ineligible actions, found {found[~mask].max():.3g}")
    total = found.sum(axis=2, dtype=np.float64)
    off = np.abs(total - mask.any(axis=2))
    if off.max() > SUM_TOLERANCE:
        found_sum = total.flat[int(off.argmax())]
        raise ArtifactRefused("output", f"expected probabilities that sum to 1 for each slot, found {found_sum:.9g}")
    least = floor / np.maximum(mask.sum(axis=2, keepdims=True), 1) * (1 - FLOOR_TOLERANCE)
    below = mask & (found < least)
    if below.any():
        expected = f"at least {floor:g} / (number of eligible actions) for each of them"
        raise ArtifactRefused("output", f"expected {expected}, found {found[below].min():.3g}")


def _check_quantities(found: NDArray[np.floating], spec: PolicySpec) -> None:
    lower, upper = np.asarray(spec.actions.lower), np.asarray(spec.actions.upper)
    margin = BOUND_TOLERANCE * np.maximum(upper - lower, np.maximum(np.abs(lower), np.abs(upper)))
    outside = (found < lower - margin) | (found > upper + margin)
    if outside.any():
        row, column = (int(place) for place in np.argwhere(outside)[0])
        expected = f"{spec.actions.names[column]!r} in [{lower[column]:g}, {upper[column]:g}]"
        raise ArtifactRefused("output", f"expected {expected}, found {found[row, column]:.9g}")


def _check_bits(found: NDArray[np.floating], whole: NDArray[np.floating], how: str) -> None:
    if np.array_equal(found, whole):
        return
    differs = (found != whole).reshape(len(whole), -1).any(axis=1)
    most = float(np.abs(found.astype(np.float64) - whole).max())
    expected = f"expected the same bits {how} as in one batch of {len(whole)}"
    raise ArtifactRefused(
        "batch_invariance", f"{expected}, found {int(differs.sum())} rows up to {most:.3g} off; {_ADVICE}"
    )


def _row_count(mask: NDArray[np.bool_]) -> int:
    return ROW_COUNT if mask[0].size < _LARGE_CELLS else LARGE_ROW_COUNT


def _rows(arrays: Arrays, mask: NDArray[np.bool_], rows: slice) -> Group:
    return {name: _contiguous(array[rows]) for name, array in arrays.items()}, _contiguous(mask[rows])


def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array)


def _join(first: Group, second: Group) -> Group:
    arrays = {name: np.concatenate([array, second[0][name]]) for name, array in first[0].items()}
    return arrays, np.concatenate([first[1], second[1]])
