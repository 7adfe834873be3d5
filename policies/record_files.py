"""Records of topics as Parquet files: one per (topic, partition, first offset), whole or not there.

A file lies at `<topic>/<partition>/<first offset>.parquet`; writing it again replaces it. Files that were merged lie
in the first one's place, and a file whose offsets another one holds already is passed over, so that a merge that was
cut short changes nothing for a reader.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from policies.arrow import arrow
from policies.errors import ContentRefused

_DIGITS: Final = 20


class UnableToReadRecords(ContentRefused):
    """A folder of records holds a file that is none, or files that overlap."""


class Record(NamedTuple):
    """One record of a topic; time is the record's own, in microseconds since 1970 in UTC."""

    offset: int
    time: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class RecordFile(NamedTuple):
    """A file of records: its path, the offsets of its first and last record, the time of its first."""

    path: Path
    first: int
    last: int
    time: int


def place_folder(folder: Path, *, topic: str, partition: int) -> Path:
    """Return where the files of one partition lie."""
    return folder / topic / str(partition)


def write_records(records: Sequence[Record], *, folder: Path) -> Path:
    """Write records in the order of their offsets, at least one, as a file of their partition's folder.

    The file is on the disk under its name when this returns, whatever happens next.

    Raises:
        UnableToUseParquet: pyarrow is not installed.
    """
    pa = arrow()
    columns = list(zip(*records, strict=True))
    table = pa.table([pa.array(c, type=t) for c, t in zip(columns, _types(), strict=True)], names=list(Record._fields))
    path = folder / f"{records[0].offset:0{_DIGITS}}.parquet"
    _write(path, [table])
    return path


def record_files(folder: Path) -> list[RecordFile]:
    """Return the files of one partition in order, without those that a merged one holds.

    Raises:
        UnableToReadRecords: two files overlap, or one is no file of records.
    """
    found: list[RecordFile] = []
    for path in sorted(folder.glob("*.parquet")):
        file = _describe(path)
        if found and file.last <= found[-1].last:
            continue
        if found and file.first <= found[-1].last:
            raise UnableToReadRecords(
                f"{path} begins at offset {file.first}, but the file before it reaches to {found[-1].last}: they were "
                "collected from different positions; collect again into an empty folder"
            )
        found.append(file)
    return found


def sweep(folder: Path) -> None:
    """Remove files whose offsets another one holds already: what a merge that was cut short left."""
    kept = {file.path for file in record_files(folder)}
    for path in folder.glob("*.parquet"):
        if path not in kept:
            path.unlink()


def read_records(folder: Path) -> Iterator[Record]:
    """Yield the records of one partition in order, each once.

    Raises:
        UnableToReadRecords: as `record_files`.
    """
    for file in record_files(folder):
        for batch in arrow("pyarrow.parquet").ParquetFile(file.path).iter_batches():
            for row in batch.to_pylist():
                headers = tuple((header["name"], header["value"]) for header in row["headers"])
                yield Record(row["offset"], row["time"], row["key"], row["value"], headers)


def merge_files(files: Sequence[RecordFile]) -> Path:
    """Put neighboring files into the first one's place, in one step, and remove the others.

    Raises:
        UnableToReadRecords: a file is none.
    """
    parquet = arrow("pyarrow.parquet")
    _write(files[0].path, (parquet.read_table(file.path) for file in files))
    for file in files[1:]:
        file.path.unlink()
    return files[0].path


def _write(path: Path, tables: Any) -> None:
    """Write tables one after the other, and have the disk keep both the file and its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    parquet = arrow("pyarrow.parquet")
    schema = arrow().schema(list(zip(Record._fields, _types(), strict=True)))
    try:
        with partial.open("wb") as sink:
            with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table)
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _keep_names(path.parent)


def _keep_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _describe(path: Path) -> RecordFile:
    """Read the first and last offset and the first time from the statistics of a file."""
    pa = arrow()
    try:
        metadata = arrow("pyarrow.parquet").ParquetFile(path).metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        offsets = [group.column(0).statistics for group in groups]
        return RecordFile(path, offsets[0].min, offsets[-1].max, groups[0].column(1).statistics.min)
    except (pa.ArrowException, AttributeError, IndexError) as error:
        raise UnableToReadRecords(f"{path} is no file of records: {error}") from error


def _types() -> list[Any]:
    pa = arrow()
    header = pa.struct([("name", pa.string()), ("value", pa.binary())])
    return [pa.int64(), pa.int64(), pa.binary(), pa.binary(), pa.list_(header)]
