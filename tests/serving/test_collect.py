"""The collector's laws: each record in exactly one file whatever dies, and files fold as the stream does."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from policies.events import Outcome, Source, to_bytes
from policies.fold import fold
from policies.record_files import Record, place_folder, read_records, record_files, write_records
from serving.collect import (
    CollectionTorn,
    Collector,
    Compaction,
    Limits,
    NothingCollected,
    RecordsLost,
    compact,
    join,
    locked,
    where_to_resume,
)
from serving.contract import Place, Positions
from serving.metrics import Metrics
from serving.transport.file import FolderBusy
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import answer, artifact_of, decision, lineup

PLACE: Place = ("p.shop.decisions", 0)
HOUR = 3_600_000_000


class CrashedError(Exception):
    """The process has died here."""


class MemoryStream:
    """A partition in memory, with the position that is committed; it may die at a commit."""

    def __init__(self, records: Sequence[Record], *, begin: int = 0, commits_until_crash: int | None = None) -> None:
        self.records, self.begin = list(records), begin
        self.position: int | None = None
        self.commits_until_crash = commits_until_crash
        self.poll_sizes: list[int] = []
        self._next = 0

    def begins(self) -> Positions:
        return {PLACE: self.begin}

    def committed(self) -> Positions:
        return {} if self.position is None else {PLACE: self.position}

    def seek(self, positions: Positions) -> None:
        self._next = positions[PLACE]

    def poll(self) -> Mapping[Place, Sequence[Record]]:
        size = self.poll_sizes.pop(0) if self.poll_sizes else 3
        found = [record for record in self.records if record.offset >= self._next][:size]
        if found:
            self._next = found[-1].offset + 1
        return {PLACE: found} if found else {}

    def commit(self, positions: Positions) -> None:
        if self.commits_until_crash == 0:
            raise CrashedError
        if self.commits_until_crash is not None:
            self.commits_until_crash -= 1
        self.position = positions[PLACE]

    def is_at_end(self) -> bool:
        return all(record.offset < self._next for record in self.records)


def records(*offsets: int) -> list[Record]:
    return [Record(offset, offset, b"k", b"%d" % offset) for offset in offsets]


def collect(stream: MemoryStream, folder: Path, *, rows: int = 4) -> Collector:
    collector = Collector(
        stream, folder, limits=Limits(rows=rows), seconds=lambda: 0.0, metrics=Metrics(CollectorRegistry())
    )
    collector.run(follow=False, is_stopped=lambda: False)
    return collector


def files_of(folder: Path) -> Path:
    return place_folder(folder, topic=PLACE[0], partition=PLACE[1])


@settings(max_examples=10, deadline=None)
@given(
    offsets=st.sets(st.integers(0, 30), min_size=1),
    rows=st.lists(st.integers(1, 7), min_size=4, max_size=4),
    crashes=st.lists(st.integers(0, 3), max_size=3),
)
def test_each_record_is_kept_once_however_often_the_collector_dies(
    tmp_path_factory: pytest.TempPathFactory, offsets: set[int], rows: list[int], crashes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("collected")
    stream = MemoryStream(records(*sorted(offsets)))
    for place, crash in enumerate(crashes):
        stream.commits_until_crash = crash
        try:
            collect(stream, folder, rows=rows[place])
        except CrashedError:
            continue
    stream.commits_until_crash = None
    collect(stream, folder, rows=rows[3])
    assert list(read_records(files_of(folder))) == stream.records
    assert stream.position in (None, max(offsets) + 1)


def test_a_file_is_full_by_rows_or_by_bytes(tmp_path: Path) -> None:
    collect(MemoryStream(records(*range(10))), tmp_path, rows=4)
    assert [(file.first, file.last) for file in record_files(files_of(tmp_path))] == [(0, 3), (4, 7), (8, 9)]
    limits = Limits(rows=100, file_bytes=4)
    metrics = Metrics(CollectorRegistry())
    other = Collector(
        MemoryStream(records(0, 1, 2)), tmp_path / "b", limits=limits, seconds=lambda: 0.0, metrics=metrics
    )
    assert other.run(follow=False, is_stopped=lambda: False).files == 2
    assert metrics.registry.get_sample_value("penstock_collected_records_total", {"topic": PLACE[0]}) == 3.0


def test_when_following_a_file_is_written_by_its_age(tmp_path: Path) -> None:
    now_s = [0.0]
    stream = MemoryStream(records(*range(6)))
    collector = Collector(
        stream, tmp_path, limits=Limits(age_s=10.0), seconds=lambda: now_s[0], metrics=Metrics(CollectorRegistry())
    )
    positions: list[int | None] = []

    def is_stopped() -> bool:
        positions.append(stream.position)
        now_s[0] += 6.0
        return len(positions) > 3

    collector.run(follow=True, is_stopped=is_stopped)
    assert positions == [None, None, None, 6]


def test_without_a_committed_position_the_files_say_where_to_go_on(tmp_path: Path) -> None:
    stream = MemoryStream(records(*range(6)))
    collect(stream, tmp_path)
    stream.position = None
    stream.records += records(6, 7)
    collect(stream, tmp_path)
    assert [record.offset for record in read_records(files_of(tmp_path))] == list(range(8))


def test_a_position_that_does_not_fit_the_files_is_refused(tmp_path: Path) -> None:
    write_records(records(0, 1, 2), folder=tmp_path)
    write_records(records(3, 4), folder=tmp_path)
    assert where_to_resume(PLACE, tmp_path, begin=0, committed=3) == 3
    for position in (0, 1, 4):
        with pytest.raises(CollectionTorn, match=f"from offset {position}"):
            where_to_resume(PLACE, tmp_path, begin=0, committed=position)


def test_records_that_were_deleted_before_they_were_collected_are_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(RecordsLost, match="begins at 9"):
        where_to_resume(PLACE, tmp_path, begin=9, committed=3)


def test_a_jump_while_collecting_is_a_loss_only_where_the_topic_has_lost_records(tmp_path: Path) -> None:
    stream = MemoryStream(records(0, 1, 5, 6))
    collector = Collector(stream, tmp_path, limits=Limits(), seconds=lambda: 0.0, metrics=Metrics(CollectorRegistry()))
    collector.take({PLACE: stream.records[:2]})
    collector.take({PLACE: stream.records[2:3]})
    stream.begin = 9
    with pytest.raises(RecordsLost):
        collector.take({PLACE: records(9)})


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    with locked(tmp_path / "new"), pytest.raises(FolderBusy), locked(tmp_path / "new"):
        pass


def test_only_hours_that_are_over_are_compacted(tmp_path: Path) -> None:
    folder = files_of(tmp_path)
    for offset, time in ((0, 5), (1, HOUR - 1), (2, HOUR), (3, 2 * HOUR), (4, 2 * HOUR + 1), (5, 3 * HOUR)):
        write_records([Record(offset, time, None, b"")], folder=folder)
    assert compact(tmp_path, now=2 * HOUR + 2) == 1
    assert [(file.first, file.last) for file in record_files(folder)] == [(0, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    assert compact(tmp_path, now=3 * HOUR) == 1
    assert compact(tmp_path, now=3 * HOUR) == 0


def test_a_file_whose_position_a_crash_has_lost_is_not_merged_away(tmp_path: Path) -> None:
    stream = MemoryStream(records(*range(6)))
    collect(stream, tmp_path, rows=2)
    stream.position = 4  # the crash came after the last file was written and before its position was kept
    assert compact(tmp_path, now=9 * HOUR) == 1
    stream.records += records(6)
    collect(stream, tmp_path, rows=2)
    assert [record.offset for record in read_records(files_of(tmp_path))] == list(range(7))


def test_compaction_comes_round_every_hour_one_partition_a_step(tmp_path: Path) -> None:
    for partition in (0, 1):
        for offset in range(3):
            write_records(records(offset), folder=place_folder(tmp_path, topic="t", partition=partition))
    now_s = [0.0]
    compaction = Compaction(tmp_path, now=lambda: 2 * HOUR, seconds=lambda: now_s[0])
    assert [compaction.step() for _ in range(3)] == [1, 1, 0]
    write_records(records(3), folder=place_folder(tmp_path, topic="t", partition=1))
    now_s[0] = 3599.0
    assert compaction.step() == 0
    now_s[0] = 3600.0
    assert [compaction.step() for _ in range(3)] == [0, 1, 0]


class GrowingStream:
    """Partitions in memory, of which the second is there only after a while."""

    def __init__(self) -> None:
        self.count, self.kept = 1, dict[Place, int]()
        self._next: Positions = {}

    def _places(self) -> list[Place]:
        return [(PLACE[0], number) for number in range(self.count)]

    def begins(self) -> Positions:
        return dict.fromkeys(self._places(), 0)

    def committed(self) -> Positions:
        return dict(self.kept)

    def seek(self, positions: Positions) -> None:
        self._next = dict(positions)

    def poll(self) -> Mapping[Place, Sequence[Record]]:
        found = {place: records(offset) for place, offset in self._next.items()}
        self._next = {place: offset + 1 for place, offset in self._next.items()}
        return found

    def commit(self, positions: Positions) -> None:
        self.kept |= positions

    def is_at_end(self) -> bool:
        return False


def test_a_partition_that_comes_while_following_is_collected_and_the_others_go_on(tmp_path: Path) -> None:
    stream, now_s, merged = GrowingStream(), [0.0], iter(range(100))
    collector = Collector(
        stream, tmp_path, limits=Limits(rows=3, look_s=10.0), seconds=lambda: now_s[0],
        metrics=Metrics(CollectorRegistry()),
    )  # fmt: skip

    def is_stopped() -> bool:
        now_s[0] += 4.0
        stream.count = 2
        return now_s[0] > 30.0

    collected = collector.run(follow=True, is_stopped=is_stopped, tend=lambda: next(merged))
    kept = [
        [record.offset for record in read_records(place_folder(tmp_path, topic=PLACE[0], partition=number))]
        for number in (0, 1)
    ]
    assert kept == [list(range(7)), list(range(4))]
    assert stream.kept == {(PLACE[0], 0): 7, (PLACE[0], 1): 4}
    assert collected.merged == sum(range(7))


def test_collected_files_fold_as_the_stream_does(tmp_path: Path) -> None:
    decided = answer(WORKLOADS["ad_load"]().messages(8), lineup("ad_load"))
    decisions = [decision(result) for result in decided]
    spec = artifact_of("ad_load").spec
    (reward,) = [reward.name for reward in spec.rewards][:1]
    outcomes = [
        Outcome(request_id=result.key.decode(), domain="ad_load", time=1, revision=n % 2, rewards={reward: 0.5})
        for n, result in enumerate(decided[:5])
    ]
    stem = "p.ad_load"
    values = {"decisions": [result.value for result in decided], "outcomes": [to_bytes(one) for one in outcomes]}
    for last, lines in values.items():
        rows = [Record(n, 0, None, value) for n, value in enumerate(lines)]
        write_records(rows, folder=place_folder(tmp_path, topic=f"{stem}.{last}", partition=0))
    broken = [Record(0, 0, None, b"{")]
    write_records(broken, folder=place_folder(tmp_path, topic=f"{stem}.outcomes", partition=1))

    joined = join(tmp_path, stem=stem, spec=spec, as_of=10)

    told = [(one, Source(topic="o", partition=0, offset=n)) for n, one in enumerate(outcomes)]
    expected = fold(decisions, told, as_of=10, spec=spec).feedback
    assert joined.unreadable == 1
    assert joined.folded.feedback.request_ids == expected.request_ids
    assert joined.folded.feedback.rewards[reward].tolist() == pytest.approx(
        expected.rewards[reward].tolist(), nan_ok=True
    )


def test_joining_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingCollected, match=r"p\.ad_load\.decisions"):
        join(tmp_path, stem="p.ad_load", spec=artifact_of("ad_load").spec, as_of=0)
