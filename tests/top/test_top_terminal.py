"""The terminal of ``top``: taken over, drawn on, and given back as it was."""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tokengate_executor.terminal_lines import Line, Span
from tokengate_executor.top.terminal import LiveTerminal

TAKE_OVER = "\x1b[?1049h"
GIVE_BACK = "\x1b[?1049l"


class Screen:
    """The other side of a terminal: what was written to it, and who types."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.resize(80, 24)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window; nobody is told."""
        termios.tcsetwinsize(self.master, (rows, columns))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def written(self) -> str:
        """Return what was written since it was last asked for."""
        found = b""
        while select.select([self.master], [], [], 0)[0]:
            found += os.read(self.master, 65536)
        return found.decode()

    def mode(self) -> list[Any]:
        """Return how the terminal treats what is typed."""
        return termios.tcgetattr(self.slave)

    def live(self, *, colours: bool = False, encoding: str = "utf-8") -> LiveTerminal:
        """Return what is tested."""
        return LiveTerminal(self.slave, self.slave, encoding, colours=colours)


@pytest.fixture
def screen() -> Iterator[Screen]:
    """Return a terminal that nobody has taken over."""
    made = Screen()
    yield made
    os.close(made.master)
    os.close(made.slave)


def line(text: str) -> Line:
    """Return a line without styles."""
    return (Span(text),)


def handlers() -> list[Any]:
    """Return the handlers of all signals that are of interest here."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP", "SIGCONT", "SIGWINCH")
    return [signal.getsignal(getattr(signal, name)) for name in names]


# Taken over and given back


def test_it_is_given_back(screen: Screen) -> None:
    """Screen, cursor, line mode and signal handlers."""
    mode, before = screen.mode(), handlers()
    with screen.live():
        assert TAKE_OVER in screen.written()
        assert not screen.mode()[3] & (termios.ECHO | termios.ICANON)
        assert screen.mode()[3] & termios.ISIG, "Ctrl-C is a signal all the same"
        assert handlers() != before
    written = screen.written()
    assert written.endswith(GIVE_BACK)
    assert "\x1b[?25h" in written
    assert "\x1b[?7h" in written
    assert (screen.mode(), handlers()) == (mode, before)


def test_it_is_given_back_after_an_error(screen: Screen) -> None:
    """Whatever happens within."""
    mode, before = screen.mode(), handlers()
    with pytest.raises(ZeroDivisionError), screen.live():
        raise ZeroDivisionError
    assert screen.written().endswith(GIVE_BACK)
    assert (screen.mode(), handlers()) == (mode, before)


def test_what_cannot_be_taken_over_is_left_alone(tmp_path: Any, screen: Screen) -> None:
    """Keys that come from no terminal: the signal handlers are as before."""
    before = handlers()
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(termios.error),
        LiveTerminal(screen.slave, file.fileno(), "utf-8", colours=False),
    ):
        pytest.fail("it was taken over")
    assert handlers() == before
    assert screen.written() == ""


def test_without_keys(screen: Screen) -> None:
    """Signals still end it."""
    mode = screen.mode()
    with LiveTerminal(screen.slave, None, "utf-8", colours=False) as live:
        assert screen.mode() == mode
        screen.type(b"q\n")
        assert live.wait(0) is None
        signal.raise_signal(signal.SIGINT)
        assert live.wait(30) == 0


# Drawing


def test_a_frame_is_written_as_a_whole(screen: Screen) -> None:
    """Each line at its place, and between marks that say where it begins and ends."""
    with screen.live() as live:
        screen.written()
        live.draw([line("one"), line("two")])
        written = screen.written()
    assert written.startswith("\x1b[?2026h")
    assert written.endswith("\x1b[?2026l")
    assert "\x1b[1;1Hone\x1b[2;1Htwo" in written
    assert "\n" not in written


def test_a_frame_that_is_the_same_is_not_written(screen: Screen) -> None:
    """Nothing flickers where nothing changes; nor is anything wiped that will be written over."""
    with screen.live() as live:
        live.draw([line("one")])
        assert "\x1b[2J" in screen.written(), "who knows what was there before"
        live.draw([line("one")])
        assert screen.written() == ""
        live.draw([line("two")])
        written = screen.written()
    assert "two" in written
    assert "\x1b[2J" not in written


def test_a_window_of_another_size(screen: Screen) -> None:
    """It is told, and wiped before the next frame, though that may be the same."""
    with screen.live() as live:
        assert live.size() == (80, 24)
        live.draw([line("one")])
        screen.written()
        screen.resize(100, 30)
        signal.raise_signal(signal.SIGWINCH)
        assert live.wait(30) is None
        assert live.size() == (100, 30)
        live.draw([line("one")])
        assert "\x1b[2J" in screen.written()


def test_a_window_that_says_no_size(screen: Screen) -> None:
    """It is treated as a usual one."""
    screen.resize(0, 0)
    assert screen.live().size() == (80, 24)


def test_colours_and_encodings(screen: Screen) -> None:
    """None, if they are not wanted; and no sign that the terminal does not know."""
    for colours, encoding, text in (
        (True, "utf-8", "\x1b[1;31mé…\x1b[0m"),
        (False, "utf-8", "é…"),
        (False, "ascii", "?~"),
    ):
        with screen.live(colours=colours, encoding=encoding) as live:
            screen.written()
            live.draw([(Span("é…", "bad"),)])
            assert f"\x1b[1;1H{text}\x1b[?2026l" in screen.written()


# What happens


@pytest.mark.parametrize("keys", [b"q", b"Q", b"xyzq", b"\x1b[Aq"])
def test_q_ends_it(keys: bytes, screen: Screen) -> None:
    """Without Enter."""
    with screen.live() as live:
        screen.type(keys)
        assert live.wait(30) == 0


def test_other_keys_do_nothing(screen: Screen) -> None:
    """They are not shown, either."""
    with screen.live() as live:
        screen.written()
        screen.type(b"abc\r")
        assert live.wait(30) is None
        assert screen.written() == ""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_it(number: signal.Signals, status: int, screen: Screen) -> None:
    """Each with the exit status that is usual for it."""
    with screen.live() as live:
        signal.raise_signal(number)
        assert live.wait(30) == status
    assert screen.written().endswith(GIVE_BACK)


def test_a_signal_while_it_waits(screen: Screen) -> None:
    """It does not have to wait for its time to be over."""
    with screen.live() as live:
        thread = threading.Thread(target=signal.raise_signal, args=(signal.SIGTERM,))
        thread.start()
        statuses: list[int | None] = []
        while not any(statuses):  # the first may be but the waking
            statuses.append(live.wait(30))
        thread.join()
    assert statuses[-1] == 143


def test_wake(screen: Screen) -> None:
    """From another thread, however often; and when nobody waits any more."""
    live = screen.live()
    live.wake()
    with live:
        assert live.wait(0) is None

        def wake_often() -> None:
            for _ in range(100_000):  # more than fit into what is in between
                live.wake()

        thread = threading.Thread(target=wake_often)
        thread.start()
        assert live.wait(30) is None
        thread.join()
        assert live.wait(30) is None
    live.wake()


def test_a_terminal_that_goes_away() -> None:
    """It ends as after a hang-up; that nothing can be drawn or given back any more is no error."""
    for keys in (True, False):
        made = Screen()
        live = LiveTerminal(made.slave, made.slave if keys else None, "utf-8", colours=False)
        with live:
            os.close(made.master)
            live.draw([line("one")])
            assert live.size()
            assert live.wait(30) == 129
        os.close(made.slave)


def test_a_terminal_that_somebody_else_has_used(screen: Screen) -> None:
    """After the program was stopped from outside it is taken over again, and drawn anew."""
    with screen.live() as live:
        live.draw([line("one")])
        screen.written()
        signal.raise_signal(signal.SIGCONT)
        assert live.wait(30) is None
        assert TAKE_OVER in screen.written()
        live.draw([line("one")])
        assert "one" in screen.written()


def test_ctrl_z(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is stopped the terminal is as it was; then it is taken over again."""
    mode = screen.mode()
    raise_signal: Callable[[int], None] = signal.raise_signal
    stops: list[tuple[bool, list[Any], Any]] = []

    def stop(number: int) -> None:
        # The test itself must not be stopped.
        assert number == signal.SIGTSTP
        given_back = screen.written().endswith(GIVE_BACK)
        stops.append((given_back, screen.mode(), signal.getsignal(signal.SIGTSTP)))

    with screen.live() as live:
        raise_signal(signal.SIGTSTP)
        monkeypatch.setattr(signal, "raise_signal", stop)
        assert live.wait(30) is None
        assert TAKE_OVER in screen.written()
        assert screen.mode() != mode
    assert stops == [(True, mode, signal.SIG_DFL)]
