"""The demo on a broker, with fewer requests; and that it says so where something is not as it should be."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.demo_kafka import EXIT_UNCLEAN, NAMES, Told, report_of, tell, under_new_ids
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import artifact_of

CLEAN = Told(
    requests=9, committed=9, results=9, missing=0, double=0, decisions=9, sources=9, bitwise=8, within_tolerance=1,
    different=0, wall_s=2.0, exit_codes=(0, 0, 0),
)  # fmt: skip


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.xdist_group("kafka")
def test_a_worker_killed_amid_the_stream_costs_no_request(bootstrap: str, tmp_path: Path) -> None:
    requests = under_new_ids(WORKLOADS["ad_load"]().messages(100), 1_000)
    told = tell(bootstrap, artifact=artifact_of("ad_load").folder, requests=requests, folder=tmp_path, stream_s=1.0)
    assert told.is_clean, told
    assert (told.requests, told.results, told.missing, told.double, told.kills) == (1_000, 1_000, 0, 0, 1)
    starts = {name: (tmp_path / f"{name}.log").read_text().count("start loop") for name in NAMES}
    assert starts == {"one": 1, "two": 2, "three": 1}


@pytest.mark.parametrize("change", [
    {"missing": 1}, {"double": 1}, {"different": 1}, {"committed": 8}, {"results": 10}, {"sources": 8}, {"bitwise": 7},
    {"decisions": 10}, {"exit_codes": (0, -9, 0)},
], ids=str)  # fmt: skip
def test_whatever_does_not_hold_together_fails_and_is_shown(change: dict[str, int]) -> None:
    assert report_of(CLEAN).exit_code == 0
    report = report_of(replace(CLEAN, **change))  # type: ignore[arg-type]
    assert report.exit_code == EXIT_UNCLEAN
    assert "does not hold together" in str(report.text[-1])


def test_ids_are_new_in_each_round_and_the_rest_is_the_same() -> None:
    sent = under_new_ids([b'{"request_id": "a", "step": 0}', b'{"request_id": "b", "step": 7}'], 3)
    assert sent[::2] == [b'{"request_id": "a.0", "step": 0}', b'{"request_id": "a.1", "step": 0}']
