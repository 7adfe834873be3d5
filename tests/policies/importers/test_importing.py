"""Import by format, and the files that it leaves."""

from pathlib import Path

import pytest

from policies.feedback import LogNotFound, UnableToUseFeedback, read_feedback
from policies.importers.importing import UnknownFormat, import_log, write_import

CSV = "action,propensity,reward,hour\n" + "".join(f"a{row % 2},0.5,{row % 3},{row}\n" for row in range(10))


def source_in(folder: Path) -> Path:
    (folder / "log.csv").write_text(CSV)
    return folder / "log.csv"


def test_the_log_its_spec_and_its_parts_are_written(tmp_path: Path) -> None:
    feedback = import_log(source_in(tmp_path), format="table", train_share=0.8)
    imported = write_import(feedback, out=tmp_path / "out/men.parquet", train_share=0.8)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "men.parquet",
        "men.spec.json",
        "men.test.parquet",
        "men.train.parquet",
    ]
    assert (imported.row_count, imported.train_row_count, imported.test_row_count) == (10, 8, 2)
    assert imported.test is not None
    test = read_feedback(imported.test)
    assert sorted(test.request_ids) == ["8", "9"]
    (hour,) = test.spec.fields
    assert (hour.lower, hour.upper, hour.outside) == (0.0, 7.0, "clip")


def test_without_a_share_there_are_no_parts(tmp_path: Path) -> None:
    imported = write_import(import_log(source_in(tmp_path), format="table"), out=tmp_path / "men.parquet")
    assert (imported.train, imported.test, imported.row_count) == (None, None, 10)
    assert not (tmp_path / "men.train.parquet").exists()


def test_a_share_that_leaves_a_part_empty_writes_nothing(tmp_path: Path) -> None:
    feedback = import_log(source_in(tmp_path), format="table", train_share=0.01)
    with pytest.raises(UnableToUseFeedback, match="both sides"):
        write_import(feedback, out=tmp_path / "out/men.parquet", train_share=0.01)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 7.0])
def test_a_share_outside_0_and_1_is_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat, match="between 0 and 1"):
        import_log(source_in(tmp_path), format="table", train_share=share)


def test_missing_files_folders_formats_and_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(LogNotFound, match="no such file"):
        import_log(tmp_path / "none.csv", format="table")
    with pytest.raises(LogNotFound, match="name the file"):
        import_log(tmp_path, format="npz")
    with pytest.raises(UnknownFormat, match="obd, npz, table, classification"):
        import_log(source_in(tmp_path), format="xls")
    with pytest.raises(UnknownFormat, match=r"end in \.parquet"):
        write_import(import_log(source_in(tmp_path), format="table"), out=tmp_path / "log.csv")
