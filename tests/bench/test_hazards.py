import pytest

from bench.hazards import Table, hazard_of, main, read_outcomes, table_lines

REPORT = """<testsuites><testsuite>
<testcase classname="tests.serving.transport.test_kafka_hazards" name="test_h1_a_send_is_not_committed"/>
<testcase classname="tests.serving.transport.test_kafka_hazards" name="test_h2_an_epoch_changes[sent]">
<properties><property name="seen" value="commit raises"/></properties></testcase>
<testcase classname="tests.serving.transport.test_kafka_guard" name="test_a_batch_keeps_to_its_budget"/>
{more}
</testsuite></testsuites>"""
BAD = '<testcase classname="tests.serving.transport.test_kafka_late" name="test_a_commit_comes_late"><{0}/></testcase>'


def test_a_test_is_a_fact_about_the_hazard_that_it_names() -> None:
    assert hazard_of("test_kafka_guard", "test_h2_an_epoch_changes[sent]") == ("H2", "an epoch changes [sent]")
    assert hazard_of("test_kafka_late", "test_a_commit_comes_late") == ("H18", "a commit comes late")
    assert hazard_of("test_kafka_guard", "test_a_batch_keeps_to_its_budget") is None


def test_what_was_seen_stands_in_the_cell_of_its_version() -> None:
    table: Table = {}
    assert all(read_outcomes(REPORT.format(more=""), version=version, table=table) for version in (0, 2))
    assert table_lines(table, [0, 2])[2:] == [
        "| H1 | a send is not committed | holds | holds |",
        "| H2 | an epoch changes [sent] | commit raises | commit raises |",
    ]


@pytest.mark.parametrize("outcome", ["failure", "error", "skipped"])
def test_what_failed_or_was_not_run_is_told(outcome: str) -> None:
    table: Table = {}
    assert not read_outcomes(REPORT.format(more=BAD.format(outcome)), version=2, table=table)
    assert table["H18", "a commit comes late"] == {2: outcome.upper()}


def test_hazards_stand_in_the_order_of_their_numbers() -> None:
    table: Table = {(hazard, "a"): {2: "holds"} for hazard in ("hanging", "H10", "H2")}
    assert [line.split(" | ")[0] for line in table_lines(table, [2])[2:]] == ["| H2", "| H10", "| hanging"]


def test_a_version_that_there_is_not_is_a_usage_error() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--versions", "3"])
