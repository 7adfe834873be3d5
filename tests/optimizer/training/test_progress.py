import io

from optimizer.training.progress import BarProgress, LineProgress, SilentProgress, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_lines_and_a_terminal_a_bar() -> None:
    assert isinstance(progress_for(io.StringIO(), is_silent=False), LineProgress)
    assert isinstance(progress_for(Terminal(), is_silent=False), BarProgress)


def test_json_silences_even_a_terminal() -> None:
    assert isinstance(progress_for(Terminal(), is_silent=True), SilentProgress)


def test_lines_stay_about_ten_for_a_long_stage() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.start("ips", total=200)
    for step in range(200):
        progress.advance(f"loss {step}")
    progress.finish("held out 0.9")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "ips 1/200: loss 0"
    assert lines[-2:] == ["ips 200/200: loss 199", "ips: held out 0.9"]
    assert len(lines) == 12


def test_the_bar_draws_title_and_note_and_may_be_started_twice() -> None:
    stream = Terminal()
    progress = BarProgress(stream)
    for title in ("first", "second"):
        progress.start(title, total=2)
        progress.advance("loss -0.5")
        progress.finish(f"{title} done")
    drawn = stream.getvalue()
    assert "first done" in drawn
    assert "second done" in drawn


def test_silence_writes_nothing() -> None:
    progress = SilentProgress()
    progress.start("ips", total=1)
    progress.advance("")
    progress.finish("")
    assert vars(progress) == {}
