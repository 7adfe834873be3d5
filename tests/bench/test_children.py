import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.children import ROOT, ChildFailed, run_child

TELL = "echo $$ > '{fifo}'; exec sleep 60"
STARTS = {
    "a measurement": "run_child(['sh', '-c', tell])",
    "a service and a helper": (
        "service = stack.enter_context(closing(Service(['sleep', '60'], environment={{}}, log=log)))\n"
        "helper = stack.enter_context(closing(Helper(['sh', '-c', tell], log=log)))\n"
        "helper.await_word('never')"
    ),
    "a process that nobody holds yet": "held = Helper(['sh', '-c', tell], log=log)\nheld.await_word('never')",
}
PROGRAM = """
from contextlib import ExitStack, closing
from pathlib import Path
from bench.children import end_on_terminate, run_child
from bench.serving.processes import Helper, Service
tell, log = {tell!r}, Path({log!r})
end_on_terminate()
with ExitStack() as stack:
    {start}
"""


def children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_what_a_bench_has_started_ends_with_it_on_sigterm(start: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = PROGRAM.format(
        tell=TELL.format(fifo=fifo), log=str(tmp_path / "log"), start=start.format().replace("\n", "\n    ")
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as run:
        told = int(fifo.read_text())  # the child runs once it has said so
        children = children_of(run.pid)
        assert told in children
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=10) == 128 + signal.SIGTERM
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_child_that_fails_says_how() -> None:
    with pytest.raises(ChildFailed, match="ended with 3: because"):
        run_child(["sh", "-c", "echo because >&2; exit 3"])


def test_a_child_is_measured_from_start_to_end() -> None:
    child = run_child([sys.executable, "-c", "print('{\"found\": 1}')"])
    assert child.document == {"found": 1}
    assert child.cpu_s > 0
    assert child.wall_s > 0
    assert child.peak_mb > 1
