"""Dead letters go back on a real broker."""

import base64
import json
from pathlib import Path

import pytest

from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workloads import at, decide_all, run

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

DOMAIN = "ad_load"


def test_redrive_sends_each_dead_letter_back_once(bootstrap: str, capsys: pytest.CaptureFixture[str]) -> None:
    topics = Topics(bootstrap, domain=DOMAIN)
    (message, *_) = WORKLOADS[DOMAIN]().messages(1)
    foreign = message.replace(b'"ad_load"', b'"elsewhere"')
    topics.feed([b"{", foreign, b"[", b"x" * 600_000])
    decide_all(topics, domain=DOMAIN)
    letters = at(topics, "--reason", "not_json,oversize")
    _, dry = run(capsys, "redrive", *letters, "--dry-run")
    assert dry["by_reason"] == {"not_json": 2}
    _, first = run(capsys, "redrive", *letters)
    _, again = run(capsys, "redrive", *letters)
    assert (first["redriven"], first["cut"], again["redriven"], again["cut"]) == (2, 1, 0, 0)
    _, rest = run(capsys, "redrive", *at(topics))
    assert rest["by_reason"] == {"unknown_domain": 1}
    sent = [(row.partition, row.value, row.headers) for row in topics.read("requests") if row.headers]
    header = [("penstock-redriven", b"1")]
    assert sorted(sent) == sorted([(0, b"{", header), (0, b"[", header), (1, foreign, header)])

    decide_all(topics, domain=DOMAIN)  # they fail again, and are dead letters again
    _, more = run(capsys, "redrive", *letters)
    assert more["redriven"] == 2
    counts = [row.headers[0][1] for row in topics.read("requests") if row.headers]
    assert sorted(counts) == [b"1", b"1", b"1", b"2", b"2"]
    code, audited = run(capsys, "audit", *at(topics))
    assert (code, audited["requests"], audited["missing"], audited["double"]) == (0, 7, 0, 0)


def test_redrive_takes_a_file_of_dead_letters(
    bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = Topics(bootstrap, domain=DOMAIN)
    messages = WORKLOADS[DOMAIN]().messages(3)
    lines = [
        {"reason": "kill", "detail": "", "source": {"topic": "requests", "partition": 0, "offset": n}, "time": 0,
         "original": base64.b64encode(message).decode()}
        for n, message in enumerate(messages)
    ]  # fmt: skip
    path = tmp_path / "dead-letters.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, found = run(capsys, "redrive", *at(topics, "--from", str(path)))
    assert (code, found["by_reason"]) == (0, {"kill": 3})
    assert sorted(row.value for row in topics.read("requests")) == sorted(messages)
