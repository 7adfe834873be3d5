from pathlib import Path

import pytest

from optimizer.hydrothermal.fields import CaseRefused, Entry, entries_of, read_numbers, read_object, unique_names


def _entry(**values: object) -> Entry:
    return Entry(file="hydro.json", where="Hydrogenerators[2].", values=values)


@pytest.mark.parametrize("value", [True, "3", None, float("nan"), float("inf"), [1]])
def test_what_is_no_finite_number_is_refused_with_file_and_field(value: object) -> None:
    with pytest.raises(CaseRefused, match=r"hydro.json: Hydrogenerators\[2\].max_turn: expected a finite number"):
        _entry(max_turn=value).number("max_turn")


def test_a_missing_field_is_named_unless_something_stands_for_it() -> None:
    with pytest.raises(CaseRefused, match=r"Hydrogenerators\[2\].max_turn: expected a number, the field is missing"):
        _entry().number("max_turn")
    assert _entry().number("max_turn", missing=4.0) == 4.0


def test_a_number_out_of_range_is_refused_with_the_range() -> None:
    with pytest.raises(CaseRefused, match="expected at least 0, found -1"):
        _entry(max_turn=-1).number("max_turn", least=0.0)
    with pytest.raises(CaseRefused, match="expected a number from 0 to 5, found 6"):
        _entry(min_volume=6).number("min_volume", least=0.0, most=5.0)


@pytest.mark.parametrize("value", [9.2310822e-316, -4e-310, 1e-301])
def test_denormals_stand_for_zero(value: float) -> None:
    assert _entry(spill_cost=value).number("spill_cost", least=0.0) == 0.0


def test_small_numbers_that_somebody_may_have_meant_are_kept() -> None:
    assert _entry(spill_cost=1e-12).number("spill_cost") == 1e-12


@pytest.mark.parametrize("value", [True, 2.0, "2"])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(CaseRefused, match="index: expected a whole number"):
        _entry(index=value).whole("index")


def test_names_lose_their_blanks_and_are_told_apart() -> None:
    assert _entry(name="COR         ").text("name", missing="hydro 2") == "COR"
    assert _entry(name="   ").text("name", missing="hydro 2") == "hydro 2"
    assert unique_names(["GCH", "GCH", "GCH#2"]) == ("GCH", "GCH#2", "GCH#2#3")


def test_a_text_among_numbers_is_refused_even_where_it_is_not_read() -> None:
    with pytest.raises(CaseRefused, match=r"startup: expected a number, found '0'"):
        _entry(name="unit", startup="0").check_kinds()


def test_objects_come_in_the_order_of_their_numbers() -> None:
    grid = Entry(file="grid.json", where="", values={"bus": {"10": {}, "2": {}}})
    assert [key for key, _ in entries_of(grid, "bus")] == ["2", "10"]


@pytest.mark.parametrize("table", [[], {"one": {}}, {"1": 3}])
def test_a_table_of_another_form_is_refused(table: object) -> None:
    with pytest.raises(CaseRefused, match="bus"):
        list(entries_of(Entry(file="grid.json", where="", values={"bus": table}), "bus"))


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read"), ("[1]", "expected an object, found list")])
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "hydro.json").write_text(text)
    with pytest.raises(CaseRefused, match=said):
        read_object(tmp_path / "hydro.json")


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CaseRefused, match=r"hydro\.json: expected the file in"):
        read_object(tmp_path / "hydro.json")
    with pytest.raises(CaseRefused, match=r"inflows\.csv: expected the file in"):
        read_numbers(tmp_path / "inflows.csv")


def test_a_table_has_its_numbers_without_blank_lines_and_the_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,a,b\r\n0,1,9e-316\r\n\r\n1,3,4\r\n")
    assert read_numbers(tmp_path / "a.csv", skip_rows=1, skip_columns=1).tolist() == [[1.0, 0.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n3\n", "row 2: expected 2 columns as in the first row, found 1"),
        ("1,2\n3,x\n", "row 2, column 2: expected a finite number, found 'x'"),
        ("1,nan\n", "row 1, column 2: expected a finite number"),
        ("\n\n", "expected rows of numbers, found none"),
    ],
)
def test_a_broken_table_is_refused_at_its_cell(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(CaseRefused, match=f"a.csv: {said}"):
        read_numbers(tmp_path / "a.csv")
