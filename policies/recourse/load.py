"""From the arrays of `recourse.npz` to the recourse that they describe; a new kind is one more line in `_LOADERS`."""

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from policies.recourse.arrays import word
from policies.recourse.contract import Recourse, RecourseRefused
from policies.recourse.rounding import load_rounding
from policies.spec import PolicySpec


def load_recourse(kind: str, arrays: Mapping[str, NDArray[Any]], spec: PolicySpec) -> Recourse:
    """Return the recourse of one artifact, checked against its spec.

    arrays: those of `recourse.npz`; the text `kind` among them repeats the spec's.

    Raises:
        RecourseRefused: the kind is unknown or said differently in two places, the spec has no recourse or no
            quantity to apply it to, or the arrays do not fit the spec.
    """
    said = {kind, word(arrays, "kind"), spec.recourse.kind if spec.recourse else "none"}
    if len(said) > 1:
        raise RecourseRefused(
            f"one kind of recourse was expected, asked for, stored and in the spec; found {sorted(said)}"
        )
    if not spec.is_quantity:
        raise RecourseRefused(
            f"recourse {kind!r} applies quantities; the actions of {spec.domain!r} are {spec.actions.kind}"
        )
    if kind not in _LOADERS:
        raise RecourseRefused(f"unknown recourse {kind!r}; this version has {', '.join(sorted(_LOADERS))}")
    return _LOADERS[kind](arrays, spec)


def _linear(arrays: Mapping[str, NDArray[Any]], spec: PolicySpec) -> Recourse:
    from policies.recourse.linear import load_linear  # highspy takes 0.1 s to import: only artifacts that solve pay

    return load_linear(arrays, spec=spec)


def _rounding(arrays: Mapping[str, NDArray[Any]], spec: PolicySpec) -> Recourse:
    return load_rounding(arrays, spec=spec)


_LOADERS: Mapping[str, Callable[[Mapping[str, NDArray[Any]], PolicySpec], Recourse]] = {
    "linear": _linear,
    "rounding": _rounding,
}
