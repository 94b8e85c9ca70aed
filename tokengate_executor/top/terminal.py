"""The terminal as ``top`` uses it: a screen of its own, keys without Enter, and signals as events.

Guarantees
    * However the ``with`` block ends, the terminal is as it was before: screen, cursor, line mode, and
      so are the signal handlers. While the program is stopped with Ctrl-Z, too.
    * Signals interrupt nothing within it: they are noted, and told by ``wait``.
    * A frame is written as a whole, and only if it differs from the one before.
    * A terminal that goes away is no error: ``wait`` tells of it.

Assumes
    * It is used on the main thread, but for ``wake``, which may be called from any thread.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import termios
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self

from tokengate_executor.terminal_lines import Line, painted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["LiveTerminal"]

_TAKE_OVER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""Another screen, no cursor, and no new line where one is full."""

_GIVE_BACK: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"

_CLEAR: Final = "\x1b[2J"
_BEGIN_FRAME: Final = "\x1b[?2026h"
_END_FRAME: Final = "\x1b[?2026l"
"""Terminals that know these show what is between them at once; others skip them."""

_USUAL_SIZE: Final = (80, 24)
_INTERRUPTED_BY: Final = 128

_SIGNALS: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
)
_ENDING: Final = {
    signal.SIGINT: 0,  # Ctrl-C is as good a way to end it as q
    signal.SIGTERM: _INTERRUPTED_BY + signal.SIGTERM,
    signal.SIGHUP: _INTERRUPTED_BY + signal.SIGHUP,
}
"""Signal → the exit status that it asks for."""


class LiveTerminal:
    """A terminal that is taken over for as long as the ``with`` block lasts.

    Args:
        output: the terminal's file descriptor.
        keys: where keys come from, a terminal's file descriptor; ``None``: from nowhere.
        encoding: of the output.
        colours: whether to paint.
    """

    def __init__(self, output: int, keys: int | None, encoding: str, *, colours: bool) -> None:
        self._output = output
        self._keys = keys
        self._encoding = encoding
        self._colours = colours
        self._signals: list[int] = []
        self._frame = ""
        self._size: tuple[int, int] | None = None
        self._is_gone = False
        self._line_mode: list[Any] | None = None
        self._undo = ExitStack()
        self._woken: socket.socket | None = None
        self._waker: socket.socket | None = None

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._woken, self._waker = (undo.enter_context(end) for end in socket.socketpair())
            self._woken.setblocking(False)
            self._waker.setblocking(False)
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._selector.register(self._woken, selectors.EVENT_READ)
            for number in _SIGNALS:
                before = signal.signal(number, self._note)
                undo.callback(signal.signal, number, before or signal.SIG_DFL)
            before_fd = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
            undo.callback(signal.set_wakeup_fd, before_fd)
            if self._keys is not None:
                self._line_mode = termios.tcgetattr(self._keys)
                self._selector.register(self._keys, selectors.EVENT_READ)
            undo.callback(self._give_back)
            self._take_over()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        with suppress(OSError):  # the terminal is gone
            columns, rows = os.get_terminal_size(self._output)
            if columns and rows:
                return columns, rows
        return _USUAL_SIZE

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, one for each row, each as wide as the terminal."""
        rows = (
            f"\x1b[{number};1H{painted(line, self._encoding, colours=self._colours)}"
            for number, line in enumerate(lines, start=1)
        )
        frame = "".join(rows)
        size = self.size()
        if frame == self._frame and size == self._size:
            return
        # Where a window was made wider there may be anything.
        clear = _CLEAR if size != self._size else ""
        self._frame, self._size = frame, size
        try:
            self._write(f"{_BEGIN_FRAME}{clear}{frame}{_END_FRAME}")
        except OSError:
            self._is_gone = True

    def wake(self) -> None:
        """Let ``wait`` return; for any thread, and at any time."""
        waker = self._waker
        if waker is not None:
            # Full: it returns anyway. Closed: nobody waits any more.
            with suppress(OSError):
                waker.send(b"\0")

    def wait(self, seconds: float) -> int | None:
        """Wait so long at most, until something happens.

        Returns:
            the exit status, if somebody wants it to end; else ``None``.
        """
        is_quit = False
        for ready, _ in self._selector.select(0 if self._is_gone else seconds):
            if ready.fileobj == self._keys:
                is_quit = b"q" in self._typed().lower()
            elif self._woken is not None:
                with suppress(BlockingIOError):
                    while self._woken.recv(4096):
                        pass
        while self._signals:
            number = self._signals.pop(0)
            if number in _ENDING:
                return _ENDING[signal.Signals(number)]
            # After either, somebody else may have used the terminal.
            if number == signal.SIGTSTP:
                self._stop()
                self._take_over_again()
            elif number == signal.SIGCONT:
                self._take_over_again()
        if self._is_gone:
            return _ENDING[signal.SIGHUP]
        return 0 if is_quit else None

    def _typed(self) -> bytes:
        assert self._keys is not None
        typed = b""
        with suppress(OSError):  # the terminal is gone
            typed = os.read(self._keys, 1024)
        self._is_gone = self._is_gone or not typed
        return typed

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _stop(self) -> None:
        """Be stopped, as Ctrl-Z asks for, with the terminal as it was; returns when we may go on."""
        self._give_back()
        noting = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            signal.raise_signal(signal.SIGTSTP)
        finally:
            signal.signal(signal.SIGTSTP, noting)

    def _take_over_again(self) -> None:
        try:
            self._take_over()
        except (OSError, termios.error):
            self._is_gone = True

    def _take_over(self) -> None:
        if self._line_mode is not None:
            assert self._keys is not None
            changed = [*self._line_mode]
            changed[3] &= ~(termios.ECHO | termios.ICANON)
            changed[6] = [*changed[6]]
            changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self._keys, termios.TCSADRAIN, changed)
        self._frame, self._size = "", None
        self._write(_TAKE_OVER)

    def _give_back(self) -> None:
        # A terminal that is gone needs nothing back.
        with suppress(OSError, termios.error):
            self._write(_GIVE_BACK)
        with suppress(OSError, termios.error):
            if self._line_mode is not None and self._keys is not None:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._line_mode)

    def _write(self, text: str) -> None:
        left = text.encode(self._encoding)
        while left:
            left = left[os.write(self._output, left) :]
