import pytest

from penstock.main import main


def test_an_unknown_reason_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redrive", "--brokers", "h:1", "--reason", "not_jsn"]) == 2
    said = capsys.readouterr().err
    assert "'not_jsn'" in said
    assert "not_json" in said
