import argparse
from typing import Literal

import msgspec
import pytest

from penstock.setting_flags import add_settings, given_settings


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Say what the stand-in does.

    Attributes:
        place: where it
            stands.
        size: how large.
    """

    place: str
    size: int = 3
    is_loud: bool = False
    mode: Literal["fast", "slow"] = "fast"
    names: tuple[str, ...] = ()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_settings(parser, Settings, title="settings of the stand-in")
    return parser


def test_only_what_is_given_is_given() -> None:
    given = given_settings(_parser().parse_args(["--place", "here", "--names", "a,b", "--names", "c", "--is-loud"]))
    assert given == {"place": "here", "names": ["a", "b", "c"], "is_loud": True}


def test_a_setting_without_a_default_is_a_required_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["--size", "4"])
    assert "required: --place" in capsys.readouterr().err


def test_help_says_meaning_and_default() -> None:
    text = " ".join(_parser().format_help().split())
    assert "where it stands. (required)" in text
    assert "how large. (default: 3)" in text
    assert "{fast,slow}" in text
