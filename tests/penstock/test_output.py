import io
import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.output import Report, Table, aligned, document, short, show

TABLE = Table(columns=("name", "value"), rows=[("ips", "0.5"), ("[snips]", "12")], numbers=frozenset({"value"}))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_document_is_the_envelope_with_the_result() -> None:
    found = json.loads(document(Report(result={"a": 1}, seed=7), command="train", cpu_s=0.25, wall_s=0.5))
    assert found == {
        "schema": "penstock/1",
        "command": "train",
        "seed": 7,
        "cpu_s": 0.25,
        "wall_s": 0.5,
        "result": {"a": 1},
    }


@given(st.lists(st.floats() | st.none() | st.integers() | st.lists(st.floats(), max_size=3), max_size=5))
def test_the_document_never_holds_what_is_not_json(value: object) -> None:
    text = document(Report(result={"value": value}), command="evaluate", cpu_s=0.0, wall_s=0.0)
    assert not {"NaN", "Infinity", "-Infinity"} & set(
        text.replace("[", " ").replace("]", " ").replace(",", " ").split()
    )
    assert json.loads(text)["schema"] == "penstock/1"


def test_numbers_and_arrays_of_numpy_become_plain() -> None:
    report = Report(result={"share": np.float64(math.nan), "count": np.int64(2), "values": np.array([1.0, math.inf])})
    found = json.loads(document(report, command="evaluate", cpu_s=0.0, wall_s=0.0))
    assert found["result"] == {"share": None, "count": 2, "values": [1.0, None]}


def test_a_pipe_gets_plain_aligned_lines() -> None:
    stream = io.StringIO()
    show(Report(result={}, text=[TABLE, "done"]), stream=stream)
    assert stream.getvalue() == "name     value\nips        0.5\n[snips]     12\ndone\n"


def test_a_terminal_gets_a_drawn_table_with_the_same_cells() -> None:
    stream = _Terminal()
    show(Report(result={}, text=[TABLE]), stream=stream)
    assert "─" in stream.getvalue()
    assert "[snips]" in stream.getvalue()


def test_an_aligned_table_has_no_trailing_spaces() -> None:
    assert all(line == line.rstrip() for line in aligned(TABLE).splitlines())


def test_what_is_no_number_is_a_dash() -> None:
    assert [short(None), short(math.nan), short(math.inf)] == ["-"] * 3
