import json

import pytest

from policies.events import Decision, Source, from_bytes
from policies.feedback import fold
from serving.catalogue import Lineup
from serving.rows import rows_of
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import answer, lineup

SOURCE = Source(topic="decisions", partition=3, offset=4)


@pytest.mark.parametrize("domain", sorted(WORKLOADS))
def test_a_row_has_the_columns_of_the_log_and_is_json(domain: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from policies.parquet import _columns

    whole: Lineup = lineup(domain)
    spec = whole.domains[domain].live.artifact.spec
    decisions = [from_bytes(result.value, Decision) for result in answer(WORKLOADS[domain]().messages(3), whole)]
    feedback = fold(decisions, [], as_of=0, spec=spec).feedback
    written = pyarrow.table(_columns(feedback)).to_pylist()

    rows = [json.loads(value) for _, value in rows_of(feedback, sources=dict.fromkeys(feedback.request_ids, SOURCE))]

    assert len(rows) == len(written)
    for row, expected in zip(rows, written, strict=True):
        assert row.pop("source") == {"topic": "decisions", "partition": 3, "offset": 4}
        assert row == {name: expected[name] for name in row}
        assert all(expected[name] is None for name in set(expected) - set(row))
