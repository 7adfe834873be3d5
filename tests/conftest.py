"""What all tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of shared data, or skip: where PENSTOCK_DATA is unset, generated data stand in elsewhere."""
    named = os.environ.get("PENSTOCK_DATA")
    if not named:
        pytest.skip("PENSTOCK_DATA is unset: this test needs the shared data")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"PENSTOCK_DATA names {folder}, which is no folder")
    return folder
