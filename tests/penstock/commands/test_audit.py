import pytest

from penstock.main import main


def test_without_brokers_there_is_nothing_to_audit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit"]) == 2
    assert "--brokers" in capsys.readouterr().err


def test_once_and_follow_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--brokers", "h:1", "--once", "--follow"]) == 2
    assert "not allowed with" in capsys.readouterr().err
