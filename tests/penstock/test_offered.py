import argparse
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace

import msgspec
import pytest

from optimizer.registry import NotOffered, Shelf, UnknownSetting
from penstock.offered import add_offered, load_offered


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what the stand-in does.

    Attributes:
        size: how large.
    """

    size: int = 3


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf[SimpleNamespace]:
    room = SimpleNamespace(work=len)
    monkeypatch.setitem(sys.modules, "stand_in", ModuleType("stand_in"))
    monkeypatch.setitem(sys.modules, "stand_in.room", room)
    monkeypatch.setitem(sys.modules, "stand_in.settings", SimpleNamespace(Settings=Settings))
    return Shelf(
        folders={"near": "stand_in"}, room="room", settings="settings", what="{name!r}", absence="there is no {name!r}"
    )


def _parse(shelf: Shelf[SimpleNamespace], words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    add_offered(parser, shelf=lambda: shelf, verb="do", metavar="ROOM", meaning="what does it", words=["do", *words])
    return parser.parse_args(words)


def test_a_name_brings_its_settings_and_what_does_the_work(shelf: Shelf[SimpleNamespace]) -> None:
    room, settings, _ = load_offered(shelf, _parse(shelf, ["near", "--size", "5", "--json"]))
    assert room.work is len
    assert settings == Settings(size=5)


def test_an_unknown_name_is_told_before_its_flags(shelf: Shelf[SimpleNamespace]) -> None:
    with pytest.raises(NotOffered, match="there is no 'nears'; did you mean 'near'"):
        _parse(shelf, ["nears", "--size", "5"])


def test_a_value_that_does_not_fit_is_refused_by_the_settings_name(shelf: Shelf[SimpleNamespace]) -> None:
    with pytest.raises(UnknownSetting, match="size"):
        load_offered(shelf, _parse(shelf, ["near", "--size", "large", "--json"]))
