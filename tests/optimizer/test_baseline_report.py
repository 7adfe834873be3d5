import msgspec

from optimizer.baseline_report import BaselineReport


def test_what_does_not_apply_is_null() -> None:
    report = BaselineReport(domain="store", method="table", stages=2, cost_units="$", lower_bound=3.0)
    plain = msgspec.to_builtins(report)
    assert (plain["lower_bound"], plain["objective"], plain["stage_costs"], plain["details"]) == (3.0, None, (), {})


def test_reports_do_not_share_their_details() -> None:
    first, second = (BaselineReport(domain="store", method="table", stages=2, cost_units="$") for _ in range(2))
    assert first.details is not second.details
