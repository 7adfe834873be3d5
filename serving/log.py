"""Structured log lines: one JSON object per event on stderr, with a verb first.

    {"time": "2026-01-01T00:00:00.000000Z", "level": "info", "event": "load catalogue", "catalogue": "4f…"}

Times come from the log record; everything else is what the caller names.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO, final

Text = str | int | float | bool | None

_LOGGER: Final = logging.getLogger("penstock.serving")
_LIBRARIES: Final = logging.getLogger("kafka")
"""What the Kafka client says is of use only to debug it: each failure that matters is raised or logged by us."""


@final
class JsonFormatter(logging.Formatter):
    """Write a record as one line of JSON; an exception's text and trace go along."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, tz=UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logging(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Send the lines of the service to a stream (stderr), from a level on; calling it again replaces the stream."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    _LIBRARIES.handlers[:] = [handler]
    _LIBRARIES.setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    _LIBRARIES.propagate = False
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(level.upper())
    _LOGGER.propagate = False


def log(event: str, *, level: str = "info", error: BaseException | None = None, **fields: Text) -> None:
    """Write one line: the event is a verb and its object; fields say which.

    >>> log("load catalogue", catalogue="4f")
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    if _LOGGER.isEnabledFor(number):
        info = None if error is None else (type(error), error, error.__traceback__)
        _LOGGER.log(number, event, extra={"fields": fields}, exc_info=info)
