"""Our own process looks for cycles rarely; whoever imports us keeps the collector as it was."""

import subprocess
import sys

from penstock.collector import THRESHOLDS

_ASK = "import atexit, gc; atexit.register(lambda: print(gc.get_threshold()[0]))"


def _threshold_after(code: str) -> int:
    words = [sys.executable, "-c", f"{_ASK}\n{code}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return int(done.stdout.splitlines()[-1])


def test_the_console_entry_calms_the_collector() -> None:
    code = "import sys; sys.argv = ['penstock', 'complete', 'fish']; from penstock.__main__ import enter; enter()"
    assert _threshold_after(code) == THRESHOLDS[0]


def test_calling_main_from_python_leaves_it_alone() -> None:
    code = "from penstock.main import main; main(['complete', 'fish'])"
    assert _threshold_after(code) == _threshold_after("pass") != THRESHOLDS[0]
