"""How training shows where it stands: a bar on a terminal, plain lines when piped, nothing beside `--json`."""

from typing import Protocol, TextIO, final

LINES_PER_STAGE = 10
"""Plain lines are kept by whoever reads the log later, so a stage prints about this many, however long it is."""


class Progress(Protocol):
    """Show stages, one after another, each with a known number of steps."""

    def start(self, title: str, *, total: int) -> None:
        """Begin a stage of `total` steps."""

    def advance(self, note: str) -> None:
        """Finish one step; `note` says how it went."""

    def finish(self, note: str) -> None:
        """End the stage, which may have had fewer steps than announced."""


def progress_for(stream: TextIO, *, is_silent: bool) -> Progress:
    """Return what suits a stream: nothing if silent, a bar on a terminal, else plain lines."""
    if is_silent:
        return SilentProgress()
    return BarProgress(stream) if stream.isatty() else LineProgress(stream)


@final
class SilentProgress:
    """Show nothing."""

    def start(self, title: str, *, total: int) -> None:
        """Show nothing."""

    def advance(self, note: str) -> None:
        """Show nothing."""

    def finish(self, note: str) -> None:
        """Show nothing."""


@final
class LineProgress:
    """Write whole lines, about ten for each stage.

    >>> import sys
    >>> progress = LineProgress(sys.stdout)
    >>> progress.start("ips", total=2)
    >>> progress.advance("loss -0.5")
    ips 1/2: loss -0.5
    >>> progress.finish("held out 0.9")
    ips: held out 0.9
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._title, self._total, self._done = "", 0, 0

    def start(self, title: str, *, total: int) -> None:
        self._title, self._total, self._done = title, total, 0

    def advance(self, note: str) -> None:
        self._done += 1
        every = max(self._total // LINES_PER_STAGE, 1)
        if self._done == 1 or self._done % every == 0:
            print(f"{self._title} {self._done}/{self._total}: {note}", file=self._stream, flush=True)

    def finish(self, note: str) -> None:
        print(f"{self._title}: {note}", file=self._stream, flush=True)


@final
class BarProgress:
    """Draw one bar for each stage."""

    def __init__(self, stream: TextIO) -> None:
        # rich takes 60 ms to import, which runs without a terminal need not pay.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, TextColumn("{task.fields[note]}"), console=Console(file=stream))
        self._task = self._bars.add_task("", total=1, note="", visible=False)

    def start(self, title: str, *, total: int) -> None:
        self._task = self._bars.add_task(title, total=total, note="")
        self._bars.start()

    def advance(self, note: str) -> None:
        self._bars.update(self._task, advance=1, note=note)

    def finish(self, note: str) -> None:
        self._bars.update(self._task, note=note)
        self._bars.stop()
        self._bars.update(self._task, visible=False)
