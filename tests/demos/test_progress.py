"""The progress bar on a terminal and elsewhere."""

from __future__ import annotations

import io
from itertools import count

import pytest

from tokengate_executor.demos.progress import LINES_ELSEWHERE, REDRAW_SECONDS, Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@pytest.fixture(autouse=True)
def _capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def test_elsewhere_there_are_few_lines() -> None:
    """A log gets a handful of whole lines, without control characters, the last at the end."""
    stream = io.StringIO()
    with Progress(stream, "work", 1000) as progress:
        for _ in range(1000):
            progress.advance()
    lines = stream.getvalue().splitlines()
    assert len(lines) == LINES_ELSEWHERE
    assert lines[-1] == "100% work 1000/1000"
    assert "\r" not in stream.getvalue()


def test_a_terminal_is_redrawn_in_place() -> None:
    """One line is drawn over and over, and ended at the end."""
    clock = count(0, 1)
    stream = Terminal()
    with Progress(stream, "work", 4, columns=lambda: 40, clock=lambda: next(clock)) as progress:
        for _ in range(4):
            progress.advance()
    drawings = stream.getvalue().split("\r")[1:]
    assert drawings[0] == " 25% work 1/4 [" + "#" * 5 + "." * 18 + "]"
    assert drawings[-1] == "100% work 4/4 [" + "#" * 23 + "]\n"
    assert stream.getvalue().count("\n") == 1


def test_a_terminal_is_not_redrawn_for_each_step() -> None:
    """Steps within the shortest time between drawings are counted, not drawn."""
    stream = Terminal()
    now = 0.0
    progress = Progress(stream, "work", 1000, columns=lambda: 80, clock=lambda: now)
    for _ in range(500):
        progress.advance()
    assert stream.getvalue().count("\r") == 1
    now = REDRAW_SECONDS
    progress.advance()
    assert stream.getvalue().count("\r") == 2


@pytest.mark.parametrize("columns", range(60))
def test_no_drawing_fills_the_last_column(columns: int) -> None:
    """The line never wraps, however narrow the terminal is."""
    clock = count(0, 1)
    stream = Terminal()
    with Progress(
        stream, "a long name of the work", 10, columns=lambda: columns, clock=lambda: next(clock)
    ) as progress:
        for _ in range(10):
            progress.advance()
    drawings = stream.getvalue().rstrip("\n").split("\r")[1:]
    assert max(map(len, drawings)) <= max(columns - 1, 1)


def test_a_window_made_narrower_is_respected() -> None:
    """Blanks that wipe a longer line do not reach beyond the new width."""
    clock = count(0, 1)
    widths = iter([70, 20, 20])
    stream = Terminal()
    with Progress(
        stream, "work", 2, columns=lambda: next(widths), clock=lambda: next(clock)
    ) as progress:
        progress.advance()
        progress.advance()
    drawings = stream.getvalue().rstrip("\n").split("\r")[1:]
    assert [len(drawing) < width for drawing, width in zip(drawings, [70, 20, 20], strict=True)]
    assert len(drawings[1]) <= 19


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot return to the line's start is treated as a log."""
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Progress(stream, "work", 1) as progress:
        progress.advance()
    assert stream.getvalue() == "100% work 1/1\n"


def test_without_a_stream_nothing_is_shown() -> None:
    """Counting goes on quietly."""
    with Progress(None, "work", 1) as progress:
        progress.advance()


@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_short_work_is_not_shown(make: type[io.StringIO]) -> None:
    """Nothing before so many seconds have passed; then as ever."""
    now = 5.0
    stream = make()
    with Progress(stream, "work", 4, columns=lambda: 40, clock=lambda: now, after=2.0) as progress:
        progress.advance()
        now = 6.9
        progress.advance()
    assert stream.getvalue() == "", "closing it is no reason, either"

    with Progress(stream, "work", 4, columns=lambda: 40, clock=lambda: now, after=2.0) as progress:
        progress.advance()
        now = 9.0
        progress.advance()
        assert " 50% work 2/4" in stream.getvalue()


@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_it_can_be_shown_at_once(make: type[io.StringIO]) -> None:
    """Before the first step, and from then on."""
    stream = make()
    with Progress(
        stream, "work", 1, columns=lambda: 40, clock=lambda: 0.0, after=600.0
    ) as progress:
        progress.show()
        assert "  0% work 0/1" in stream.getvalue()
        progress.advance()
    assert "100% work 1/1" in stream.getvalue()
    Progress(None, "work", 1).show()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_no_steps_at_all_are_no_special_case(stream: io.StringIO) -> None:
    """A job of nothing divides nothing by zero."""
    with Progress(stream, "work", 0):
        pass
    assert "Error" not in stream.getvalue()


def test_a_stream_without_a_size_has_a_usual_width() -> None:
    """A stream that claims to be a terminal but has no size is drawn on all the same."""
    stream = Terminal()
    with Progress(stream, "work", 1) as progress:
        progress.advance()
    assert "100% work 1/1" in stream.getvalue()
