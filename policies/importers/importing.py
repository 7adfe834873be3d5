"""Import a log by its format, and write it with its spec: `LOG.parquet`, `LOG.spec.json`, and its two parts by time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from policies.errors import UsageProblem
from policies.importers.classification import import_classification
from policies.importers.npz import import_npz
from policies.importers.obd import import_obd
from policies.importers.table import import_table
from policies.log import Feedback, LogNotFound, split_by_time
from policies.parquet import write_feedback
from policies.spec import spec_to_bytes

_IMPORTERS: Final[dict[str, Callable[..., Feedback]]] = {
    "obd": import_obd,
    "npz": import_npz,
    "table": import_table,
    "classification": import_classification,
}
FORMATS: Final = tuple(_IMPORTERS)


class UnknownFormat(UsageProblem):
    """There is no importer of that name, or no log can be written under that one."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Say what was written, and how many rows each part has; no parts without a training share."""

    log: Path
    spec: Path
    train: Path | None
    test: Path | None
    row_count: int
    train_row_count: int | None
    test_row_count: int | None


def import_log(
    source: Path,
    *,
    format: str,  # noqa: A002 - the command line's own word
    train_share: float | None = None,
    seed: int = 0,
) -> Feedback:
    """Read a log of another form; bounds and vocabularies of its spec come from the training part alone.

    The seed shuffles a labelled set; the other formats have no use for it.

    Raises:
        UnknownFormat: there is no such format, or the training share does not lie between 0 and 1.
        LogNotFound: there is no such file.
        ContentRefused: the content is not of that form; the message names file, row and value.

    >>> import_log(Path("men.csv"), format="xls")
    Traceback (most recent call last):
    policies.importers.importing.UnknownFormat: expected a format of obd, npz, table, classification, found 'xls'
    """
    if format not in _IMPORTERS:
        raise UnknownFormat(f"expected a format of {', '.join(FORMATS)}, found {format!r}")
    if train_share is not None and not 0 < train_share < 1:
        raise UnknownFormat(f"the training share must lie between 0 and 1, found {train_share}")
    if not source.exists():
        raise LogNotFound(f"expected a log at {source}: there is no such file")
    if source.is_dir() and format != "obd":
        raise LogNotFound(f"expected a file of the format {format}, found a folder at {source}; name the file")
    seeded = {"seed": seed} if format == "classification" else {}
    return _IMPORTERS[format](source, train_share=train_share, **seeded)


def write_import(feedback: Feedback, *, out: Path, train_share: float | None = None) -> Imported:
    """Write a log at OUT.parquet, its spec at OUT.spec.json, and with a share OUT.train.parquet and OUT.test.parquet.

    Raises:
        UnknownFormat: OUT does not end in .parquet.
        UnableToUseFeedback: the share leaves one of the parts empty.
        UnableToUseParquet: pyarrow is not installed.
    """
    if out.suffix != ".parquet":
        raise UnknownFormat(f"expected --out to end in .parquet, found {out.name!r}")
    parts = None if train_share is None else split_by_time(feedback, train_share=train_share)
    out.parent.mkdir(parents=True, exist_ok=True)
    stem = out.name.removesuffix(".parquet")
    spec, train, test = (out.with_name(stem + end) for end in (".spec.json", ".train.parquet", ".test.parquet"))
    write_feedback(feedback, out)
    spec.write_bytes(spec_to_bytes(feedback.spec))
    if parts is not None:
        write_feedback(parts[0], train)
        write_feedback(parts[1], test)
    return Imported(
        log=out,
        spec=spec,
        train=None if parts is None else train,
        test=None if parts is None else test,
        row_count=len(feedback),
        train_row_count=None if parts is None else len(parts[0]),
        test_row_count=None if parts is None else len(parts[1]),
    )
