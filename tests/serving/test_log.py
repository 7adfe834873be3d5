import io
import json
import logging
from collections.abc import Iterator

import pytest

from serving.log import log, set_up_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    logger = logging.getLogger("penstock.serving")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    made = io.StringIO()
    yield made
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def test_each_event_is_one_line_of_json_with_its_fields(stream: io.StringIO) -> None:
    set_up_logging(stream=stream)
    log("load catalogue", catalogue="4f", count=2)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "event": "load catalogue", "catalogue": "4f", "count": 2}


def test_an_error_goes_along_in_the_same_line(stream: io.StringIO) -> None:
    set_up_logging(stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        log("abandon batch", level="error", error=error)
    assert len(stream.getvalue().splitlines()) == 1
    assert json.loads(stream.getvalue())["error"] == "ValueError: two\nlines"


def test_lines_below_the_level_are_left_out(stream: io.StringIO) -> None:
    set_up_logging(level="warning", stream=stream)
    log("start loop")
    log("rewind batch", level="warning")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["rewind batch"]
