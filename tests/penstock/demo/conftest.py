"""The demo told once, on generated samples, for all tests of it."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from penstock.main import main


class Demo(NamedTuple):
    """What the demo said in JSON, and the folder it left."""

    result: dict[str, Any]
    folder: Path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Tell the demo without shared data."""
    folder = tmp_path_factory.mktemp("demo")
    said = io.StringIO()
    words = ["demo", "--out", str(folder), "--data", str(folder / "none"), "--json"]
    with contextlib.redirect_stdout(said):
        assert main(words) == 0
    return Demo(result=json.loads(said.getvalue())["result"], folder=folder)
